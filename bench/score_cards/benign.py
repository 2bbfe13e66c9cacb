"""Frightening but fine: what good runs do that careless thresholds alarm on.

adaLN-Zero (`dit`), LoRA with B = 0 (`lora`) and warm-up (`gpt`) are models of their own in the healthy table.
"""

from score_cards.task import Task
from score_cards.variants import Variant


def sink(task: Task) -> None:
    """One head gives the first key three nats more: it looks away where it has nothing to say."""
    for block in task.model.blocks:
        block.attention.sink = 3.0


def larger_steps(task: Task) -> None:
    task.learning_rate(30.0)


def smaller_steps(task: Task) -> None:
    task.learning_rate(1 / 30.0)


def tenth(task: Task) -> None:
    task.learning_rate(0.1)


def benign(name: str, model: str, **fields: object) -> Variant:
    return Variant(kind="benign", name=name, model=model, **fields)  # pyright: ignore[reportArgumentType]


BENIGN = (
    benign("long-warm-up", "gpt", knobs={"warm_up": 200}),
    benign("sink-head", "gpt", change=sink, true_of=("attention-sink", "attention-concentration")),
    benign("transient-background", "mlp", knobs={"learning_rate": 3e-4, "background": 7}),
    benign("spike-that-recovers", "mlp", step=150, change=larger_steps, until=155, undo=smaller_steps),
    benign("learning-rate-drop", "cnn", step=150, change=tenth),
    benign("converged", "mlp", knobs={"steps": 900, "learning_rate": 3e-3}),
    benign("converged-vit", "vit", knobs={"steps": 600}),
)
"""Each is run on every seed."""
