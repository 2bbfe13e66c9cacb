"""The case model_merging, smaller, with knobs that declare no alternatives: left are the remedies of its findings."""

import dataclasses

from pitprop.cases.model_merging import recipe as case


@dataclasses.dataclass(frozen=True)
class Small(case.Knobs):
    bottleneck: str = "sum_tanh"
    gate: str = "none"
    objective: str = "imitate"
    attention: str = "learned"
    d_model: int = 64
    num_images: int = 4


small = dataclasses.replace(case.recipe, knobs=Small)
