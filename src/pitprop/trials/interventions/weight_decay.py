"""WeightDecay: more, less or no weight decay, for the whole model or under a path."""

from dataclasses import dataclass
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.interventions._targets import Applied, acting_at_steps, groups_of, optimizers_of, parameters_at


@dataclass(frozen=True)
class WeightDecay:
    """The weight decay of parameters at or under `path`, times `factor` or set to `value` (exactly one of the two).

    It holds for the length of each optimizer step, in the optimizer's own form (decoupled in AdamW, added to the
    gradient in SGD and Adam); a group that is matched in part is split for that long. Schedulers see their own groups.
    """

    factor: float | None = None
    value: float | None = None
    path: str = "*"

    def __post_init__(self):
        if (self.factor is None) == (self.value is None):
            raise PitpropError(
                f"WeightDecay has factor {self.factor} and value {self.value}.", do="give exactly one of the two."
            )

    def describe(self) -> str:
        where = "" if self.path == "*" else f" of {self.path}"
        change = f"set to {self.value:g}" if self.factor is None else f"multiplied by {self.factor:g}"
        return f"weight decay{where} {change}"

    def blames(self) -> str:
        return "the weight decay" if self.path == "*" else f"the weight decay of `{self.path}`"

    def apply(self, training: Any) -> Applied:
        wanted = {id(parameter) for parameter in parameters_at(training, self.path).values()}
        matched = [
            (name, optimizer, group)
            for name, optimizer, group in groups_of(optimizers_of(training))
            if any(id(parameter) in wanted for parameter in group["params"])
        ]
        for name, _, group in matched:
            if not isinstance(group.get("weight_decay"), int | float):
                raise PitpropError(f"`{name}` has no weight decay to change.", do="use an optimizer that has one.")
        if self.factor is not None and not any(group["weight_decay"] for *_, group in matched):
            raise PitpropError(
                f"The weight decay at `{self.path}` is 0.",
                means="Multiplied it stays 0, and the arm would be another control.",
                do="set it with `value=`.",
            )
        applied = acting_at_steps(tuple(name for name, *_ in matched))
        for name, optimizer, group in matched:
            self._hook(applied, name, optimizer, group, wanted)
        return applied

    def _hook(self, applied: Applied, name: str, optimizer: Any, group: dict, wanted: set[int]) -> None:
        before: list[tuple[list, dict]] = []

        def start(*_):
            applied.calls[name] += 1
            whole = group["params"]
            inside = [parameter for parameter in whole if id(parameter) in wanted]
            decay = self.value if self.factor is None else group["weight_decay"] * self.factor
            split = {**group, "params": inside, "weight_decay": decay}
            group["params"] = [parameter for parameter in whole if id(parameter) not in wanted]
            optimizer.param_groups.append(split)
            before.append((whole, split))

        def end(*_):
            group["params"], split = before.pop()
            optimizer.param_groups[:] = [known for known in optimizer.param_groups if known is not split]

        optimizer.register_step_pre_hook(start)
        optimizer.register_step_post_hook(end)
