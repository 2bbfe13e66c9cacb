"""The case at full size: the base, then each variant from it, on a real CLIP and a real data folder.

As in the original (see `stages`), with its epochs, batch sizes and learning rates. Every fifth photograph of each class
and label is held out, so the numbers are of known classes, not zero-shot.
"""

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pitprop._errors import PitpropError
from pitprop.cases._result import CaseResult
from pitprop.cases.clip_anomaly.arms import LADDER
from pitprop.cases.clip_anomaly.cross_attention import VARIANTS
from pitprop.cases.clip_anomaly.folders import Entry, read_folder, read_metadata
from pitprop.cases.clip_anomaly.kept import digest_of_clip, digest_of_photographs, keep, kept
from pitprop.cases.clip_anomaly.loading import load
from pitprop.cases.clip_anomaly.losses import loss, text_loss
from pitprop.cases.clip_anomaly.metrics import Detected, detect, score
from pitprop.cases.clip_anomaly.model import AdaptedCLIP
from pitprop.cases.clip_anomaly.options import PAPER, ClipSize, Options, VariantName
from pitprop.cases.clip_anomaly.paper import PaperCLIP, load_clip
from pitprop.cases.clip_anomaly.population import BETAS, PARTS
from pitprop.cases.clip_anomaly.sample import Batch, collate
from pitprop.cases.clip_anomaly.stages import CONTEXT_IMAGES, LOOP_DECAY

HELD_OUT = 5
"""Every fifth photograph."""
WORKERS, CHUNK = 8, 4
"""Threads that read photographs; images that go through the towers at once where no gradient is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """How long one feedback loop is; the defaults are the base's."""

    text: int = 5
    image: int = 20
    text_batch_size: int = 16
    image_batch_size: int = 2
    text_lr: float = 1e-5
    image_lr: float = 5e-4


BASE = Epochs()
LOOPS = (Epochs(), Epochs(text=3, image=10), Epochs(text=2, image=5))
"""Of the feedback run; the learning rates are halved from loop to loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """One run at full size."""

    folder: Path
    """Takes `log.jsonl` and each variant's weights; a base of the same settings that lies there is loaded."""
    clip: Path
    data: Path
    metadata: Path | None = None
    """Lines that name the photographs of `data`; None: its layout does."""
    variants: tuple[VariantName, ...] = LADDER
    steps: int | None = None
    """Steps of each stage, 1 or more; None: whole epochs."""
    image_size: int = field(default_factory=lambda: PAPER.image_size)
    seed: int = 0


def from_options(folder: Path, options: Options, claims: bool) -> Paper:
    """What the command line asks for.

    Raises:
        PitpropError: `clip` or `data` is missing, or claims are asked for.
    """
    if options.clip is None or options.data is None:
        raise PitpropError(
            "The preset `paper` needs a CLIP and a data folder.",
            means="Neither is bundled, and nothing is downloaded.",
            do="pitprop case clip_anomaly --preset paper --clip FOLDER --data FOLDER",
            read="src/pitprop/cases/clip_anomaly/README.md",
        )
    if claims:
        raise PitpropError(
            "Claims are judged from arms of the preset `laptop` only.",
            do="leave out --claims, or --preset paper.",
        )
    only = options.variant
    chosen: tuple[VariantName, ...] = LADDER if only is None else () if only == "none" else (only,)
    return Paper(
        folder=folder,
        clip=options.clip,
        data=options.data,
        metadata=options.metadata,
        variants=chosen,
        steps=options.paper_steps,
    )


