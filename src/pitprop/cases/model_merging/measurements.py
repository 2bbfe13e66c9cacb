"""What the claims are judged on: the experiment's numbers, condensed, and a few that need no training.

What `run_claims` returns is committed as `results/claims.json`; verdicts and the README's table are functions of it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pitprop.cases._claims import provenance
from pitprop.cases.model_merging.evaluation import held_out
from pitprop.cases.model_merging.experiment import Settings, run_experiment
from pitprop.cases.model_merging.layers import Attention, Gate, Layer, sinusoid
from pitprop.cases.model_merging.model import NUM_TOKENS, EmbedderNeuronGroup
from pitprop.cases.model_merging.zoo import metadata
from pitprop.indicators import attention_entropy_qk, output_uniqueness, token_cosine
from pitprop.trials.progress import OnProgress

METRICS = (
    "output_spread",
    "output_uniqueness",
    "merged_accuracy",
    "mse",
    "attention_entropy",
    "saturated_share",
    "within_vector_uniqueness",
)
EARLY = 20
"""Steps in which a spike of the gradient is looked for."""


def run_claims(folder: Path, *, seeds: int = 5, steps: int = 100, progress: OnProgress | None = None) -> dict[str, Any]:
    """Runs the experiment with all control arms and condenses it to what the claims need.

    Args:
        folder: Where the experiment's own files go.
        seeds: Number of seeds, 0 to `seeds - 1`.
        steps: Steps of each run.
        progress: Told before and after each run.
    """
    settings = Settings(seeds=tuple(range(seeds)), steps=steps, recovery_steps=steps, controls=True)
    results = run_experiment(folder, settings, progress)
    return condense(results, ("python", "-m", "pitprop.cases.model_merging.claims", "--run", "--seeds", str(seeds)))


def condense(results: dict[str, Any], command: tuple[str, ...]) -> dict[str, Any]:
    """First and last value of each metric per arm and seed, gradient summaries, comparisons, and the untrained
    measurements.
    """
    seeds = results["settings"]["seeds"]
    return {
        "provenance": {**provenance(command, **results["settings"]), "zoo": metadata()},
        "references": results["references"],
        "arms": {name: _arm(by_seed) for name, by_seed in results["arms"].items()},
        "comparisons": results["comparisons"],
        "attention_only": attention_only_at_initialisation(seeds),
        "gates": gates_at_initialisation(seeds),
    }


def _arm(by_seed: dict[str, Any]) -> dict[str, Any]:
    runs = list(by_seed.values())
    ends = {
        metric: {
            "first": [run["history"][0][metric] for run in runs],
            "last": [run["history"][-1][metric] for run in runs],
        }
        for metric in METRICS
    }
    gradients = {
        key: {
            "first": [run[key][0] for run in runs],
            "early_peak": [max(run[key][:EARLY]) for run in runs],
            "peak": [max(run[key]) for run in runs],
            "last": [float(np.median(run[key][-10:])) for run in runs],
        }
        for key in ("gradient_norm", "encoder_gradient_norm")
    }
    return {
        **ends,
        **gradients,
        "highest_entropy": [max(row["attention_entropy"] for row in run["history"]) for run in runs],
        "evaluations": [len(run["history"]) for run in runs],
        "last_good_step": [run.get("last_good_step") for run in runs],
    }


@torch.no_grad()
def attention_only_at_initialisation(seeds: list[int] | tuple[int, ...], num_layers: int = 4) -> dict[str, Any]:
    """The seed's gated stack (attention only: no residual, no feed-forward, no norm) against a residual one, untrained.

    Returns:
        Per kind of stack and seed: `token_cosine` of the last layer's tokens, `output_uniqueness` of those tokens over
        the held-out pairs, and `attention_entropy` in the last layer.
    """
    d_model, num_heads = 100, 4
    found: dict[str, Any] = {}
    kinds: dict[str, tuple[Gate, bool]] = {
        "attention only, pooled gate": ("pooled", False),
        "attention only, no gate": ("none", False),
        "residual, no gate": ("none", True),
    }
    for name, (gate, residual) in kinds.items():
        found[name] = {"token_cosine": [], "output_uniqueness": [], "attention_entropy": []}
        for seed in seeds:
            torch.manual_seed(seed)
            embed = EmbedderNeuronGroup(d_model, seed=seed)
            layers: list[nn.Module] = [
                Layer(d_model, num_heads, gate, "learned", 0.0)
                if residual
                else Attention(d_model, num_heads, gate, "learned")
                for _ in range(num_layers)
            ]
            for module in (embed, *layers):
                for parameter in module.parameters():
                    if parameter.dim() > 1:
                        nn.init.xavier_uniform_(parameter)
                module.eval()
            x = embed(held_out().parents) * d_model**0.5 + sinusoid(NUM_TOKENS, d_model)
            last = x
            for layer in layers:
                last, x = x, layer(x)
            final = layers[-1]
            q, k = final.attention.query_key(final.norm1(last)) if isinstance(final, Layer) else final.query_key(last)  # type: ignore[operator]
            found[name]["token_cosine"].append(float(token_cosine(x).mean()))
            found[name]["output_uniqueness"].append(float(output_uniqueness(x.flatten(1))))
            found[name]["attention_entropy"].append(float(attention_entropy_qk(q, k).mean()))
    return found


@torch.no_grad()
def gates_at_initialisation(seeds: list[int] | tuple[int, ...]) -> dict[str, Any]:
    """What a gate reacts to: tokens, and the entropy of its own attention (made low by queries 30 times as large).

    Returns:
        Per gate and seed: `spread_over_tokens` (standard deviation of the gate's factor over the tokens, relative to
        its mean), `change_with_entropy` (largest change of the factor), and the two entropies.
    """
    found: dict[str, Any] = {}
    gates: tuple[Gate, ...] = ("pooled", "elementwise", "headwise")
    for gate in gates:
        found[gate] = {"spread_over_tokens": [], "change_with_entropy": [], "entropy": [], "entropy_sharp": []}
        for seed in seeds:
            torch.manual_seed(seed)
            attention = Attention(100, 4, gate, "learned").eval()
            assert attention.gate is not None  # narrows the type: every `gate` above makes one
            x = torch.randn(8, NUM_TOKENS, 100)
            ones = torch.ones_like(x)
            entropy = float(attention_entropy_qk(*attention.query_key(x)).mean())
            factor = attention.gate(ones, x)
            attention.query.weight *= 30
            found[gate]["entropy"].append(entropy)
            found[gate]["entropy_sharp"].append(float(attention_entropy_qk(*attention.query_key(x)).mean()))
            found[gate]["change_with_entropy"].append(float((attention.gate(ones, x) - factor).abs().max()))
            found[gate]["spread_over_tokens"].append(float((factor.std(1) / factor.mean(1)).mean()))
    return found
