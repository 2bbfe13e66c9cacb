"""`pitprop trial`, end to end on a recipe of milliseconds, and how its options are read."""

import json
import textwrap
from types import SimpleNamespace

import pytest
import torch

from pitprop import PitpropError
from pitprop.cli import main
from pitprop.cli._changes import Changes
from pitprop.trials import interventions as known

RECIPE = """
from dataclasses import dataclass

import torch
from torch import nn

import pitprop


@dataclass(frozen=True)
class Knobs:
    lr: float = 0.1
    blind: bool = False


class Training:
    def __init__(self, seed, knobs):
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=knobs.lr)
        self.seed, self.blind = seed, knobs.blind

    def batches(self, cursor):
        while True:
            x = torch.randn(16, 2, generator=torch.Generator().manual_seed(1000 * self.seed + cursor))
            yield x * (not self.blind), x.sum(1, keepdim=True)
            cursor += 1

    def step(self, batch):
        x, y = batch
        loss = (self.model(x) - y).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def evaluate(self):
        x = torch.randn(512, 2, generator=torch.Generator().manual_seed(0))
        x, y = x * (not self.blind), x.sum(1, keepdim=True)
        return {"error": (self.model(x) - y).square().mean(), "size": self.model(x).abs().mean()}


recipe = pitprop.Recipe(
    build=Training, knobs=Knobs, metric="error", higher_is_better=False, margin=0.02, steps=30
)
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(textwrap.dedent(RECIPE))
    return f"{path}:recipe"


def test_end_to_end_and_its_report(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["trial", recipe, "--knob-arm", "blind=true", "--scale", "1=1,0.5", "--seeds", "3", "--workers", "1"]
    arguments += ["--guard", "size=lower", "--no-early-stop"]
    assert main([*arguments, "--out", str(out)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("blind=True", "worse", "output of 1 multiplied by 0.5", "Never acted", "pitprop report"):
        assert word in text
    assert main(["report", str(out)]) == 0
    text = "".join(capsys.readouterr().out.split())  # a long path may be folded anywhere
    options = "--scale1=1,0.5--knob-armblind=true--guardsize=lower--no-early-stop--seeds3"
    assert "again:pitproptrial" in text and f"tiny.py:recipe{options}--workers1--out{out}" in text
    plan = json.loads((out / "plan.json").read_text())
    assert plan["guards"] == ["size=lower"] and plan["early_stop"] is False
    assert "blind=True" in (out / "report.html").read_text()


def test_a_factorial_as_json(recipe, tmp_path, capsys):
    arguments = ["trial", recipe, "--lr", "0.1", "--knob-arm", "blind=true", "--factorial", "--seeds", "2", "--json"]
    assert main([*arguments, "--horizon", "5", "--workers", "1", "--out", str(tmp_path / "out")]) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} in JSON")

    content = json.loads(capsys.readouterr().out, parse_constant=refuse)
    factors = [c["arm"] for c in content["comparisons"] if c["round"] == "factors"]
    assert factors[-1] == "blind=True x learning rate multiplied by 0.1" and len(factors) == 3
    assert content["plan"]["horizon"] == 5 and content["folder"] == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--ablate", "3"], "No module matches"),
        (["--lr", "-1"], "cannot be multiplied by -1"),
        (["--metric", "eror", "--freeze", "0"], "did you mean `error`"),
        (["--knob-arm", "blnd=true"], "blind"),
        (["--scale", "1"], "no value"),
        (["--scale", "1=big"], "cannot be read"),
        (["--ablate", "1#x"], "cannot be read"),
        (["--ablate", "1=mean"], "batch_mean"),
        (["--precision", "int8"], "no precision"),
        (["--stage", "1=30"], "never be let in"),
        (["--ablate", "1", "2#0"], "repeat the option"),
        (["--clip", "nan"], "`max_norm` is nan"),
        (["--scale", "1=nan"], "`factor` is nan"),
        (["--scale", "1=2", "--margin", "nan"], "`margin` is nan"),
        (["--scale", "1=2", "--margin", "-1"], "0 or more"),
        (["--ablate", "1", "--resolution", "4"], "--factorial"),
        (["--ablate", "1", "--factorial"], "factorial of 1 change"),
        (["--ablate", "1", "--metric", "size"], "direction"),
        (["--ablate", "1", "--guard", "size=down"], "the direction that is good"),
        ([], "no arm"),
    ],
)
def test_bad_input_is_explained_and_exits_2(recipe, tmp_path, capsys, options, expected):
    assert main(["trial", recipe, *options, "--workers", "1", "--out", str(tmp_path / "out")]) == 2
    seen = capsys.readouterr().err.replace("\n", " ").replace("│", " ")
    assert expected in " ".join(seen.split()) and "Traceback" not in seen


def test_every_option_is_its_intervention():
    changes = Changes(
        ablate=("a", "a=batch_mean", "b.attn#2,0+3"),
        scale=("a=0.1,0.3", "b=unit"),
        scale_parameters=("a=2",),
        knob_arm=("gate=x,y",),
        lr=("0.1", "head=0.5"),
        clip=("1,2",),
        weight_decay=("0", "head=0.1"),
        freeze=("a.*",),
        detach=("a",),
        replace=("a=file.py:make",),
        replace_keeping=("a=layer-scale",),
        reinitialise=("a",),
        reset_optimizer=("*",),
        stage=("a=10,20+5",),
        uniform_attention=("a",),
        shuffle_condition=("a", "a=context"),
        swap_data=("7,8",),
        precision=("float64",),
    )
    assert changes.interventions() == [
        known.Ablate("a"),
        known.Ablate("a", "batch_mean"),
        known.Ablate("b.attn", head=2),
        known.Ablate("b.attn", head=(0, 3)),
        known.Scale("a", 0.1),
        known.Scale("a", 0.3),
        known.Scale("b", "unit"),
        known.Scale("a", 2.0, "parameters"),
        known.Knob("gate", "x"),
        known.Knob("gate", "y"),
        known.LearningRate(0.1),
        known.LearningRate(0.5, "head"),
        known.ClipGradient(1.0),
        known.ClipGradient(2.0),
        known.WeightDecay(value=0.0),
        known.WeightDecay(value=0.1, path="head"),
        known.Freeze("a.*"),
        known.Detach("a"),
        known.Replace("a", "file.py:make"),
        known.Replace("a", "layer-scale", keep=True),
        known.Reinitialise("a"),
        known.ResetOptimizer("*"),
        known.Stage("a", 10),
        known.Stage("a", 20, 5),
        known.ForceUniformAttention("a"),
        known.ShuffleCondition("a"),
        known.ShuffleCondition("a", "context"),
        known.SwapData(7),
        known.SwapData(8),
        known.Precision("float64"),
    ]
    spelled = {type(change) for change in changes.interventions()}
    assert spelled == set(known.INTERVENTIONS) - {known.LoadState}, "a checkpoint is `pitprop rescue`'s to name"
    assert changes.options()[:4] == ["--ablate", "a", "--ablate", "a=batch_mean"]
    with pytest.raises(PitpropError, match="--swap-data x"):
        Changes(swap_data=("x",)).interventions()


@pytest.mark.parametrize("change", [known.LearningRate(0.5), known.WeightDecay(value=0.1)])
def test_a_change_of_a_step_that_is_never_made_says_so(change):
    model = torch.nn.Linear(2, 1)
    applied = change.apply(SimpleNamespace(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)))
    with pytest.raises(PitpropError, match="The optimizer made no step"):
        applied.check(change.describe())
