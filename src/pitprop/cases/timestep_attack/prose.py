"""What the README says of the numbers: the seed's table from these runs, and all modes side by side."""

import numpy as np

from pitprop.cases._claims import Results
from pitprop.cases.timestep_attack.foretold import alarms, vertex
from pitprop.cases.timestep_attack.judges import differs, effect_of, learned, motion, show

CONFIDENCE = 0.95


def prose(results: Results) -> str:
    """Text and tables whose every number comes from the results."""
    streams, long = results["streams"], results.get("long_run")
    network = learned(results)[0]["weights"]
    last = len(network) - 1
    marks = sorted({min(10, last), last})
    lines = ["| | weights | shift (total variation) |", "|---|---|---|"]
    lines += [f"| initial | {show(network[0])} | 0 |"]
    lines += [f"| after {m} images | {show(network[m])} | {motion(network[m], network[0]):.3f} |" for m in marks]
    if long:
        later = [row for row in zip(long["marks"], long["weights"][0], strict=True) if row[0] > last]
        lines += [f"| after {mark} images | {show(w)} | {motion(w, network[0]):.3f} |" for mark, w in later]
    replayed = results["replays"]["path"][-1]
    lines += [
        f"| 1000 images, the first 100's losses replayed | {show(replayed)} | {motion(replayed, network[0]):.3f} |",
        "",
    ]
    lines += [
        *vertex(results),
        *alarms(results),
        *_late(long),
        _intervals(len(streams["fixed"]["success"])),
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
    return "\n".join(["", *lines, "", _all_or_nothing(streams["fixed"]), ""])


def _all_or_nothing(stream: dict) -> str:
    """Whether the attack is what the word means on images as small as these."""
    fooled, far = np.array(stream["success"], dtype=float) == 1, np.array(stream["l2"], dtype=float)
    reached, left = (np.quantile(far[which], [0.1, 0.5, 0.9]) for which in (fooled, ~fooled))
    return (
        f"**The attack is all or nothing here.** The {fooled.sum()} images of `fixed` that fool the surrogate moved "
        f"by {reached[1]:.2f} in the median (10 to 90 %: {reached[0]:.2f} to {reached[2]:.2f}), the {(~fooled).sum()} "
        f"others by {left[1]:.2f} ({left[0]:.2f} to {left[2]:.2f}): either another digit is drawn, or nearly nothing "
        "changes (`adversarial_grid.png`). The original's change is meant to be hard to see; on 8x8 pixels, which are "
        "the latent, that is not reproduced, and which images are fooled is up to the image more than to the weights."
    )


def _late(long: Results | None) -> list[str]:
    """What the collapsed weights do to the attack."""
    if not long:
        return []
    said = "; ".join(
        f"{c['metric']} {c['base']:.2f}, {c['effect']:+.2g} [{_bound(c['low'])}, {_bound(c['high'])}] ({c['verdict']})"
        for c in long["late"]
    )
    pairs, networks = long["late"][0]["pairs"], len(long["weights"])
    return [
        f"The last {pairs} of {long['marks'][-1]} images, mean of {networks} networks against the fixed schedule, "
        f"paired by image: {said}. {_seen(long, pairs)}",
        "",
    ]


def _intervals(pairs: int) -> str:
    """How those of the table are made."""
    most = 100 * (1 - (1 - CONFIDENCE) ** (1 / pairs))
    return (
        "In the table, success against `fixed` is the mean difference over the paired images with its 95 % interval: "
        "Student's t, each side stretched for skewness (`docs/design/002-interval.md`), no allowance made for the "
        f"number of modes. Where no image of {pairs} differs there is no spread to make one from; at most "
        f"{most:.1f} % of images differ then, at 95 % (Clopper and Pearson, one-sided)."
    )


def _seen(long: Results, pairs: int) -> str:
    """Whether these images are new to what is attacked. Test images come first in the stream."""
    new = max(0, long["test_images"] - (long["marks"][-1] - pairs))
    which = f"{pairs - new} of them" if new else "All of them"
    return (
        f"{which} are training images of the surrogate and of the denoiser, for the stream has {long['test_images']} "
        "test images: it says nothing of images that neither has seen."
    )


def _against(results: Results, name: str) -> str:
    if name == "fixed":
        return "| "
    found = effect_of(results, name, "success")
    if not differs(found):
        return f"no image differs (of {found['pairs']}) | {found['verdict']}"
    return f"{found['effect']:+.2f} [{_signed(found['low'])}, {_signed(found['high'])}] | {found['verdict']}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _bound(value: float | None) -> str:
    return "?" if value is None else f"{value:+.2g}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
