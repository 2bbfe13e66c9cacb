"""The checks, asked of a recipe: they see its model, and leave the next step's numbers alone."""

from pitprop.trials.preflight import check_recipe

MERGING = "pitprop.cases.model_merging.recipe:recipe"


def rules_at(knobs):
    return {(f.rule, f.site) for f in check_recipe(MERGING, knobs, seed=0).findings if f.severity != "note"}


def test_the_saturated_neck_is_found_before_the_first_step():
    assert ("saturated-at-initialisation", "neck.squash") in rules_at({"d_model": "20", "num_layers": "1"})


def test_the_mean_bottleneck_is_silent():
    assert rules_at({"bottleneck": "mean", "d_model": "20", "num_layers": "1"}) == set()
