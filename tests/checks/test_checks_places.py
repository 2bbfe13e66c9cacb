"""Codes that leave an axis out, padding that is read, and everything that only looks like them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from check_models import ACCEPTANCE
from torch import nn

from pitprop.checks import Subject
from pitprop.checks.padding_read import CHECK as PADDING
from pitprop.checks.positions_alike import CHECK as POSITIONS

SIDE, WIDTH = 5, 8


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def waves(num, width=WIDTH // 2):
    rates = 0.5 ** torch.arange(width // 2)
    angles = torch.arange(num)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


ROW = waves(SIDE)[:, None].expand(-1, SIDE, -1)
COLUMN = waves(SIDE).expand(SIDE, -1, -1)
FULL = waves(SIDE, WIDTH)


def joined(*codes):
    return lambda x: torch.cat([x, *(c.expand(*x.shape[: x.dim() - c.dim()], *c.shape) for c in codes)], -1)


def added(*codes):
    def add(x):
        for code in codes:
            x = x + code
        return x

    return add


def channels_first(code):
    return lambda x: (x.movedim(-1, 1) + code.movedim(-1, 0)).movedim(1, -1)


def coordinates(x):
    side = torch.linspace(-1, 1, SIDE)
    row, column = (c.expand(len(x), 1, -1, -1) for c in torch.meshgrid(side, side, indexing="ij"))
    return torch.cat([x.movedim(-1, 1), row.contiguous(), column.contiguous()], 1).movedim(1, -1)


class Grid(nn.Module):
    """Adds or joins something to a grid, or to the set of grids that it makes of each."""

    def __init__(self, place):
        super().__init__()
        self.place, self.mix = place, nn.LazyLinear(WIDTH)

    def forward(self, x):
        return self.mix(self.place(x))


def told(place, shape=(4, SIDE, SIDE, WIDTH)):
    model = Grid(place)
    model(torch.randn(shape))
    return [(f.severity, dict(f.evidence)) for f in POSITIONS.run(Subject(model=model, batches=(torch.randn(shape),)))]


def apart(first, same):
    return [("warning", {"axis_told_apart": first, "axis_alike": same})]


@pytest.mark.parametrize(
    ("place", "found"),
    [
        pytest.param(joined(torch.cat([ROW, ROW], -1)), apart(1, 2), id="rows twice"),
        pytest.param(joined(torch.cat([COLUMN, COLUMN], -1)), apart(2, 1), id="columns twice"),
        pytest.param(added(torch.cat([ROW, ROW], -1)), apart(1, 2), id="rows twice, added"),
        pytest.param(channels_first(torch.cat([ROW, ROW], -1)), apart(1, 3), id="rows twice, channels first"),
        pytest.param(joined(ROW.contiguous(), ROW.contiguous()), apart(1, 2), id="rows twice, in two parts"),
    ],
)
def test_a_code_that_leaves_an_axis_out(place, found):
    assert told(place) == found


SET = (4, 3, SIDE, SIDE, WIDTH)


@pytest.mark.parametrize(
    ("place", "shape"),
    [
        pytest.param(place, shape, id=name)
        for name, place, shape in (
            ("both halves", joined(torch.cat([ROW, COLUMN], -1)), SET[1:]),
            ("channels first", channels_first(torch.cat([ROW, COLUMN], -1)), SET[1:]),
            ("in two parts", joined(ROW.contiguous(), COLUMN.contiguous()), SET[1:]),
            ("one after the other, broadcast", added(FULL[:, None], FULL), SET[1:]),
            (
                "one after the other, copied",
                added(FULL[:, None].repeat(1, SIDE, 1), FULL[None].repeat(SIDE, 1, 1)),
                SET[1:],
            ),
            ("coordinates", coordinates, SET[1:]),
            ("rows alone, broadcast", added(FULL[:, None]), SET[1:]),
            ("rows alone, expanded", added(FULL[:, None].expand(-1, SIDE, -1)), SET[1:]),
            ("copied over batch and set", added(torch.cat([ROW, COLUMN], -1).repeat(4, 3, 1, 1, 1)), SET),
            ("a constant", added(torch.ones(SIDE, SIDE, WIDTH)), SET[1:]),
            ("a bias", added(torch.randn(WIDTH)), SET[1:]),
            ("a scalar", added(torch.tensor(3.0)), SET[1:]),
            ("FiLM of constants", lambda x: x * torch.randn(WIDTH) + torch.randn(WIDTH), SET[1:]),
            ("noise", lambda x: x + torch.randn_like(x), SET[1:]),
            ("a state of zeros", lambda x: torch.zeros_like(x) + x, SET[1:]),
            ("two streams", lambda x: x + x.mean(2, keepdim=True).repeat(1, 1, SIDE, 1), SET[1:]),
            (
                "a learned token",
                lambda x: torch.cat([torch.randn(1, 1, SIDE, WIDTH).expand(len(x), -1, -1, -1), x], 1),
                SET[1:],
            ),
            ("in place", lambda x: x.clone().add_(torch.cat([ROW, COLUMN], -1)), SET[1:]),
        )
    ],
)
def test_codes_that_are_sound(place, shape):
    assert told(place, shape) == []


@pytest.mark.parametrize("name", ACCEPTANCE)
def test_models_of_the_acceptance_are_silent(name):
    make, batch, loss_fn = ACCEPTANCE[name]
    subject = Subject(model=make(), batches=(batch(),), loss_fn=loss_fn)
    assert POSITIONS.run(subject) == PADDING.run(subject) == []


TOKENS = 6


class Reader(nn.Module):
    """Reads tokens in one of several ways; `there` is True where a token is."""

    def __init__(self, way):
        super().__init__()
        self.way, self.causal = way, way == "causal"
        self.embed, self.query = nn.Linear(4, WIDTH), nn.Parameter(torch.randn(1, 1, WIDTH))
        self.attention, self.head = nn.MultiheadAttention(WIDTH, 2, 0.1, batch_first=True), nn.Linear(WIDTH, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, tokens, there: Any = None):
        x = self.embed(tokens)
        if self.way == "zero keys":
            x = x * there[..., None]
        hidden = ~there if self.way == "masked" else None
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        x, _ = self.attention(x, x, x, key_padding_mask=hidden, attn_mask=mask)
        if self.causal:
            return {"logits": self.head(x)}
        weight = there[..., None].float() if there is not None else torch.ones_like(x[..., :1])
        return {"logits": self.norm(self.head((x * weight).sum(1) / weight.sum(1))), "tokens": x}


class Batch(NamedTuple):
    tokens: torch.Tensor
    there: torch.Tensor


@dataclass
class Pair:
    first: Any
    name: str = "a pair"


LENGTHS = torch.tensor([6, 4, 3, 5])


def batch(lengths=LENGTHS):
    there = torch.arange(TOKENS) < lengths[:, None]
    return Batch(torch.randn(len(lengths), TOKENS, 4) * there[..., None], there)


def read(model, given, loss_fn=None):
    return [(f.severity, f.message) for f in PADDING.run(Subject(model=model, batches=(given,), loss_fn=loss_fn))]


WARNING = [
    (
        "warning",
        "one place less of what `batch.there` marks as padding changes the outputs for 3 padded samples: it is read.",
    )
]


@pytest.mark.parametrize(
    ("way", "found"), [("masked", []), ("zero keys", WARNING), ("unmasked", WARNING), ("causal", [])]
)
def test_padding_that_is_read(way, found):
    assert read(Reader(way), batch()) == found


def test_a_mask_that_the_model_never_gets():
    assert read(Reader("unmasked"), batch(), lambda model, b: model(b.tokens)["logits"].sum()) == WARNING
    assert read(Reader("causal"), batch(), lambda model, b: model(b.tokens)["logits"].sum()) == []


@pytest.mark.parametrize("form", ["mapping", "nested", "torch's own sense"])
def test_batches_of_other_forms(form):
    def loss_fn(model, given):
        if form == "mapping":
            tokens, there = given["tokens"], given["there"]
        elif form == "nested":
            tokens, there = given[0].first
        else:
            tokens, there = given["tokens"], ~given["hidden"]
        return model(tokens, there)["logits"].sum()

    one = batch()
    given = {
        "mapping": one._asdict(),
        "nested": [Pair(one), Pair(batch())],
        "torch's own sense": {"tokens": one.tokens, "hidden": ~one.there},
    }[form]
    ((severity, _),) = read(Reader("zero keys"), given, loss_fn)
    assert severity == "warning" and read(Reader("masked"), given, loss_fn) == []


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(torch.ones(4, TOKENS, dtype=torch.bool), id="nothing is padded"),
        pytest.param(torch.rand(4, TOKENS) < 0.5, id="a label, or tokens to guess"),
        pytest.param(torch.arange(TOKENS) < LENGTHS[:, None], id="not filled: a label"),
        pytest.param(torch.arange(TOKENS) >= 6 - LENGTHS[:, None], id="at the start"),
    ],
)
def test_what_is_no_mask_of_padding(there):
    assert read(Reader("unmasked"), Batch(torch.randn(4, TOKENS, 4), there)) == []


def test_what_cannot_be_asked_is_said():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(TOKENS * 4, 2)

        def forward(self, tokens, there):
            return self.head(tokens.flatten(1))

    class Noisy(Reader):
        def forward(self, tokens, there):
            return super().forward(tokens + torch.randn_like(tokens), there)

    assert read(Fixed(), batch()) == [("note", "not asked: one place of `batch.there` less raises RuntimeError.")]
    assert read(Noisy("masked"), batch()) == [("note", "not asked: the same call gives different outputs.")]
    unseen = read(Reader("masked"), batch(), lambda model, b: model.embed(b.tokens).sum())
    assert unseen == [("note", "not asked: the loss never called the model as a whole.")]
