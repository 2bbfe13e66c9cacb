"""The facts that stand beside each indicator hold: range, invariances, folder and registry."""

import inspect
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from indicator_twins import TWINS

import pitprop.indicators
from pitprop import PitpropError
from pitprop.indicators import INDICATORS, by_name

PAIRS = [(indicator.name, invariance) for indicator in INDICATORS for invariance in indicator.invariances]


def _permute(axis):
    def apply(rng, arrays):
        orders = {n: rng.permutation(n) for n in sorted({x.shape[axis] for x in arrays if x.ndim >= -axis})}
        return [np.take(x, orders[x.shape[axis]], axis=axis) if x.ndim >= -axis else x for x in arrays]

    return apply


def _rotate(rng, arrays):
    rotation, _ = np.linalg.qr(rng.normal(size=(arrays[0].shape[-1],) * 2))
    return [x @ rotation for x in arrays]


def _scale(rng, arrays):
    factor = 10.0 ** rng.uniform(-30, 30)
    return [x * factor for x in arrays]


def _shift(rng, arrays):
    offset = rng.normal()
    return [x + offset for x in arrays]


# The first array of an attention indicator holds the queries, the second the keys.
INVARIANCES = {
    "scale": _scale,
    "shift": _shift,
    "flip-sign": lambda rng, arrays: [-x for x in arrays],
    "rotate-width": _rotate,
    "permute-entries": _permute(-1),
    "permute-samples": _permute(-2),
    "permute-queries": lambda rng, arrays: [*_permute(-2)(rng, arrays[:1]), arrays[1]],
    "permute-keys": lambda rng, arrays: [arrays[0], *_permute(-2)(rng, arrays[1:])],
    "shift-keys": lambda rng, arrays: [arrays[0], arrays[1] + rng.normal(size=arrays[1].shape[-1])],
}


@pytest.mark.parametrize(("name", "invariance"), PAIRS)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_declared_invariances_hold(name, invariance, seed):
    rng = np.random.default_rng(seed)
    twin = TWINS[name]
    arrays = twin.arguments(rng)
    before = twin.call(by_name(name).function, arrays)
    after = twin.call(by_name(name).function, INVARIANCES[invariance](rng, arrays))
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("attention_entropy_qk", "scale"),
        ("gradient_norm", "scale"),
        ("saturated_share", "scale"),
        ("wasserstein_distance", "scale"),
        ("token_cosine", "shift"),
        ("effective_rank", "shift"),
        ("attention_entropy", "shift"),
        ("gradient_share", "permute-entries"),
    ],
)
def test_the_invariance_test_can_fail(name, change):
    rng = np.random.default_rng(1)
    twin = TWINS[name]
    arrays = twin.arguments(rng)
    before = twin.call(by_name(name).function, arrays)
    after = twin.call(by_name(name).function, INVARIANCES[change](rng, arrays))
    assert not np.allclose(after, before, rtol=1e-6, atol=1e-7)


ENTRIES = st.sampled_from([0.0, 1.0, -1.0, 1e-6, 0.5, 1e6, -1e6, float("nan")]) | st.integers(-64, 64).map(
    lambda i: i / 8
)


@pytest.mark.parametrize("indicator", INDICATORS, ids=lambda indicator: indicator.name)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_input_gives_nan_or_a_value_in_range(indicator, data):
    twin = TWINS[indicator.name]
    shapes = [x.shape for x in twin.arguments(np.random.default_rng(0))]
    arrays = [data.draw(hnp.arrays(np.float32, shape, elements=ENTRIES)) for shape in shapes]
    value = twin.call(indicator.function, arrays)
    assert np.all(np.isnan(value) | ((value >= indicator.low) & (value <= indicator.high)))


@pytest.mark.parametrize("name", TWINS)
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_an_ordinary_input_gives_a_number(name, seed):
    twin = TWINS[name]
    assert np.all(np.isfinite(twin.call(by_name(name).function, twin.arguments(np.random.default_rng(seed)))))


def test_registry_twins_and_folder_agree():
    files = {module.name for module in pkgutil.iter_modules(pitprop.indicators.__path__) if module.name[0] != "_"}
    assert files == {indicator.name for indicator in INDICATORS} == set(TWINS)
    assert len(INDICATORS) == len(files)
    for indicator in INDICATORS:
        assert getattr(pitprop.indicators, indicator.name) is indicator.function
        assert indicator.name in pitprop.indicators.__all__


@pytest.mark.parametrize("indicator", INDICATORS, ids=lambda indicator: indicator.name)
def test_facts_and_docstring_are_complete(indicator):
    doc = inspect.getdoc(indicator.function) or ""
    for section in ("Args:", "Returns:", "Cost:", "Source:"):
        assert section in doc
    assert set(indicator.invariances) <= set(INVARIANCES)
    assert indicator.unit and indicator.at_initialisation and indicator.low < indicator.high


def test_by_name():
    assert by_name("token_cosine").function is pitprop.indicators.token_cosine
    with pytest.raises(PitpropError, match=r"there is no indicator `token_cosin`\ndid you mean `token_cosine`"):
        by_name("token_cosin")