def run_paper(settings: Paper) -> CaseResult:
    """Trains and evaluates; one GPU of 24 GB or more where there is one, otherwise the CPU.

    Raises:
        PitpropError: See `paper.load_clip`, `folders.read_folder`, `folders.read_metadata`; or too few photographs to
            hold any out.
    """
    if settings.steps is not None and settings.steps < 1:
        raise PitpropError(
            f"--paper-steps is {settings.steps}.", do="give 1 or more, or leave it out: then whole epochs are trained."
        )
    lines = settings.metadata
    entries = read_folder(settings.data) if lines is None else read_metadata(lines, settings.data)
    train, held_out = split(entries)
    clip, size = load_clip(settings.clip, settings.image_size)
    names = tuple(sorted({e.class_name for e in entries}))
    settings.folder.mkdir(parents=True, exist_ok=True)
    trained_from = _trained_from(settings, entries)
    base = kept(settings.folder / "none.safetensors", trained_from)
    rows, files = [], [settings.folder / "log.jsonl"]
    for variant in ("none", *settings.variants):
        model = _fresh(settings, clip, size, variant, names, base)
        path = settings.folder / f"{variant}.safetensors"
        if variant == "none" and base is not None:
            _hand_over(model, train, settings.seed, 1)
        else:
            for loop, epochs in enumerate((BASE,) if variant == "none" else LOOPS, start=1):
                _loop(model, train, epochs, settings, variant, loop)
            keep(_trained(model), path, trained_from)
        base = base or _trained(model)
        on, off = (evaluate(model, held_out, cross_attention=value) for value in (True, False))
        rows.append((variant, _line(on) + ("" if variant == "none" else f"; switched off: {_line(off)}")))
        files.append(path)
    title = f"clip_anomaly at full size: {settings.data}"
    return CaseResult(title=title, rows=tuple(rows), files=tuple(files), diagnose=False)


def _trained_from(settings: Paper, entries: Sequence[Entry]) -> dict[str, str]:
    """What the base hangs on."""
    return {
        "clip": digest_of_clip(settings.clip),
        "photographs": digest_of_photographs(entries, settings.data),
        "image size": str(settings.image_size),
        "steps": "whole epochs" if settings.steps is None else str(settings.steps),
        "seed": str(settings.seed),
    }


