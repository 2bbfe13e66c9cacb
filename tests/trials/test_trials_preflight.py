"""The checks, asked of a recipe: they see its model, and leave the next step's numbers alone."""

import textwrap

from pitprop.trials.preflight import check_recipe

MERGING = "pitprop.cases.model_merging.recipe:recipe"


def rules_at(knobs):
    return {(f.rule, f.site) for f in check_recipe(MERGING, knobs, seed=0).findings if f.severity != "note"}


def test_the_saturated_neck_is_found_before_the_first_step():
    assert ("saturated-at-initialisation", "neck.squash") in rules_at({"d_model": "20", "num_layers": "1"})


def test_the_mean_bottleneck_is_silent():
    assert rules_at({"bottleneck": "mean", "d_model": "20", "num_layers": "1"}) == set()


EMA = """
    import copy
    import torch
    from dataclasses import dataclass
    from torch import nn
    from pitprop import Recipe

    @dataclass(frozen=True)
    class Knobs:
        keeper: bool = True

    class Model(nn.Linear):
        active = False

        def forward(self, x):
            return super().forward(x) if self.active else super().forward(x) + 1

    class Keeper:
        def __init__(self, model):
            self.average = copy.deepcopy(model)

    class Training:
        def __init__(self, seed, knobs):
            torch.manual_seed(seed)
            self.model = Model(4, 1)
            self.model.active = False
            self.ema = Keeper(self.model) if knobs.keeper else copy.deepcopy(self.model)
            self.model.active = True  # after the copy was made
            self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)

        def batches(self, cursor):
            while True:
                yield torch.randn(8, 4, generator=torch.Generator().manual_seed(cursor))
                cursor += 1

        def step(self, x):
            loss = self.model(x).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return {"loss": loss.detach()}

        def evaluate(self):
            return {"error": float(self.model.weight.detach().square().sum())}

    recipe = Recipe(build=Training, knobs=Knobs, metric="error")
"""


def test_an_average_with_another_flag_is_found_also_in_its_keeper(tmp_path):
    (tmp_path / "averaged.py").write_text(textwrap.dedent(EMA), encoding="utf-8")
    for keeper, name in (("true", "ema.average"), ("false", "ema")):
        checked = check_recipe(f"{tmp_path / 'averaged.py'}:recipe", {"keeper": keeper}, seed=0)
        [finding] = [f for f in checked.findings if f.rule == "train-eval-activity"]
        assert f"<model>.active is True in the model and False in its copy `{name}`" in finding.message
