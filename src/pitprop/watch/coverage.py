"""What was expected and what was seen: a tap that recorded nothing is said, never silent."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Covered(Protocol):
    """What an edge tells of itself after a run."""

    def coverage(self) -> dict[str, Any]: ...


def notes_on(edge: Covered, *, num_steps: int, num_values: int) -> list[str]:
    """Sentences on everything that a user would expect in the trace and won't find there.

    Args:
        edge: The edge of the run.
        num_steps: Optimizer steps that were seen.
        num_values: Numbers that went into the trace.
    """
    seen = edge.coverage()
    notes = []
    if not num_steps:
        notes.append(
            "No optimizer step was seen: perhaps the loop ended before the first, or steps another optimizer than the "
            "one that was passed to `watch`."
        )
    if num_steps and not seen["num_forwards"]:
        notes.append(
            "No forward pass of the model was seen on a measured step, so there is nothing about attention, streams, "
            "saturation and branches. " + _why_no_forward(seen["compiled"])
        )
    elif num_steps:
        notes += _on_attention(seen["attention"], seen["compiled"])
    if seen["num_sharded_parameters"]:
        notes.append(
            f"{seen['num_sharded_parameters']} sharded or meta parameters have no gradient norm and update ratio."
        )
    if num_steps and num_values and not seen["attention"]["expected"] and not seen["attention"]["seen"]:
        notes.append("The model has no attention that pitprop could see; everything else is recorded.")
    return notes


def _why_no_forward(compiled: Sequence[str]) -> str:
    if compiled:
        return "`module.compile()` leaves no place to look from: use `model = torch.compile(model)` and pass that."
    return (
        "Perhaps a compiled copy, a wrapper or another model is called: pass the very module that the loop calls "
        "(what `torch.compile` returned). A forward without gradients counts as an evaluation."
    )


def _on_attention(attention: Mapping[str, Any], compiled: Sequence[str]) -> list[str]:
    notes = []
    if attention["unseen"]:
        inside = (
            " In compiled code modules can't be told apart: fused attention has the compiled one's name."
            if compiled
            else ""
        )
        notes.append(
            f"Attention seen in {len(attention['expected']) - len(attention['unseen'])} of "
            f"{len(attention['expected'])} modules; not in {', '.join(attention['unseen'][:5])}"
            f"{' ...' if len(attention['unseen']) > 5 else ''}.{inside} `watch.tap_attention(name, q, k)` records it."
        )
    notes += [f"Seen but not measured: {count} x {why}." for why, count in attention["unmeasured"].items()]
    return notes