def split(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Photographs to train on and to hold out: every fifth of each class and label, in the order of the paths."""
    groups: dict[tuple, list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.class_name, entry.label), []).append(entry)
    numbered = [(number, entry) for group in groups.values() for number, entry in enumerate(group)]
    held_out = [entry for number, entry in numbered if number % HELD_OUT == HELD_OUT - 1]
    if not held_out or len({entry.label for entry in held_out}) < 2:
        raise PitpropError(
            f"There are {len(entries)} photographs, too few to hold any out of both kinds.",
            do=f"give at least {HELD_OUT} normal and {HELD_OUT} defective ones of a class.",
        )
    return [entry for number, entry in numbered if number % HELD_OUT != HELD_OUT - 1], held_out


def evaluate(model: AdaptedCLIP, held_out: Sequence[Entry], *, cross_attention: bool = True) -> dict[str, float]:
    """`metrics.score` of each class, mean over the classes where it is defined."""
    found: dict[str, list[float]] = {}
    for name in model.class_names:
        samples = [load(entry, model.size.image_size) for entry in held_out if entry.class_name == name]
        if samples:
            pool = collate(samples, model.class_names)
            seen = detect(model, _on_device(model, pool), cross_attention=cross_attention, chunk=CHUNK)
            for metric, value in score(Detected(seen.maps.cpu(), seen.scores.cpu()), pool.mask, pool.label).items():
                found.setdefault(metric, []).extend([] if math.isnan(value) else [value])
    return {metric: float(np.mean(values)) if values else math.nan for metric, values in found.items()}


def _fresh(
    settings: Paper,
    clip: PaperCLIP,
    size: ClipSize,
    variant: VariantName,
    class_names: tuple[str, ...],
    base: dict[str, Tensor] | None,
) -> AdaptedCLIP:
    """Untrained adapters, or the base's, with a random cross-attention in front of them."""
    torch.manual_seed(settings.seed)
    model = AdaptedCLIP(clip, VARIANTS[variant], size=size, class_names=class_names)
    if base is not None:
        model.load_state_dict(base, strict=False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _loop(model: AdaptedCLIP, train: list[Entry], epochs: Epochs, settings: Paper, variant: str, loop: int) -> None:
    rate = LOOP_DECAY ** (loop - 1)
    for stage, passes, size, lr in (
        ("text", epochs.text, epochs.text_batch_size, epochs.text_lr),
        ("image", epochs.image, epochs.image_batch_size, epochs.image_lr),
    ):
        if stage == "image":
            _hand_over(model, train, settings.seed, loop)
        steps = max(1, passes * len(train) // size) if settings.steps is None else settings.steps
        parts = {part: list(module.parameters()) for part in PARTS[stage] if (module := getattr(model, part))}
        optimizer = torch.optim.Adam([p for part in parts.values() for p in part], lr=rate * lr, betas=BETAS)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(0.5 * steps), round(0.8 * steps)], gamma=0.5)
        with (settings.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            for step, batch in enumerate(batches(model, train, size, steps, (settings.seed, loop, stage == "image"))):
                value = _text_step(model, batch, loop) if stage == "text" else loss(model, batch)
                optimizer.zero_grad()
                value.backward()
                norms = {part: float(torch.nn.utils.get_total_norm(_gradients(parts[part]))) for part in parts}
                optimizer.step()
                schedule.step()
                record = {"variant": variant, "loop": loop, "stage": stage, "step": step, "loss": float(value.detach())}
                log.write(json.dumps(record | {"gradient_norms": norms}) + "\n")


def _gradients(parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _text_step(model: AdaptedCLIP, batch: Batch, loop: int) -> Tensor:
    features, context = model.frozen(batch.image)
    if loop > 1:
        context = model.trained_context(batch)
    return text_loss(model, batch._replace(features=features, context=context), original=True)


@torch.no_grad()
def _hand_over(model: AdaptedCLIP, train: list[Entry], seed: int, loop: int) -> None:
    """The text goes to stage 2, read beside the mean image context of a few photographs."""
    contexts, streams = [], []
    for batch in batches(model, train, CHUNK, max(1, CONTEXT_IMAGES // CHUNK), (seed, loop, 2)):
        contexts.append(model.frozen(batch.image)[1] if loop == 1 else model.trained_context(batch))
        streams.append(model.stream(batch.image).mean(0, keepdim=True))
    model.set_text(torch.cat(streams), torch.cat(contexts).mean(0, keepdim=True))


def batches(model: AdaptedCLIP, entries: list[Entry], size: int, steps: int, key: tuple[int, ...]) -> Iterator[Batch]:
    """Augmented batches on the model's device: whole passes in a random order, from `key` alone."""
    rng = np.random.default_rng(key)
    order = np.concatenate([rng.permutation(len(entries)) for _ in range(-(-steps * size // len(entries)))])
    with ThreadPoolExecutor(WORKERS) as pool:
        for step in range(steps):

            def read(place: int) -> object:
                return load(entries[order[place]], model.size.image_size, np.random.default_rng((*key, place)))

            samples = list(pool.map(read, range(step * size, (step + 1) * size)))
            yield _on_device(model, collate(samples, model.class_names))  # type: ignore[arg-type]


def _on_device(model: AdaptedCLIP, batch: Batch) -> Batch:
    device = model.text_context.device
    return batch._replace(**{name: value.to(device) for name, value in batch._asdict().items() if value is not None})


def _trained(model: AdaptedCLIP) -> dict[str, Tensor]:
    own = {part for parts in PARTS.values() for part in parts}
    return {name: value.cpu().contiguous() for name, value in model.state_dict().items() if name.split(".")[0] in own}


def _line(measured: dict[str, float]) -> str:
    return ", ".join(f"{metric} {value:.3f}" for metric, value in measured.items())
