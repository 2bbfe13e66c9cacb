"""The solver as a whole: encoders, injector, memory, clues, HyperLoRA and recursion, staged by the step."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from pitprop.cases.grid_solver.canvas import PAD, Batch
from pitprop.cases.grid_solver.clues import Clues, ClueSelection, RelativeCoordinates, aggregate
from pitprop.cases.grid_solver.encoders import ContextEncoder, GridEncoder, pooled
from pitprop.cases.grid_solver.hyperlora import Deltas, HyperLoRA
from pitprop.cases.grid_solver.injectors import CrossAttentionInjector, SigmoidFiLM
from pitprop.cases.grid_solver.memory import MemoryBanks
from pitprop.cases.grid_solver.solver import Context, Solver
from pitprop.remedies.torch.prior_bias import prior_bias
from pitprop.remedies.torch.staged import Staged

Stage = Literal["hyperlora_active", "solver_context_active", "cross_attention_active", "hpm_active"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the solver is made of. Names are the seed's where it has one."""

    hidden_dim: int = 256
    num_solver_steps: int = 6
    max_clues: int = 7
    places: int = 8
    """Tokens per shown pair and side."""
    use_cross_attention_context: bool = False
    """Injector: cross-attention in the place of FiLM."""
    use_solver_context: bool = False
    attention_zero_out: bool = False
    """Remedy: the output projections of both attentions start at zero."""
    use_hyperlora: bool = False
    hyperlora_rank: int = 8
    hyperlora_scale: float = 1.0
    hyperlora_init: float = 0.1
    hyperlora_zero_b: bool = False
    hyperlora_largest_norm: float | None = None
    use_hpm: bool = False
    hpm_capacity: int = 0
    bg_bias: float | Literal["prior"] = 0.0
    """Bias of the background at the output; `prior` starts all ten at the classes' frequencies."""
    gradient_checkpointing: bool = False
    reentrant: bool = False
    dropout: float = 0.1
    hyperlora_start: int = 0
    """Step from which HyperLoRA acts; likewise below."""
    solver_context_start: int = 0
    cross_attention_start: int = 0
    hpm_start: int = 0
    ramp: int = 0
    """Steps over which each comes in; 0 is the seed's hard switch."""
    rows_twice: bool = False
    """Original defect: the encoder's columns are encoded as rows."""
    unmasked_pairs: bool = False
    """Original defect: pairs that aren't there take their share of the attention."""
    adds_context: bool = False
    """Original defect: HPM adds the pooled context whatever its gate says."""


class Output(NamedTuple):
    """What a forward pass gives."""

    logits: Float[Tensor, "task colour row column"]
    clues: Clues
    deltas: Deltas | None
    """HyperLoRA's changes; None while it is off."""
    tokens: Float[Tensor, "task pair place width"]
    """What was read of the shown pairs."""


