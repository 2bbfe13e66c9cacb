"""One form for every error: seen, means, do, allow, read."""

import pickle

from pitprop._errors import PitpropError, nearest

FULL = PitpropError(
    "the trace has schema version 9",
    means="a newer pitprop wrote it",
    do="pip install --upgrade pitprop",
    allow="--force",
    read="docs/trace.md",
)


def test_text():
    assert str(FULL) == (
        "the trace has schema version 9\na newer pitprop wrote it\n"
        "Do: pip install --upgrade pitprop\nTo allow: --force\nRead: docs/trace.md"
    )


def test_text_leaves_out_what_is_empty():
    assert str(PitpropError("nothing was seen")) == "nothing was seen"


def test_travels_between_processes():
    back = pickle.loads(pickle.dumps(FULL))
    assert str(back) == str(FULL)
    assert back.do == FULL.do


def test_nearest():
    assert nearest("output-dup", ["output-duplication", "loss-spike"]) == "did you mean `output-duplication`?"
    assert nearest("x", []) == "there are none"
