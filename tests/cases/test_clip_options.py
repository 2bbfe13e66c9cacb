"""What may be asked of the case, and what is refused before anything is written."""

import pytest

from pitprop import PitpropError
from pitprop.cases.clip_anomaly.options import Options
from pitprop.cases.clip_anomaly.run import expect, run


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (Options(seeds=0), "--seeds is 0"),
        (Options(seeds=-1), "--seeds is -1"),
        (Options(steps=0), "--steps is 0"),
        (Options(steps=-5), "--steps is -5"),
        (Options(context_norm=float("nan")), "--context-norm is nan"),
        (Options(context_norm=float("inf")), "--context-norm is inf"),
        (Options(context_norm=-1.0), "--context-norm is -1"),
        (Options(context_norm=0.0), "--context-norm is 0"),
        (Options(clip="nope"), "`laptop` knows no --clip"),  # type: ignore[arg-type]
        (Options(data="a", metadata="b", paper_steps=1), "`laptop` knows no --data, --metadata, --paper-steps"),  # type: ignore[arg-type]
        (Options(preset="paper", seeds=2, context_norm=1.0), "`paper` knows no --seeds, --context-norm"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_folder_is_made(tmp_path, options, seen):
    with pytest.raises(PitpropError) as refused:
        run(tmp_path / "out", options)
    assert seen in refused.value.seen and refused.value.do
    assert not (tmp_path / "out").exists()


def test_claims_need_every_variant_at_its_own_norms(tmp_path):
    with pytest.raises(PitpropError, match=r"can't be judged with --variant, --context-norm\.\n.*all variants"):
        run(tmp_path / "out", Options(variant="C", context_norm=1.0), claims=True)
    assert not (tmp_path / "out").exists()
    expect(Options(variant="C", context_norm=1.0, seeds=1, steps=1), claims=False)
    expect(Options(seeds=3), claims=True)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_at_full_size_are_refused_before_the_log_is_opened(tmp_path, steps):
    options = Options(preset="paper", clip=tmp_path, data=tmp_path, paper_steps=steps)
    with pytest.raises(PitpropError, match=rf"--paper-steps is {steps}"):
        run(tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
