"""Timestep weights of many streams at once: the original's network, the modes that train it or don't, and constants.

| mode | weights | trained by |
|---|---|---|
| `uniform` | 1/n each | nothing |
| `fixed` | the stream's schedule | nothing |
| `learnable` | the network's softmax | the loss that they weigh: goes to a vertex, see `prediction.py` |
| `learnable_detached` | the network's softmax | nothing: the network has no gradient |
| `separate` | the network's softmax | its entropy (the seed's Solution 2, "maximize diversity") |
| `importance` | the network's softmax | squared error to L / sum L (the seed's Solution 4) |
| `kl` | the network's softmax | sum w L + tau KL(w, schedule) |
| `dro` | the network's softmax | -sum w L + tau KL(w, schedule) |
| `uncertainty` | the network's softmax, its logits being -s | sum exp(-s) L / mean L + s |
| `min_snr` | min(SNR, 5) / SNR, over their sum | nothing |

tau = (max L - min L) / ln 10. Source: `timestep_weights.py` of ct101apcs/DiffAttack @349bcbf, written anew, for the
network and the first four; the others are `pitprop.remedies.torch`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pitprop._errors import PitpropError, nearest
from pitprop.remedies.torch.importance_weights import importance_weights
from pitprop.remedies.torch.kl_weights import kl_weights
from pitprop.remedies.torch.min_snr_weights import min_snr_weights
from pitprop.remedies.torch.separate_weights import diversity
from pitprop.remedies.torch.tilted_weights import tilted_weights
from pitprop.remedies.torch.uncertainty_weights import uncertainty_objective

Mode = Literal[
    "uniform",
    "fixed",
    "learnable",
    "learnable_detached",
    "separate",
    "importance",
    "kl",
    "dro",
    "uncertainty",
    "min_snr",
]
MODES: tuple[Mode, ...] = get_args(Mode)
CONSTANT = frozenset({"uniform", "fixed", "min_snr"})
"""Modes without a network."""
INITIAL = (0.05, 0.08, 0.13, 0.24, 0.50)
"""The seed's first schedule: later, cleaner timesteps count more."""
PILOT = (0.064, 0.103, 0.158, 0.269, 0.406)
"""What the seed's run over 10 images ended with, and its recommendation as a fixed schedule."""
HIDDEN = 64
LR = 1e-4
"""Of Adam on the network, hard-coded in the original."""
KAPPA = 10.0
"""Ratio that the losses may bring about between two weights under `kl` and `dro`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Weights of one row of the batch."""

    mode: Mode
    seed: int = 0
    """Of the network's initialisation."""
    schedule: tuple[float, ...] = INITIAL
    """The value of `fixed`, the start and prior of the modes with a network."""


class ScheduleMLP(nn.Module):
    """Linear(1, 64), ReLU, Linear(64, timestep) on the constant 1, once per stream.

    The last bias is the centred logarithm of the schedule, the last weight N(0, 0.01), the first layer Xavier-uniform.
    """

    def __init__(self, schedules: Float[Tensor, "stream timestep"], generators: Sequence[torch.Generator]):
        super().__init__()
        num, steps = schedules.shape
        logits = schedules.log()
        self.first_weight = nn.Parameter(torch.empty(num, HIDDEN))
        self.first_bias = nn.Parameter(torch.zeros(num, HIDDEN))
        self.last_weight = nn.Parameter(torch.empty(num, steps, HIDDEN))
        self.last_bias = nn.Parameter(logits - logits.mean(-1, keepdim=True))
        bound = math.sqrt(6 / (1 + HIDDEN))
        with torch.no_grad():
            for row, generator in enumerate(generators):
                self.first_weight[row].uniform_(-bound, bound, generator=generator)
                self.last_weight[row].normal_(std=0.01, generator=generator)

    def forward(self) -> Float[Tensor, "stream timestep"]:
        """Logits."""
        hidden = (self.first_weight + self.first_bias).relu()
        return (self.last_weight @ hidden[..., None]).squeeze(-1) + self.last_bias


class TimestepWeightNetwork(nn.Module):
    """The seed's network: one softmax MLP for self-attention and one for cross-attention, `num` of each."""

    def __init__(self, streams: Sequence[Stream]):
        super().__init__()
        schedules = torch.tensor([stream.schedule for stream in streams])
        generators = [torch.Generator().manual_seed(stream.seed) for stream in streams]
        self.self_attention = ScheduleMLP(schedules, generators)
        self.cross_attention = ScheduleMLP(schedules, generators)


