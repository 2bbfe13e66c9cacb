"""`pitprop case timestep_attack --preset paper`: the attack at full size; every folder is local, nothing is downloaded.

Writes an adversarial image per image and mode, `weights.npz` (weights and unweighted losses by iteration, what a trace
would hold) and `summary.json` with the success among images that the surrogate labelled rightly, and with what the
rule `loss-weight-collapse` says of each mode. Of a run that breaks off, both hold the images that were done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pitprop._errors import PitpropError
from pitprop.cases._claims import store
from pitprop.cases._result import CaseResult
from pitprop.cases.timestep_attack.detection import watch_weights
from pitprop.cases.timestep_attack.experiment import Plan, streams_of
from pitprop.cases.timestep_attack.imagenet_folder import READ, load_image, read_folder
from pitprop.cases.timestep_attack.options import Options
from pitprop.cases.timestep_attack.paper import Attacked, attack_images, load
from pitprop.cases.timestep_attack.settings import PAPER, Settings
from pitprop.cases.timestep_attack.weights import Stream
from pitprop.trials.progress import Meter, OnProgress

SUMMARY, WEIGHTS = "summary.json", "weights.npz"
DEVICES = ("cpu", "cuda", "mps", "xpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class FullSize:
    """One run at full size; see `Options`."""

    stable_diffusion: Path
    surrogate: Path
    data: Path
    streams: dict[str, Stream]
    """By name; each image is attacked under all of them."""
    images: int | None = None
    class_names: Path | None = None
    resolution: int = Options.resolution
    device: str | None = None
    attack: Settings = field(default_factory=lambda: PAPER)


class _Done(NamedTuple):
    """One image under all streams, on the host."""

    clean: bool
    fooled: list[bool]
    weights: Float[Tensor, "iteration stream timestep"]
    losses: Float[Tensor, "iteration stream timestep"]


def from_options(options: Options, plan: Plan, *, claims: bool = False) -> FullSize:
    """What the command line asks for; `plan` holds what both presets know.

    Raises:
        PitpropError: A folder isn't named, a resolution that is none, a device that isn't there, or claims.
    """
    given = {name: getattr(options, name) for name in ("stable_diffusion", "surrogate", "data")}
    if missing := [f"--{name.replace('_', '-')}" for name, folder in given.items() if folder is None]:
        raise PitpropError(
            f"The preset `paper` needs {', '.join(missing)}.",
            means="none of it is bundled, and nothing is downloaded.",
            do="pitprop case timestep_attack --preset paper --stable-diffusion FOLDER --surrogate FOLDER --data FOLDER",
            read=READ,
        )
    if claims:
        raise PitpropError(
            "Claims are judged from runs of the preset `laptop` only.", do="leave out --claims, or --preset paper."
        )
    if options.resolution < 1:
        raise PitpropError(
            f"The resolution {options.resolution} is no number of pixels.", do="take the original's 224."
        )
    if options.device is not None:
        _expect_device(options.device)
    return FullSize(
        **given,
        streams=streams_of(plan if options.mode else replace(plan, modes=("learnable",))),
        images=options.images,
        class_names=options.class_names,
        resolution=options.resolution,
        device=options.device,
    )


def run_paper(folder: Path, asked: FullSize, progress: OnProgress | None = None) -> CaseResult:
    """Attacks image by image into `folder`, which exists. All images are opened before anything is loaded.

    Raises:
        PitpropError: Something that is read is missing or damaged (see `paper.load`), or the device has too little
            memory.
    """
    photographs = read_folder(asked.data)[: asked.images]
    for photograph in photographs:
        load_image(photograph.path, asked.resolution)
    meter = Meter(progress, len(photographs))
    meter.enter("loading Stable Diffusion and the surrogate")
    done: list[_Done] = []
    pictures: list[Path] = []
    try:
        paper = load(
            asked.stable_diffusion,
            asked.surrogate,
            asked.data,
            class_names=asked.class_names,
            resolution=asked.resolution,
            device=asked.device,
        )
        meter.enter(f"attacking {len(photographs)} images in {len(asked.streams)} streams")
        active = asked.attack.num_active
        streams = [replace(stream, schedule=stream.schedule[-active:]) for stream in asked.streams.values()]
        for image in attack_images(paper, streams, num_images=asked.images, settings=asked.attack):
            pictures += _drawn(image, asked, folder)
            done.append(_Done(image.clean, image.fooled, image.result.weights.cpu(), image.result.self_losses.cpu()))
            meter.tick()
    except torch.OutOfMemoryError as error:
        raise PitpropError(
            f"Attacking in {len(asked.streams)} streams at once takes too much memory: {error}",
            do="take one --mode, fewer --seeds, a smaller --resolution, or --device cpu.",
        ) from error
    finally:
        summary = _summarised(done, asked, folder) if done else {}
    rows = [
        (name, f"success {told['fooled']} of {told['clean']}; {told['detection']['message'] or 'no finding'}")
        for name, told in summary.items()
    ]
    files = (folder / SUMMARY, folder / WEIGHTS, *pictures)
    return CaseResult(title="timestep_attack at full size", rows=tuple(rows), files=files, diagnose=False)


def _drawn(image: Attacked, asked: FullSize, folder: Path) -> list[Path]:
    paths = [folder / f"{image.photograph.path.stem}-{name}.png" for name in asked.streams]
    for path, pixels in zip(paths, image.result.images, strict=True):
        levels = ((pixels.permute(1, 2, 0) + 1) * 127.5).round().byte().cpu().numpy()
        Image.fromarray(levels).save(path)
    return paths


def _summarised(done: Sequence[_Done], asked: FullSize, folder: Path) -> dict[str, Any]:
    """Writes what there is of a run."""
    weights, losses = (
        torch.cat([getattr(one, name) for one in done]).double().numpy() for name in ("weights", "losses")
    )
    np.savez(folder / WEIGHTS, weights=weights, losses=losses, modes=np.array(list(asked.streams)))
    summary = {
        name: {
            "clean": sum(one.clean for one in done),
            "fooled": sum(one.clean and one.fooled[row] for one in done),
            "images": len(done),
            "first": weights[0, row],
            "last": weights[-1, row],
            "detection": watch_weights(weights[:, row], losses[:, row])._asdict(),
        }
        for row, name in enumerate(asked.streams)
    }
    store(summary, folder / SUMMARY)
    return summary


def _expect_device(name: str) -> None:
    try:
        there = torch.device(name).type in DEVICES and torch.empty(1, device=name) is not None
        why = f"the known kinds are {', '.join(DEVICES)}"
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's ways to say that it isn't there
        there, why = False, str(error).splitlines()[0]
    if not there:
        raise PitpropError(f"There is no device `{name}`: {why}", do="leave out --device, or take cpu.")
