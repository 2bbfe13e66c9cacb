"""For every rule: a fault as people make it, the model it is put into, the step, and how one knows that it took.

The truth of a fault run is measured on the finished task and its losses, never by the rule or its indicator where there
is another way: mostly by the held-out score. A run in which it did not take counts neither as found nor as missed.
"""

import math
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from score_cards.models.transformers import HEADS, Attention
from score_cards.task import Task, digits
from score_cards.variants import Truth, Variant

Change = Callable[[Task], None]


# -- what is true of the finished run ------------------------------------------------------------------------------


def score_under(level: float) -> Truth:
    """The held-out score ended under `level` (or is not a number)."""

    def truth(task: Task, losses: list[float]) -> tuple[float, bool]:
        score = task.score()
        return score, not score >= level

    return truth


def over(level: float, measure: Callable[[Task], float]) -> Truth:
    """`measure` of the finished task is over `level`."""

    def truth(task: Task, losses: list[float]) -> tuple[float, bool]:
        value = measure(task)
        return value, value > level

    return truth


def rose(step: int, factor: float, rows: slice) -> Truth:
    """The median loss of the steps in `rows` after `step` over that of the 20 before it (of the first at step 0)."""

    def truth(task: Task, losses: list[float]) -> tuple[float, bool]:
        before = statistics.median(losses[max(0, step - 20) : step] or losses[:1])
        growth = statistics.median(losses[step:][rows]) / before
        return growth, not growth <= factor

    return truth


# -- data ----------------------------------------------------------------------------------------------------------


def shuffle_labels(task: Task) -> None:
    """The loader pairs wrongly."""
    task.draw_as(lambda x, y: (x, y[torch.randperm(len(y))]))


def same_image(task: Task) -> None:
    """The loader gives one image for the whole batch; its labels are of others."""
    task.draw_as(lambda x, y: (x[:1].expand_as(x), y))


def shuffle_lower_half(task: Task) -> None:
    """The second view belongs to another sample."""
    task.draw_as(lambda x, y: (torch.cat([x[:, :32], x[torch.randperm(len(x)), 32:]], -1), y))


def scale_inputs(factor: float) -> Change:
    """Images are no longer normalised."""

    def change(task: Task) -> None:
        task.draw_as(lambda x, *rest: (factor * x, *rest))

    return change


def offset_inputs(task: Task) -> None:
    task.draw_as(lambda x, y: (x + 1e4, y))


