"""What the README says of the numbers: the seed's table from these runs, and all modes side by side."""

import numpy as np

from pitprop.cases._claims import Results
from pitprop.cases.timestep_attack.judges import effect_of, learned, losses, motion, show


def prose(results: Results) -> str:
    """Text and tables whose every number comes from the results."""
    lead, predicted, streams = results["lead"], results["predicted"], results["streams"]
    network, values = learned(results)[0]["weights"], losses(results)
    last = len(network) - 1
    marks = sorted({min(10, last), last})
    lines = ["| | weights | shift (total variation) |", "|---|---|---|"]
    lines += [f"| initial | {show(network[0])} | 0 |"]
    lines += [f"| after {m} images | {show(network[m])} | {motion(network[m], network[0]):.3f} |" for m in marks]
    long = results["replays"]["path"][-1]
    lines += [f"| 1000 images, losses replayed | {show(long)} | {motion(long, network[0]):.3f} |", ""]
    lines += [
        f"Loss shares of the five timesteps under the fixed schedule: {show(values / values.sum())}. Predicted "
        "from them "
        f"beforehand: all weight to timestep {predicted['index']}, half of it moved at iteration "
        f"{_number(predicted['collapse'])}. Measured over {lead['num_streams']} networks: {lead['num_moved']} "
        "had moved "
        f"half of their weight by image {last}, at iteration {_of(lead['moved'])}; the rule `loss-weight-collapse` "
        f"spoke in {lead['num_alarms']} of them, at iteration {_of(lead['alarm'])}.",
        "",
        "| mode | weights at the end | success | transfer | L2 | Fréchet | success against `fixed` | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, stream in streams.items():
        if "[" in name:
            continue
        numbers = [np.nanmean(np.array(stream[metric], dtype=float)) for metric in ("success", "transfer", "l2")]
        lines.append(
            f"| `{name}` | {show(stream['weights'][-1])} | {numbers[0]:.2f} | {numbers[1]:.2f} | {numbers[2]:.2f} | "
            f"{_number(stream['frechet'])} | {_against(results, name)} |"
        )
    return "\n".join(["", *lines, ""])


def _against(results: Results, name: str) -> str:
    if name == "fixed":
        return "| "
    found = effect_of(results, name, "success")
    return f"{found['effect']:+.2f} [{_signed(found['low'])}, {_signed(found['high'])}] | {found['verdict']}"


def _of(effect: dict) -> str:
    return f"{_number(effect['mean'])} [{_number(effect['low'])}, {_number(effect['high'])}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