class TimestepWeights(nn.Module):
    """The weights of all streams; fulfils `backbone.Weights`.

    The network lives as long as this object, its Adam for one image, as in the original. Rows don't touch each other:
    a stream's weights don't depend on which others run beside it.

    Args:
        streams: One per row of the batch, all with schedules of one length.
        alphas_cumprod: Signal shares at the active timesteps; only `min_snr` needs them.
        lr: Of Adam.
        device: Of the parameters and constants.

    Raises:
        PitpropError: An unknown mode, a schedule that is none, or `min_snr` without `alphas_cumprod`.
    """

    constants: Tensor
    priors: Tensor
    rows: Tensor
    attached: Tensor

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        alphas_cumprod: Float[Tensor, " timestep"] | None = None,
        lr: float = LR,
        device: torch.device | str = "cpu",
    ):
        super().__init__()
        _check(streams)
        self.streams = tuple(streams)
        learned = [stream for stream in streams if stream.mode not in CONSTANT]
        self.modes: tuple[Mode, ...] = tuple(stream.mode for stream in learned)
        constants = torch.stack([_constant(stream, alphas_cumprod) for stream in streams])
        self.register_buffer("constants", constants, persistent=False)
        rows = [row for row, stream in enumerate(streams) if stream.mode not in CONSTANT]
        self.register_buffer("rows", torch.tensor(rows, dtype=torch.long), persistent=False)
        self.register_buffer("priors", constants[rows], persistent=False)
        attached = torch.tensor([[mode == "learnable"] for mode in self.modes], dtype=torch.bool)
        self.register_buffer("attached", attached, persistent=False)
        self.network = TimestepWeightNetwork(learned) if learned else None
        self.to(device)
        parameters = list(self.parameters())
        self.optimizer = torch.optim.Adam(parameters, lr=lr) if parameters else None

    @property
    def num_streams(self) -> int:
        """Rows."""
        return len(self.streams)

    def start_image(self) -> None:
        """Makes Adam anew (the same object forgets its moments, so that a watch goes on); the network stays."""
        if self.optimizer is not None:
            self.optimizer.state.clear()

    def forward(self, losses: Float[Tensor, "stream timestep"]) -> Float[Tensor, "stream timestep"]:
        """Weights on the simplex; only those of `learnable` carry gradient. `losses` aren't looked at."""
        return self.constants if self.network is None else self._of(self.network.self_attention)

    def _of(self, mlp: ScheduleMLP) -> Float[Tensor, "stream timestep"]:
        weights = mlp().softmax(-1)
        found = weights.detach()
        if "learnable" in self.modes:  # else no graph at all: the parameters' gradients stay None, as in the original
            found = torch.where(self.attached, weights, found)
        return self.constants.index_copy(0, self.rows, found)

    def penalty(self, losses: Float[Tensor, "stream timestep"]) -> Float[Tensor, " stream"]:
        """What trains the network in modes that have a criterion of their own; zeros for the others."""
        found = losses.new_zeros(self.num_streams)
        if self.network is None or not set(self.modes) & set(_CRITERIA):
            return found
        logits, values = self.network.self_attention(), losses.detach()[self.rows]
        for mode in dict.fromkeys(mode for mode in self.modes if mode in _CRITERIA):
            own = torch.tensor([m == mode for m in self.modes], device=values.device)
            found = found.index_copy(0, self.rows[own], _CRITERIA[mode](logits[own], values[own], self.priors[own]))
        return found

    def cross(self) -> Float[Tensor, "stream timestep"]:
        """Weights of cross-attention: the network's, or the same constants; nothing reads them in the original."""
        return self.constants if self.network is None else self._of(self.network.cross_attention)

    def step(self, losses: Float[Tensor, "stream timestep"]) -> None:
        """One step of Adam, which skips parameters without a gradient; the gradients stay readable."""
        if self.optimizer is not None:
            self.optimizer.step()


def _spread(losses: Tensor) -> Tensor:
    return (losses.amax(-1) - losses.amin(-1)) / math.log(KAPPA)


def _to(target: Tensor, logits: Tensor) -> Tensor:
    """KL(w, target) per row, w being the softmax of `logits`."""
    logs = logits.log_softmax(-1)
    return (logs.exp() * (logs - target.log())).sum(-1)


# Each is `[stream, timestep]` logits, losses and priors to `[stream]`. tau KL(w, p exp(-L / tau) / Z) is sum w L + tau
# KL(w, p) but for a constant. Nothing is known where all losses are 0 (the first iteration of an image): no gradient.
_CRITERIA = {
    "separate": lambda logits, losses, prior: diversity(logits.softmax(-1), losses),
    "importance": lambda logits, losses, prior: (
        (logits.softmax(-1) - importance_weights(losses)).square().mean(-1) * (losses.sum(-1) > 0)
    ),
    "kl": lambda logits, losses, prior: _spread(losses) * _to(kl_weights(losses, prior=prior, kappa=KAPPA), logits),
    "dro": lambda logits, losses, prior: (
        _spread(losses) * _to(tilted_weights(losses, prior=prior, kappa=KAPPA), logits)
    ),
    "uncertainty": lambda logits, losses, prior: (
        uncertainty_objective(-logits, importance_weights(losses) * losses.shape[-1]) * (losses.sum(-1) > 0)
    ),
}


def _constant(stream: Stream, alphas_cumprod: Tensor | None) -> Tensor:
    schedule = torch.tensor(stream.schedule)
    schedule = schedule / schedule.sum()
    if stream.mode == "uniform":
        return torch.full_like(schedule, 1 / len(schedule))
    if stream.mode != "min_snr":
        return schedule
    if alphas_cumprod is None or alphas_cumprod.shape != schedule.shape:
        raise PitpropError(
            "`min_snr` got no `alphas_cumprod` of the active timesteps",
            means="its weights are a function of the noise schedule.",
            do="pass backbone.alphas_cumprod at the active timesteps.",
        )
    return min_snr_weights(schedule, alphas_cumprod=alphas_cumprod.to(schedule))


def _check(streams: Sequence[Stream]) -> None:
    if not streams:
        raise PitpropError("There are no streams.", do="give one `Stream` per row of the batch.")
    for stream in streams:
        if stream.mode not in MODES:
            raise PitpropError(f"There is no weight mode `{stream.mode}`: {nearest(stream.mode, MODES)}")
        if len(stream.schedule) != len(streams[0].schedule) or not all(0 < w < math.inf for w in stream.schedule):
            raise PitpropError(
                f"The schedule {stream.schedule} is no schedule of {len(streams[0].schedule)} timesteps",
                do="give one positive number per active timestep; they are normalised here.",
            )