class GridSolver(nn.Module):
    """See the module's docstring.

    Args:
        architecture: See `Architecture`.
        size: Side of the canvas.
        prior: Frequencies of the ten colours; needed for `bg_bias="prior"`.
    """

    def __init__(self, architecture: Architecture, *, size: int, prior: Float[Tensor, " colour"] | None = None):
        super().__init__()
        self.architecture, self.size = architecture, size
        of, width = architecture, architecture.hidden_dim
        self.grid = GridEncoder(width, rows_twice=of.rows_twice, dropout=of.dropout)
        self.context = ContextEncoder(width, size, places=of.places, masks=not of.unmasked_pairs)
        self.film = SigmoidFiLM(width)
        self.injector = CrossAttentionInjector(width, dropout=of.dropout) if of.use_cross_attention_context else None
        self.memory = MemoryBanks(width, capacity=of.hpm_capacity, adds_context=of.adds_context) if of.use_hpm else None
        self.selection = ClueSelection(width, max_clues=of.max_clues)
        self.coordinates = RelativeCoordinates(width)
        self.hyperlora = (
            HyperLoRA(
                width,
                rank=of.hyperlora_rank,
                scale=of.hyperlora_scale,
                init_std=of.hyperlora_init,
                zero_b=of.hyperlora_zero_b,
                largest_norm=of.hyperlora_largest_norm,
            )
            if of.use_hyperlora
            else None
        )
        self.solver = Solver(
            width,
            num_steps=of.num_solver_steps,
            attention=of.use_solver_context,
            checkpointing=of.gradient_checkpointing,
            reentrant=of.reentrant,
            background_bias=0.0 if of.bg_bias == "prior" else of.bg_bias,
        )
        if of.attention_zero_out:
            for part in (self.injector, self.solver.attention):
                if part is not None:
                    nn.init.zeros_(part.attention.out_proj.weight)
        if of.bg_bias == "prior" and prior is not None:
            prior_bias(self.solver.head[-1], prior)  # type: ignore[arg-type]
        starts: dict[Stage, int] = {
            "hyperlora_active": of.hyperlora_start,
            "solver_context_active": of.solver_context_start,
            "cross_attention_active": of.cross_attention_start,
            "hpm_active": of.hpm_start,
        }
        self.stages = nn.ModuleDict({name: Staged(start=start, ramp=of.ramp) for name, start in starts.items()})

    def strength(self, stage: Stage) -> float:
        """How far a stage is, 0 to 1: a function of the step, which the state dict holds."""
        return self.stages[stage].strength  # type: ignore[return-value]

    def advance(self) -> None:
        """One optimizer step is done."""
        for stage in self.stages.values():
            stage.advance()  # type: ignore[operator]

    def deltas_of(self, context: Float[Tensor, "task width"]) -> Deltas | None:
        """HyperLoRA's changes at the strength of its stage, None while it is off."""
        strength = self.strength("hyperlora_active")
        if self.hyperlora is None or strength == 0:
            return None
        found = self.hyperlora(context)
        return found if strength == 1 else {place: strength * delta for place, delta in found.items()}

    def forward(self, batch: Batch, read: Float[Tensor, "task pair place width"] | None = None) -> Output:
        """`read`: the tokens of the shown pairs, where they were read before."""
        tokens = self.context(batch.shown_inputs, batch.shown_outputs, batch.shown) if read is None else read
        keys, hidden_keys = tokens.flatten(1, 2), self.context.hidden_keys(batch.shown)
        context = pooled(tokens, batch.shown)
        embedded = self.grid.embed(batch.inputs)
        features = self._inject(self.grid(embedded), context, keys, hidden_keys)
        if self.memory is not None and (strength := self.strength("hpm_active")) > 0:
            features = features + strength * self.memory(context)[:, None, None]
        cells = features.flatten(1, 2)
        clues = self.selection(cells, (batch.inputs == PAD).flatten(1))
        seen = aggregate(self.coordinates(cells, clues.attention, self.size), clues)
        deltas = self.deltas_of(context)
        logits = self.solver(
            _as_image(seen.view_as(features)),
            _as_image(embedded),
            Context(keys, hidden_keys, deltas, self.strength("solver_context_active")),
        )
        return Output(logits, clues, deltas, tokens)

    def _inject(self, features: Tensor, context: Tensor, keys: Tensor, hidden_keys: Tensor | None) -> Tensor:
        """FiLM, or the cross-attention that takes its place at its stage."""
        injector = self.injector
        if injector is None:
            return self.film(features, context)
        return self.stages["cross_attention_active"](
            features, lambda x: self.film(x, context), lambda x: injector(x, keys, hidden_keys)
        )


def _as_image(x: Float[Tensor, "task row column width"]) -> Float[Tensor, "task width row column"]:
    return x.permute(0, 3, 1, 2).contiguous()


def original(architecture: Architecture) -> Architecture:
    """The same with the original's defects switched on."""
    return replace(architecture, rows_twice=True, unmasked_pairs=True, adds_context=True)
