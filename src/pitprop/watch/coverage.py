"""What was expected and what was seen: a tap that recorded nothing is said, never silent."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pitprop.rules import too_few

SKIPPED = 16
"""Steps that torch's GradScaler may skip in succession while it looks for a scale: it begins at 2^16 and halves."""


class Covered(Protocol):
    """What an edge tells of itself after a run."""

    def coverage(self) -> dict[str, Any]: ...


def notes_on(edge: Covered, *, num_steps: int, num_sampled: int, num_unfinished: int) -> list[str]:
    """Sentences on everything that a user would expect in the trace and won't find there.

    Args:
        edge: The edge of the run.
        num_steps: Optimizer steps that were seen.
        num_sampled: Those that were measured.
        num_unfinished: Backward passes, or calls of `log`, since the last step ended.
    """
    seen = edge.coverage()
    notes = []
    skipped = num_unfinished > SKIPPED if num_steps else num_unfinished > 1
    if skipped:
        notes.append(
            f"{num_unfinished} backward passes without an optimizer step{' at the end' if num_steps else ''}: is the "
            "GradScaler skipping all of them?"
        )
    elif not num_steps:
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
    if num_steps and not seen["num_gradients"] and not seen["num_sharded_parameters"]:
        notes.append(
            "No gradient was seen on a measured step: none of the parameters that the optimizer holds got one from a "
            "backward pass or had a `.grad` when it stepped."
        )
    if num_steps and (thin := too_few(num_sampled, num_steps)):
        notes.append(thin)
    if seen["unhookable"]:
        notes.append(
            f"{len(seen['unhookable'])} modules take no hooks (TorchScript), so nothing is seen inside them: "
            f"{', '.join(seen['unhookable'][:5])}{' ...' if len(seen['unhookable']) > 5 else ''}."
        )
    if seen["num_sharded_parameters"]:
        notes.append(
            f"{seen['num_sharded_parameters']} sharded or meta parameters have no gradient norm and update ratio."
        )
    return notes


def remarks_on(edge: Covered) -> list[str]:
    """What is worth a line in the trace, but none on the console of every run."""
    seen = edge.coverage()
    attention, state = seen["attention"], seen["optimizer_state"]
    remarks = []
    if not (attention["expected"] or attention["seen"]):
        remarks.append("The model has no attention that pitprop could see; everything else is recorded.")
    for kind in ("second moment", "momentum"):
        missing = state.get("parameters", 0) - state.get(kind, 0)
        if missing:
            remarks.append(
                f"{missing} of {state['parameters']} parameters have no {kind} that could be read in their optimizer: "
                "what is judged by it is not."
            )
    return remarks


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
