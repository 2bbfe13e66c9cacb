"""The full-size attack from the command line; every folder is local, nothing is downloaded.

    python -m pitprop.cases.timestep_attack.paper_run --stable-diffusion FOLDER --surrogate FOLDER --images FOLDER \\
        --mode learnable --mode fixed --out FOLDER

Writes an adversarial image per image and mode, `weights.npz` (weights and unweighted losses by iteration, what a trace
would hold) and `summary.json` with the success among images that the surrogate labelled rightly, and with what the
rule `loss-weight-collapse` says of each mode.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pitprop._errors import PitpropError
from pitprop.cases._claims import plain
from pitprop.cases.timestep_attack.detection import watch_weights
from pitprop.cases.timestep_attack.paper import Attacked, attack_images, load
from pitprop.cases.timestep_attack.settings import PAPER, Settings
from pitprop.cases.timestep_attack.stable_diffusion import RESOLUTION
from pitprop.cases.timestep_attack.weights import INITIAL, MODES, Mode, Stream


def main(arguments: Sequence[str] | None = None, settings: Settings = PAPER) -> int:
    """0 when all images were attacked, 2 for input that can't be worked with.

    Args:
        arguments: By default the command line's.
        settings: Numbers of the attack.
    """
    parser = argparse.ArgumentParser(prog="python -m pitprop.cases.timestep_attack.paper_run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for name, what in (
        ("stable-diffusion", "folder of Stable Diffusion 2 base as diffusers saves it"),
        ("surrogate", "folder of an ImageNet classifier as transformers saves it"),
        ("images", "folder with images/ and labels.txt"),
        ("out", "folder to write to"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=what)
    parser.add_argument("--mode", action="append", choices=MODES, help="weight mode, repeatable; by default learnable")
    parser.add_argument("--num-images", type=int, help="only the first so many")
    parser.add_argument(
        "--class-names", type=Path, help="1000 prompts, one per line; by default the surrogate's labels"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weight network")
    parser.add_argument("--resolution", type=int, default=RESOLUTION)
    parser.add_argument("--device", help="by default the GPU where there is one")
    given = parser.parse_args(arguments)
    modes: tuple[Mode, ...] = tuple(dict.fromkeys(given.mode or ["learnable"]))
    streams = [Stream(mode=mode, seed=given.seed, schedule=INITIAL[-settings.num_active :]) for mode in modes]
    try:
        paper = load(
            given.stable_diffusion,
            given.surrogate,
            given.images,
            class_names=given.class_names,
            resolution=given.resolution,
            device=given.device,
        )
        given.out.mkdir(parents=True, exist_ok=True)
        found = []
        for image in attack_images(paper, streams, num_images=given.num_images, settings=settings):
            _write(image, modes, given.out)
            found.append((image.clean, image.fooled, image.result.weights.cpu(), image.result.self_losses.cpu()))
            fooled = ", ".join(
                f"{mode} {'fooled' if it else 'right'}" for mode, it in zip(modes, image.fooled, strict=True)
            )
            print(f"{image.photograph.path.name}: {'' if image.clean else 'wrong from the start, '}{fooled}")
    except (PitpropError, torch.OutOfMemoryError) as error:
        print(error, file=sys.stderr)
        return PitpropError.exit_code
    weights, losses = (torch.cat(part).double().numpy() for part in list(zip(*found, strict=True))[2:])
    np.savez(given.out / "weights.npz", weights=weights, losses=losses, modes=np.array(modes))
    summary = {mode: _summary(row, found, weights, losses) for row, mode in enumerate(modes)}
    (given.out / "summary.json").write_text(json.dumps(plain(summary), indent=1) + "\n")
    for mode, told in summary.items():
        print(f"{mode}: success {told['fooled']} of {told['clean']}; {told['detection']['message'] or 'no finding'}")
    return 0


def _write(image: Attacked, modes: Sequence[str], out: Path) -> None:
    for mode, pixels in zip(modes, image.result.images, strict=True):
        levels = ((pixels.permute(1, 2, 0) + 1) * 127.5).round().byte().cpu().numpy()
        Image.fromarray(levels).save(out / f"{image.photograph.path.stem}-{mode}.png")


def _summary(row: int, found: list, weights: np.ndarray, losses: np.ndarray) -> dict:
    return {
        "clean": sum(clean for clean, *_ in found),
        "fooled": sum(clean and fooled[row] for clean, fooled, *_ in found),
        "images": len(found),
        "first": weights[0, row],
        "last": weights[-1, row],
        "detection": watch_weights(weights[:, row], losses[:, row])._asdict(),
    }


if __name__ == "__main__":
    sys.exit(main())
