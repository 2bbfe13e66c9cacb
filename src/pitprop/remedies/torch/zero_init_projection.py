"""A zero-initialised last projection: a new residual branch that is exactly nothing at the start, and learns from step
1 on.

Paper: Zhang et al., Adding Conditional Control to Text-to-Image Diffusion Models (ControlNet), arXiv 2302.05543 (2023).
Source: written from the idea; `zero_module` of diffusers (Apache-2.0) does the same.
Differences: none.
Cost: nothing; the layers before it get their first gradient one step later.
Facts: `y = w x` with `w = 0` has `dy/dw = x`, not 0, so the projection wakes at once; what lies before it wakes one
step later.
Insertion: a new branch on a stream keeps the function, exactly. In place of a layer that is there already it takes
away what that layer says.
Does not help: where the branch isn't purely additive (a post-norm after the sum changes the stream anyway), and it
kills where a second factor on the same path is zero too (ReZero or a zero LayerScale on top: neither ever gets a
gradient).
"""

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def zero_init_projection(projection: Module) -> Module:
    """Sets every parameter of `projection` (the last layer of a branch) to zero, in place, and returns it."""
    for parameter in projection.parameters():
        parameter.zero_()
    return projection
