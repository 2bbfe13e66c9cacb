"""A made-up run folder as a diagnosis leaves it: a merging transformer whose neck saturates and outputs duplicate."""

import json
import math
from pathlib import Path

import numpy as np

from pitprop.records import RUN, RunInfo
from pitprop.trace import Writer

ONSET = 120
STEPS = 400
HOSTILE = "</script><script>alert(1)</script>"
BLOCKS = tuple(f"encoder.blocks.{i}" for i in range(4))


def run_folder(folder: Path, *, steps: int = STEPS, every: int = 2, hostile: bool = False, trial: bool = True) -> Path:
    """Write `trace.sqlite` and, with `trial`, `trial.json`; `hostile` puts markup into the names a user can choose."""
    rng = np.random.default_rng(0)
    name = f"merge {HOSTILE}" if hostile else "model_merging-control"
    info = RunInfo(
        name=name,
        started="2026-11-21T20:14:03Z",
        command=("pitprop", "diagnose", "model_merging", "--seeds", "5"),
        config={"objective": "task", "bottleneck": "sum_tanh", "d_model": 100, "note": name},
        packages={"python": "3.11.9", "numpy": "2.4.6", "torch": "2.13.0", "pitprop": "0.1.0"},
        git_commit="5f1c9a0+dirty",
        seed=0,
        device="cpu",
    )
    blocks = (*BLOCKS, HOSTILE) if hostile else BLOCKS
    with Writer(folder, info) as writer:
        for step in range(0, steps, every):
            writer.append(step, _measurements(step, steps, blocks, rng))
            if step % (every * 20) == 0:
                for block in blocks[:2]:
                    writer.append_array(step, f"{block}.attention", "attention", _attention(step, steps, rng))
        unseen = f"{BLOCKS[3]}.attention"
        attention = {"expected": [f"{b}.attention" for b in BLOCKS], "unseen": [unseen], "unmeasured": {}}
        note = f"Attention seen in 3 of 4 modules; not in {unseen}. `watch.tap_attention(name, q, k)` records it."
        writer.set_meta("coverage", {"num_modules": 21, "compiled": [], "attention": attention, "notes": [note]})
        writer.set_meta("schedule", {"every": every, "budget": 0.02, "num_steps": steps, "share": None})
    if trial:
        (folder / "trial.json").write_text(json.dumps(trial_content(hostile)), encoding="utf-8")
    return folder


def _measurements(step: int, steps: int, blocks: tuple[str, ...], rng: np.random.Generator) -> dict:
    fall = 1 / (1 + math.exp((step - ONSET - 15) / 6))
    noise = lambda scale: float(rng.normal(0, scale))  # noqa: E731
    values = {
        "loss": {RUN: 2.3 * math.exp(-step / 90) + 0.31 + noise(0.02)},
        "output_uniqueness": {RUN: max(1 / 64, min(1.0, fall + abs(noise(0.01))))},
        "output_spread": {RUN: 0.8 * fall + 1e-6},
        "attention_entropy": {f"{b}.attention": min(1.0, 0.88 + 0.02 * i + noise(0.01)) for i, b in enumerate(blocks)},
        "token_cosine": {b: min(1.0, 0.15 + 0.1 * i + 0.5 * (1 - fall) + noise(0.01)) for i, b in enumerate(blocks)},
        "gradient_norm": {b: 10 ** (-1 - i - 2 * (1 - fall) + noise(0.1)) for i, b in enumerate(blocks)},
        "saturated_share": {"neck.tanh": min(1.0, 0.72 + 0.27 * (1 - fall) + noise(0.005))},
    }
    if 60 <= step < 80:
        values["token_cosine"][BLOCKS[1]] = math.nan
        values["attention_entropy"].pop(f"{BLOCKS[2]}.attention")
    if step == steps // 2:
        values["gradient_norm"][BLOCKS[0]] = math.inf
    return values


