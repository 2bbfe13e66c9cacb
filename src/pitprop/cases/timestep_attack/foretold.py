"""What the README says of what was foretold: the vertex, what decides on it, and the alarms."""

import numpy as np

from pitprop.cases._claims import Results
from pitprop.cases.timestep_attack.judges import COLLAPSED, ends, learned, losses, mean, show

ARMS = {
    "as measured": "the losses of 100 images, over and over",
    "mean image": "their mean image, over and over: no noise",
    "mean image, eps 1e-20": "the mean image, Adam's epsilon 1e-20 in place of 1e-8",
    "mean iteration": "the mean of everything in each iteration: no noise, no growth within an image",
    "mean image, Adam kept": "the mean image, Adam not made anew for every image",
}
"""How each of `replays.what_decides` is put."""


def vertex(results: Results) -> list[str]:
    """The vertex and its time: predicted, measured, and what decides."""
    predicted, lead, final = results["predicted"], results["lead"], ends(results)
    values, last = losses(results), len(learned(results)[0]["weights"]) - 1
    if long := results.get("long_run"):
        lead, final, last = long["lead"], np.array(long["weights"])[:, -1], long["marks"][-1]
    moved, alarm = (_whole(lead[name]) for name in ("moved", "alarm"))
    said = (
        f"Loss shares of the five timesteps under the fixed schedule: {show(values / values.sum())}. Predicted from "
        f"them beforehand: all weight to timestep {predicted['smallest']}, where plain descent ends, at the smallest "
        f"mean loss (T1), half of it moved at iteration {predicted['collapse']:.0f}. Measured over "
        f"{lead['num_streams']} networks: "
        f"{lead['num_moved']} had moved half of their weight by image {last}, at iteration {moved}; the rule "
        f"`loss-weight-collapse` spoke in {lead['num_alarms']} of them, at iteration {alarm}. Largest at the end: "
        f"{_networks(np.bincount(final.argmax(1), minlength=len(values)))}."
    )
    return [said, "", *_decides(results, int((final.argmax(1) != predicted["smallest"]).sum()), lead), ""]


def _decides(results: Results, missed: int, lead: dict) -> list[str]:
    """Why the smallest mean loss didn't get the weight, where it didn't."""
    predicted, arms = results["predicted"], results["replays"]["decides"]
    if not missed or lead["moved"]["mean"] is None:
        return []
    rows = np.array(results["streams"]["fixed"]["losses_by_iteration"])[1:]  # the first has no losses yet
    lowest, smallest = rows.argmin(1), predicted["smallest"]
    often = int(np.bincount(lowest).argmax())
    share = 100 * rows[lowest == smallest].sum() / rows.sum()
    ratio = lead["moved"]["mean"] / predicted["collapse"]
    table = ["| replayed | networks that end on | half of the weight moved, at image |", "|---|---|---|"]
    table += [f"| {ARMS[name]} | {_networks(arm['ends'])} | {_images(arm)} |" for name, arm in arms.items()]
    return [
        f"The timestep was wrong in {missed} of {lead['num_streams']} networks, and half of the weight had moved "
        f"{ratio:.1f} times as late. Replays of the fixed schedule's losses tell why, "
        f"{sum(arms['mean image']['ends'])} networks each:",
        "",
        *table,
        "",
        f"Within an image the losses grow. Timestep {smallest} has the smallest in {(lowest == smallest).sum()} of "
        f"{len(rows)} iterations, which hold {share:.0f} % of all loss, timestep {often} in {(lowest == often).sum()}. "
        f"{_reason(arms, often, smallest)}Stepping Adam on the mean image's losses, without a network, ends on "
        f"timestep {predicted['index']} too (`predict_vertex`: 90 % at iteration {predicted['arrival']:.0f}); that was "
        "made out afterwards, so it is no prediction.",
    ]