def damaged_sample(task: Task) -> None:
    """One sample of each batch holds a NaN."""

    def damage(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone()
        x[0, 0] = math.nan
        return x, y

    task.draw_as(damage)


# -- optimizer -----------------------------------------------------------------------------------------------------


def learning_rate(factor: float) -> Change:
    return lambda task: task.learning_rate(factor)


def constant_learning_rate(rate: float) -> Change:
    """No warm-up, and too large."""

    def change(task: Task) -> None:
        task.after = lambda: None
        for group in task.optimizer.param_groups:
            group["lr"] = rate

    return change


def scale_loss(factor: float) -> Change:
    return lambda task: task.lose_as(lambda loss: factor * loss)


def half_weights(task: Task) -> None:
    """Weights in bfloat16 without a float32 copy, at a learning rate that is fine in float32."""
    task.model.bfloat16()
    task.learning_rate(0.03)
    task.draw_as(lambda x, y: (x.bfloat16(), y))


# -- weights and architecture --------------------------------------------------------------------------------------


def layers(task: Task, kind: type) -> list[Any]:
    return [module for module in task.model.modules() if isinstance(module, kind)]


@torch.no_grad()
def dead_biases(task: Task) -> None:
    """A step that was too large has driven the biases of nine in ten ReLUs down."""
    for layer in layers(task, nn.Linear)[:-1]:
        layer.bias[torch.arange(len(layer.bias)) % 10 > 0] -= 10.0


def scale_weights(factor: float, which: slice) -> Change:
    def change(task: Task) -> None:
        with torch.no_grad():
            for layer in layers(task, nn.Linear)[which]:
                layer.weight.mul_(factor)

    return change


def set_in(attribute: str, value: float | bool, kind: str) -> Change:
    """`attribute` of every module whose class is called `kind`."""

    def change(task: Task) -> None:
        for module in task.model.modules():
            if type(module).__name__ == kind:
                setattr(module, attribute, value)

    return change


def set_part(**values: object) -> Change:
    return lambda task: task.parts.update(values)


@torch.no_grad()
def zero_adapters(task: Task) -> None:
    """A = B = 0."""
    for layer in layers(task, nn.Linear):
        layer.lora_A.zero_()


@torch.no_grad()
def one_expert(task: Task) -> None:
    """The balance loss is off, and the router prefers one expert by far."""
    task.parts["balance"] = 0.0
    task.model.router.bias[0] += 30.0


def random_matching(task: Task) -> None:
    """The matcher's cost is transposed: queries and digits are paired at random."""
    task.parts["match"] = lambda cost: torch.stack([torch.randperm(c.shape[0])[: c.shape[1]] for c in cost])


@torch.no_grad()
def loud_stage(task: Task) -> None:
    """A second stage begins with weights that nobody has trained."""
    task.model.late.weight.mul_(10.0)
    task.model.stage = True


# -- measures of the finished task ---------------------------------------------------------------------------------


def weight_size(task: Task) -> float:
    with torch.no_grad():
        return max(float(p.square().mean().sqrt()) for p in task.model.parameters() if p.ndim > 1)


def adapter_size(task: Task) -> float:
    """Largest gain of an adapter over its layer's, by singular values."""
    with torch.no_grad():
        return max(
            float(torch.linalg.matrix_norm(m.lora_B @ m.lora_A, 2) / torch.linalg.matrix_norm(m.weight, 2))
            for m in layers(task, nn.Linear)
        )


def fullest_expert(task: Task) -> float:
    """Share of a batch's samples at the expert that has most."""
    task.loss(*task.batch())
    return task.model.chosen.mean(0).max().item()


def likeness(task: Task) -> float:
    """Mean cosine of two held-out embeddings."""
    with torch.no_grad():
        z = task.parts["embed"]()
    return ((z.sum(0).square().sum() - len(z)) / (len(z) * (len(z) - 1))).item()


def first_direction(task: Task) -> float:
    """Share of the variance of held-out embeddings along their first principal direction."""
    with torch.no_grad():
        z = task.parts["embed"]()
        power = torch.linalg.svdvals(z - z.mean(0)).square()
    return (power[0] / power.sum()).item()


def unused_codes(task: Task) -> float:
    """Share of codes that no held-out patch has."""
    with torch.no_grad():
        return 1 - len(task.model(task.parts["test"])[3].unique()) / 32


def indifference(task: Task) -> float:
    """Held-out loss with the right classes over that with the neighbours'; 1 is no effect."""
    labels = digits()[3]
    with torch.no_grad():
        return task.parts["held_out"](labels) / task.parts["held_out"](labels.roll(1, 0))


def gradients(task: Task) -> list[Tensor]:
    task.optimizer.zero_grad()
    task.loss(*task.batch())[0].backward()
    return [p.grad.flatten() for p in task.model.parameters() if p.grad is not None]


def gradient_size(task: Task) -> float:
    return torch.cat(gradients(task)).norm().item()


def lower_gradient(task: Task) -> float:
    """Gradient of the lower branch over all, as -log10."""
    whole = gradient_size(task)
    lower = max(p.grad.norm().item() for p in task.model.lower.parameters())
    return -math.log10(max(lower / whole, 1e-30))


def certain(task: Task) -> float:
    """Share of samples whose largest probability is 1."""
    x, *_ = task.batch()
    with torch.no_grad():
        return (task.model(x).softmax(-1).amax(-1) == 1).float().mean().item()


def largest_logit(task: Task) -> float:
    """Largest attention logit of a batch; QK-clip (Kimi K2) holds it under 100."""
    found: list[float] = []

    def see(layer: Any, inputs: tuple[Tensor, ...], _out: Tensor) -> None:
        x, other = inputs[0], inputs[-1]
        q, k = (f(s).unflatten(-1, (HEADS, -1)).transpose(1, 2) for f, s in ((layer.query, x), (layer.keys, other)))
        logits = q @ k.mT / q.shape[-1] ** 0.5
        if layer.causal:
            logits = logits.tril()
        found.append(logits.max().item())

    hooks = [layer.register_forward_hook(see) for layer in layers(task, Attention)]
    with torch.no_grad():
        task.loss(*task.batch())
    for hook in hooks:
        hook.remove()
    return max(found)


def vertex(task: Task) -> float:
    return task.parts["logits"].softmax(0).max().item()


def activation(task: Task, kind: type, measure: Callable[[Tensor], Tensor]) -> float:
    """Largest `measure` of what modules of `kind` hand on, for one batch."""
    found: list[float] = []
    hooks = [m.register_forward_hook(lambda m, i, o: found.append(float(measure(o)))) for m in layers(task, kind)]
    with torch.no_grad():
        task.loss(*task.batch())
    for hook in hooks:
        hook.remove()
    return max(found)


def dead_units(task: Task) -> float:
    return activation(task, nn.ReLU, lambda out: (out.amax(0) == 0).float().mean())


def saturated(task: Task) -> float:
    return activation(task, nn.Tanh, lambda out: (out.abs() > 0.995).float().mean())


def by_construction(task: Task, losses: list[float]) -> tuple[float, bool]:
    """The fault is the mode itself (a flag of the architecture); it can't fail to take."""
    return math.nan, True


def average_behind(task: Task) -> float:
    """Distance of the average from the weights, over theirs."""
    average = torch.cat([p.flatten() for p in task.parts["average"].parameters()])
    weights = torch.cat([p.detach().flatten() for p in task.model.parameters()])
    return ((weights - average).norm() / weights.norm()).item()


def fault(rule: str, model: str, step: int, change: Change, truth: Truth, **knobs: int) -> Variant:
    return Variant(kind="fault", name=rule, rule=rule, model=model, step=step, change=change, truth=truth, knobs=knobs)


FAULTS = (
    fault("non-finite", "gru", 150, damaged_sample, score_under(0.3)),
    fault("output-duplication", "mlp", 150, same_image, score_under(0.3)),
    fault("loss-plateau-at-floor", "mlp", 10, shuffle_labels, score_under(0.05)),
    fault("class-collapse", "detr", 10, random_matching, score_under(0.05)),
    fault("embedding-collapse", "contrastive", 150, set_part(repulsion=0.0), over(0.99, likeness), steps=600),
    fault("teacher-collapse", "distilled", 150, set_part(temperature=1.0), by_construction),
    fault("posterior-collapse", "vae", 150, set_part(kl_weight=1000.0), score_under(0.1)),
    fault("condition-ignored", "dit", 100, shuffle_labels, over(0.99, indifference)),
    fault("loss-weight-collapse", "weighted", 150, set_part(follow=False), over(0.5, vertex)),
    fault("loss-spike", "gpt", 150, constant_learning_rate(0.5), score_under(0.1)),
    fault("adapter-asleep", "lora", 0, zero_adapters, score_under(0.3)),
    fault("learning-rate-too-high", "vit", 0, learning_rate(300.0), score_under(0.1)),
    fault("warm-up-missing", "gpt", 0, constant_learning_rate(1.0), rose(0, 1.0, slice(5, 15))),
    fault("stage-switch-shock", "cnn", 150, loud_stage, rose(150, 1.0, slice(0, 10))),
    fault("ema-drift", "dit", 100, set_part(follow=False), over(0.1, average_behind)),
    fault("token-uniformity", "vit", 150, offset_inputs, score_under(0.3)),
    fault("saturated-units", "vae", 0, scale_inputs(255.0), over(0.5, saturated)),
    fault("dormant-units", "mlp", 150, dead_biases, over(0.5, dead_units)),
    fault("dead-gradient", "fusion", 150, set_in("gate", 0.0, "Fused"), over(20, lower_gradient)),
    fault("gradient-vanishing-at-site", "fusion", 150, set_in("gate", 1e-6, "Fused"), over(3, lower_gradient)),
    fault("gradient-explosion", "mlp", 150, scale_inputs(1e4), over(1000, gradient_size)),
    fault("branch-domination", "vit", 150, set_in("loud", 300.0, "Block"), by_construction),
    fault("dimensional-collapse", "contrastive", 150, set_part(dimensions=2), over(0.5, first_direction)),
    fault("codebook-collapse", "vq", 150, set_in("offset", 3.0, "Quantised"), over(0.9, unused_codes)),
    fault("router-collapse", "experts", 150, one_expert, over(0.9, fullest_expert)),
    fault("branch-laziness", "fusion", 150, shuffle_lower_half, by_construction),
    fault("plasticity-loss", "mlp", 150, dead_biases, over(0.5, dead_units)),
    fault("softmax-saturation", "mlp", 150, scale_weights(1e3, slice(-1, None)), over(0.5, certain)),
    fault("gradient-conflict", "weighted", 150, set_part(sign=-1.0), by_construction),
    fault("residual-growth", "gpt", 150, set_in("scale", 20.0, "Block"), by_construction),
    fault("adapter-runaway", "lora", 150, learning_rate(30.0), over(1.0, adapter_size)),
    fault("weight-decay-collapse", "fusion", 150, set_in("gate", 0.0, "Fused"), over(20, lower_gradient)),
    fault("update-underflow", "mlp", 0, half_weights, by_construction),
    fault("epsilon-starvation", "mlp", 0, scale_loss(1e-9), score_under(0.5)),
    fault("stale-second-moment", "mlp", 200, scale_loss(100.0), by_construction),
    fault("weight-growth", "cnn", 100, learning_rate(100.0), over(1.0, weight_size)),
    fault("attention-uniformity", "vit", 150, set_in("gain", 1e-3, "Attention"), by_construction),
    fault("attention-concentration", "vit", 150, set_in("gain", 30.0, "Attention"), by_construction),
    fault("attention-logit-growth", "vit", 150, learning_rate(100.0), over(100, largest_logit)),
    fault("attention-sink", "gpt", 150, set_in("sink", 10.0, "Attention"), by_construction),
    fault("attention-head-redundancy", "vit", 150, set_in("tied", True, "Attention"), by_construction),
)
"""One per rule, in the registry's order."""
