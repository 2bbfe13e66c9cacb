"""A tiny system for tests: two blocks, a few images, hardly trained."""

from pitprop.cases.clip_anomaly.clip import Pretraining
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