def _reason(arms: dict, often: int, smallest: int) -> str:
    """What the replays show, where they show it."""
    at = {name: int(np.argmax(arm["ends"])) for name, arm in arms.items() if max(arm["ends"]) == sum(arm["ends"])}
    alike = {"as measured": often, "mean image": often, "mean image, eps 1e-20": often}
    if at != alike | {"mean iteration": smallest, "mean image, Adam kept": smallest}:
        return ""
    return (
        "Adam divides the size of the gradients away and is made anew for every image, so iterations count about "
        "alike, and the smallest in most of them wins. The differences from image to image decide on the time, not on "
        "the timestep, and epsilon on neither. "
    )


def alarms(results: Results) -> list[str]:
    """What the rule said of each mode, and what came of it."""
    told = {name: s["detection"] | {"largest": max(s["weights"][-1])} for name, s in results["streams"].items()}
    others = {name: found for name, found in told.items() if not name.startswith("learnable")}
    false = {k: v for k, v in others.items() if v["severity"] in ("warning", "failure") and v["largest"] < COLLAPSED}
    silent = [f"`{name}`" for name, found in others.items() if found["severity"] is None]
    images = len(learned(results)[0]["weights"]) - 1
    said = [
        f"Alarms. {_of_learnable(results)} False alarms: {len(false)} of the {len(_trained(others))} other modes that "
        "train weights, whose criterion has its optimum in the interior, one network each: "
        + "; ".join(
            f"`{name}` at iteration {found['alarm']:.0f} ({_forecast(found)}; largest weight {found['largest']:.2f} "
            f"after {images} images)"
            for name, found in false.items()
        )
        + f". Silent: {', '.join(silent) or 'none'}. Weights that nothing trains get a note, as they should."
    ]
    return [*said, ""]


def _of_learnable(results: Results) -> str:
    told = [stream["detection"] for stream in learned(results)]
    final, lead = ends(results), results["lead"]
    reached = ""
    if long := results.get("long_run"):
        weights = np.array(long["weights"])
        final, lead = weights[:, -1], long["lead"]
        there = (weights.max(-1) > COLLAPSED).all(0)
        if there.any():
            mark = long["marks"][int(there.argmax())]
            reached = f"; all had it by image {mark}, iteration {mark * _each(results)}"
    named = np.array([found["vertex_said"] for found in told if found["vertex_said"] is not None], dtype=int)
    right = sum(found["vertex_said"] == end for found, end in zip(told, final.argmax(1), strict=True))
    forecasts = [f"{found['forecast']:.0f}" for found in told if found["forecast"] is not None]
    return (
        f"`learnable`: {lead['num_alarms']} of {lead['num_streams']} networks, {_whole(lead['lead'])} iterations "
        f"before half of the weight had moved. They named {_networks(np.bincount(named, minlength=5))}: right in "
        f"{right} of {len(told)} by where the weights ended, in {lead['num_vertex_right']} by the smallest mean loss "
        f"(T1). A step for 90 % was forecast in {len(forecasts)} ({', '.join(forecasts)}){reached}."
    )


def _trained(told: dict[str, dict]) -> list[str]:
    """Modes whose weights move."""
    return [name for name, found in told.items() if found["severity"] != "note"]


def _forecast(found: dict) -> str:
    if found["forecast"] is None:
        return "no step forecast"
    return f"forecast: 90 % on timestep {found['vertex_said']:.0f} at {found['forecast']:.0f}"


def _each(results: Results) -> int:
    return results["provenance"]["settings"]["attack"]["iterations"]


def _networks(counts) -> str:
    return ", ".join(f"timestep {index} in {count}" for index, count in enumerate(counts) if count)


def _images(arm: dict) -> str:
    moved = np.array(arm["moved"], dtype=float)
    return f"{mean(moved)}" if np.isfinite(moved).all() else f"never in {np.isnan(moved).sum()}"


def _whole(effect: dict) -> str:
    return "-" if effect["mean"] is None else f"{effect['mean']:.0f} [{effect['low']:.0f}, {effect['high']:.0f}]"
