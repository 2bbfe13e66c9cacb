"""What watching costs: time per step of a GPT-like model with `pitprop.watch`, and with naive hooks, over without.

    python bench/overhead.py            # under three minutes; prints a table, writes bench/results/overhead.json
    python bench/overhead.py --smoke    # seconds; proves that it runs, measures nothing

One process, one thread, one model per arm with the same seed. The arms take turns in blocks, in an order that rotates;
each block of an arm is compared with the plain block of the same round, so that a slow second of the machine hits
both. A block's time is its mean per step, measured steps included. The watch is the default one and lives through the
whole bench; its clock stands still while it isn't its turn. Rounds of the beginning are reported apart: the budget of
the first 30 s may be spent at once.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from pitprop.watch.session import Watch
from pitprop.watch.torch import TorchEdge

WIDTH, HEADS, LAYERS, TOKENS, BATCH, VOCABULARY = 192, 6, 6, 96, 8, 256
RESULTS = Path(__file__).parent / "results" / "overhead.json"
TARGET = 1.02


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(WIDTH), Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(TOKENS, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.token(ids) + self.position)))


class Arm:
    """One model that trains by itself; `log` is told every loss."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = GPT()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 3e-4)
        self.generator = torch.Generator().manual_seed(1)
        self.losses: list[float] = []
        self.log = lambda loss: None

    def block(self, steps: int) -> float:
        """Mean seconds per step."""
        started = time.perf_counter()
        for _ in range(steps):
            ids = torch.randint(0, VOCABULARY, (BATCH, TOKENS), generator=self.generator)
            loss = F.cross_entropy(self.model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.log(loss)
        took = (time.perf_counter() - started) / steps
        self.losses.append(loss.item())
        return took


def naive_hooks(model: nn.Module) -> None:
    """What is written in an afternoon: the norm of every activation and gradient, moved to the host in every step."""
    seen: dict[str, float] = {}
    for name, module in model.named_modules():

        def forward(module, args, output, name=name):
            seen[f"{name}.activation"] = output.detach().norm().item()

        def backward(module, grad_input, grad_output, name=name):
            seen[f"{name}.gradient"] = grad_output[0].norm().item()

        module.register_forward_hook(forward)
        module.register_full_backward_hook(backward)


class TurnClock:
    """Seconds during the watched arm's turns."""

    def __init__(self):
        self.elapsed, self.since = 0.0, None

    def __call__(self) -> float:
        return self.elapsed + (0.0 if self.since is None else time.perf_counter() - self.since)

    @contextlib.contextmanager
    def turn(self):
        self.since = time.perf_counter()
        yield
        self.elapsed, self.since = self(), None


def measure(seconds: float, steps: int, folder: Path) -> tuple[list[dict[str, float]], dict]:
    """Seconds per step of every arm, round by round; and what the watch says of itself."""
    arms = {"plain": Arm(), "watch": Arm(), "hooks": Arm()}
    naive_hooks(arms["hooks"].model)
    clock, rounds = TurnClock(), []
    watched = arms["watch"]
    for arm in arms.values():
        arm.block(3)  # allocator and kernels warm up outside of the comparison
    with Watch(
        lambda **callbacks: TorchEdge(watched.model, [watched.optimizer], **callbacks),
        run=folder,
        quiet=True,
        clock=clock,
    ) as watch:
        watched.log = lambda loss: watch.log(loss=loss)
        order = list(arms)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds or len(rounds) < 4:
            times = {}
            for name in order:
                with clock.turn() if name == "watch" else contextlib.nullcontext():
                    times[name] = arms[name].block(steps)
            rounds.append(times | {"watched_s": clock()})
            order = order[1:] + order[:1]
    assert arms["watch"].losses == arms["plain"].losses, "watching changed the run"
    return rounds, watch._schedule.describe()


def quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"low": low, "median": median, "high": high}


def summarise(rounds: list[dict[str, float]]) -> dict:
    """Ratios to plain, median and quartiles over rounds, and the ratio of the total times."""
    return {
        name: {
            "ratio": quartiles([r[name] / r["plain"] for r in rounds]),
            "ratio_of_totals": sum(r[name] for r in rounds) / sum(r["plain"] for r in rounds),
            "step_s": quartiles([r[name] for r in rounds]),
            "num_rounds": len(rounds),
        }
        for name in ("watch", "hooks")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="run for seconds; write nothing")
    smoke = parser.parse_args().smoke
    warnings.filterwarnings(
        "ignore", message="Full backward hook is firing"
    )  # the embedding's; that is how naive it is
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rounds, schedule = measure(2.0 if smoke else 150.0, 2 if smoke else 20, Path(folder) / "run")
    early = [r for r in rounds if r["watched_s"] <= 30.0]
    steady = [r for r in rounds if r["watched_s"] > 30.0]
    parts = {
        name: summarise(part) for name, part in (("first 30 s", early), ("after", steady), ("all", rounds)) if part
    }
    table = Table(title=f"time per step over plain: {LAYERS} layers, width {WIDTH}, {BATCH} x {TOKENS} tokens, AdamW")
    for column in ("part", "arm", "median", "quartiles", "totals", "rounds"):
        table.add_column(column, justify="left" if column in ("part", "arm") else "right")
    for part, arms in parts.items():
        for arm, found in arms.items():
            ratio = found["ratio"]
            table.add_row(
                part,
                {"watch": "pitprop.watch", "hooks": "naive hooks"}[arm],
                f"{ratio['median']:.3f}",
                f"{ratio['low']:.3f} to {ratio['high']:.3f}",
                f"{found['ratio_of_totals']:.3f}",
                str(found["num_rounds"]),
            )
    console = Console()
    console.print(table)
    share = schedule["share"]
    console.print(
        f"the watch measured {schedule['num_sampled']} of {schedule['num_steps']} steps"
        + ("" if share is None else f" and estimates its own share at {share:.1%}")
    )
    if smoke:
        console.print("a smoke run: these numbers mean nothing and were not written")
        return
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count(), "load": os.getloadavg()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "model": {"layers": LAYERS, "width": WIDTH, "heads": HEADS, "tokens": TOKENS, "batch": BATCH},
        "target": TARGET,
        "parts": parts,
        "schedule": schedule,
        "rounds": rounds,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    reached = parts["all"]["watch"]["ratio"]["median"] <= TARGET
    console.print(f"target {TARGET}: {'reached' if reached else 'missed'}; written to {RESULTS}")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
