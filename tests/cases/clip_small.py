"""A tiny system for tests: two blocks, a few images, hardly trained."""

import pytest

from pitprop.cases._folder import FOLDER
from pitprop.cases.clip_anomaly.clip import Pretraining
from pitprop.cases.clip_anomaly.experiment import Settings
from pitprop.cases.clip_anomaly.options import ClipSize
from pitprop.cases.clip_anomaly.stages import Data, Schedule

SIZE = ClipSize(
    image_size=32,
    vision_width=16,
    vision_layers=2,
    text_layers=2,
    embed=8,
    num_heads=2,
    levels=(1, 2),
    surgery_layers=1,
    cross_heads=2,
)
DATA = Data(
    num_train=12,
    num_held_out=12,
    pretraining=Pretraining(size=SIZE, steps=2, batch_size=4, num_images=12),
    base=Schedule(text_steps=1, image_steps=2),
)
QUICK = Schedule(text_steps=1, image_steps=2, text_batch_size=2, image_batch_size=2)
SETTINGS = Settings(seeds=(100, 101), schedule=QUICK, data=DATA, workers=1)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """To be given a name in a test's module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(tmp_path_factory.mktemp("cache")))
        yield