def _attention(step: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    sharp = 3 * (1 - step / steps)
    scores = rng.normal(0, 0.3, (4, 50, 50)) + sharp * np.eye(50)[None] * np.arange(1, 5)[:, None, None]
    weights = np.exp(scores)
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def comparison(arm: str, changes: str, effects: list[float], verdict: str, round_: str, *, half: float) -> dict:
    control = [0.021, 0.019, 0.024, 0.020, 0.022][: len(effects)]
    treated = [c + e for c, e in zip(control, effects, strict=True)]
    effect = sum(effects) / len(effects)
    return {
        "arm": arm,
        "changes": changes,
        "metric": "output_uniqueness",
        "higher_is_better": True,
        "seeds": list(range(len(effects))),
        "control": control,
        "treated": treated,
        "effect": effect,
        "low": effect - half,
        "high": effect + half,
        "confidence": 0.95,
        "p_value": 2 / 2 ** len(effects),
        "margin": 0.05,
        "verdict": verdict,
        "horizon": 200,
        "plan": "9c1f6c2e04ab77d1",
        "round": round_,
    }


def trial_content(hostile: bool = False) -> dict:
    """What `trial.json` holds, with numbers made up for this test."""
    arm = f"bottleneck=mean {HOSTILE}" if hostile else "bottleneck=mean"
    mean = "bottleneck: sum_tanh → mean (the neck averages tokens instead of summing them into tanh)"
    return {
        "plan": {
            "recipe": "pitprop.cases.model_merging.recipe:recipe",
            "metric": "output_uniqueness",
            "margin": 0.05,
            "seeds": [0, 1, 2, 3, 4],
            "horizon": 200,
            "fork_step": 100,
        },
        "plan_hash": "9c1f6c2e04ab77d1",
        "command": ["pitprop", "diagnose", "model_merging", "--seeds", "5", "--note", "it's here"],
        "fork": {"steps": 20, "digest": "sha256:7d02f1", "same": True, "process": "another"},
        "comparisons": [
            comparison(arm, mean, [0.91, 0.95], "better", "screen", half=0.2),
            comparison(
                "gate=elementwise",
                "gate: none → elementwise (sigmoid on the attention output)",
                [0.01, -0.004],
                "inconclusive",
                "screen",
                half=0.09,
            ),
            comparison(
                "uniform attention",
                "every attention weight forced to 1/50",
                [-0.003, 0.006],
                "no difference within margin",
                "screen",
                half=0.04,
            ),
            comparison(
                "learning rate / 10", "learning rate: 0.001 → 0.0001", [-0.012, -0.018], "worse", "screen", half=0.005
            ),
            comparison(arm, mean, [0.91, 0.95, 0.93, 0.97, 0.88], "better", "confirm", half=0.042),
            comparison(
                "objective=imitate",
                "objective: task → imitate (the target depends on the pair)",
                [0.72, 0.51, 0.80, 0.65, 0.77],
                "better",
                "confirm",
                half=0.14,
            ),
        ],
        "conclusion": {
            "statement": "The knob `bottleneck` = 'sum_tanh' causes the collapse (output-duplication from "
            "step 148): with bottleneck=mean, output_uniqueness goes from 0.0212 to 0.9492. In a watched run with that "
            "change the failure is gone.",
            "cause": "the knob `bottleneck` = 'sum_tanh'",
            "remedy": arm,
            "exonerated": ["uniform attention", "gate=elementwise"],
            "next": "Try the remedy over the whole length of a run.",
            "mechanism": "saturated-units at neck.squash from step 0",
            "inert": ["clip=1"],
            "symptoms": ["token-uniformity at encoder.blocks.1"],
        },
        "guards": [
            {
                "arm": arm,
                "metric": "merged_accuracy",
                "control": [0.9, 0.8],
                "treated": [0.7, 0.6],
                "effect": -0.2,
                "low": -0.25,
                "high": -0.15,
                "seeds": [0, 1],
            },
            {
                "arm": arm,
                "metric": "attention_entropy",
                "control": [0.8, 0.8],
                "treated": [0.7, 0.8],
                "effect": -0.05,
                "low": -0.3,
                "high": 0.2,
                "seeds": [0, 1],
                "verdict": "inconclusive",
            },
        ],
        "references": {"constant mean": {"merged_accuracy": 0.938}},
        "failed": [{"arm": "learning rate x 10", "seed": 1, "error": "ValueError: loss is NaN at step 31"}],
        "wall_s": 171.4,
    }
