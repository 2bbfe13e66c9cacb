"""The case model_merging, small and without knobs that declare alternatives: what is left are the findings' remedies."""

import dataclasses

from pitprop.cases.model_merging import recipe as case


@dataclasses.dataclass(frozen=True)
class Small(case.Knobs):
    bottleneck: str = "sum_tanh"
    gate: str = "none"
    objective: str = "imitate"
    attention: str = "learned"
    clip: int = 0
    d_model: int = 16
    num_heads: int = 2
    batch_size: int = 8
    num_images: int = 4


small = dataclasses.replace(case.recipe, knobs=Small)
