"""The attack on the latents of the original (`diffattack`), all streams at once.

The original image's branch doesn't depend on the adversarial latent, so its attention maps are computed once per image
(`prepare`); the original computes them anew in each iteration, to the same values.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pitprop._errors import PitpropError
from pitprop.cases.timestep_attack import null_text
from pitprop.cases.timestep_attack.backbone import Backbone, Classifier, Control, Weights
from pitprop.cases.timestep_attack.control import AttentionControlEdit, AttentionStore, Maps, cross_variance
from pitprop.cases.timestep_attack.diffusion import Context, Latents, ddim_step, guided_noise, invert
from pitprop.cases.timestep_attack.settings import PAPER, AttackResult, Settings


class Prepared(NamedTuple):
    """What the attack on an image starts from; the first axis is the image."""

    latents: Latents
    """Where the active steps begin."""
    context: Context
    nulls: list[Context]
    """By active step."""
    maps: list[list[Maps]]
    """Self-attention of the original image, by active step and layer."""

    def take(self, index: Int[Tensor, " stream"]) -> "Prepared":
        """One row per stream."""
        maps = [[layer[index] for layer in step] for step in self.maps]
        return Prepared(self.latents[index], self.context[index], [null[index] for null in self.nulls], maps)


class Iteration(NamedTuple):
    """What one attack iteration saw; see `AttackResult`."""

    attack_loss: Float[Tensor, " stream"]
    cross_loss: Float[Tensor, " stream"]
    self_losses: Float[Tensor, "stream timestep"]
    weights: Float[Tensor, "stream timestep"]
    cross_weights: Float[Tensor, "stream timestep"]


def prepare(
    backbone: Backbone,
    images: Float[Tensor, "image channel height width"],
    labels: Int[Tensor, " image"],
    settings: Settings = PAPER,
) -> Prepared:
    """DDIM inversion, null-text optimisation, and the original branch's attention."""
    with torch.no_grad():
        context = backbone.context(labels)
        inversion = invert(backbone, backbone.encode(images), settings.num_steps)
    nulls = null_text.optimise(backbone, inversion, context, settings)
    start = inversion[settings.start_step - 1]
    store = AttentionStore(backbone.cross_queries, keep_self=True)
    prepared = Prepared(start, context, nulls, [])
    with torch.no_grad():
        _denoise(backbone, start, prepared, settings, store)
    return prepared._replace(maps=store.self_maps)


class Attack:
    """An attack in progress, so that a training can make one iteration at a time.

    Args:
        backbone: Frozen.
        classifier: The surrogate, frozen.
        labels: True labels, one per stream.
        prepared: One row per stream.
        weights: With as many streams.
        settings: Numbers of the attack.

    Raises:
        PitpropError: Another number of streams than rows.
    """

    def __init__(
        self,
        backbone: Backbone,
        classifier: Classifier,
        labels: Int[Tensor, " stream"],
        prepared: Prepared,
        weights: Weights,
        settings: Settings,
    ):
        if weights.num_streams != len(labels) or len(labels) != len(prepared.latents):
            raise PitpropError(
                f"The weights have {weights.num_streams} streams, for {len(labels)} images.",
                means="each stream attacks one image with weights of its own.",
                do="repeat the image for each stream, or make the weights with one stream per image.",
            )
        self.backbone, self.classifier, self.labels = backbone, classifier, labels
        self.prepared, self.weights, self.settings = prepared, weights, settings
        self.latents = prepared.latents.clone().requires_grad_()
        self.optimizer = torch.optim.AdamW([self.latents], lr=settings.latent_lr)
        self._label_tokens = backbone.label_tokens(labels)

    def iterate(self) -> Iteration:
        """One iteration: forward, loss, and a step of the latents and of the weights."""
        settings, weights = self.settings, self.weights
        store = AttentionStore(self.backbone.cross_queries)
        # The original counts `self_replace_steps` in all of the schedule's steps, of which only the last are active.
        control = AttentionControlEdit(store, self.prepared.maps, int(settings.num_steps * settings.self_replace_steps))
        final = _denoise(self.backbone, self.latents, self.prepared, settings, control)
        logits = self.classifier(self.backbone.decode(final).clamp(-1, 1))
        attack_loss = -F.cross_entropy(logits, self.labels, reduction="none")
        losses = control.losses()
        factors, cross = weights(losses), weights.cross()
        maps = store.cross_maps
        if not settings.cross_gradient:
            maps = [[layer.detach() for layer in step] for step in maps]
        cross_loss = cross_variance(maps, self._label_tokens, cross if settings.cross_weights == "wired" else None)
        structure = settings.num_active * ((factors * losses).sum(1) + weights.penalty(losses))
        loss = settings.alpha * attack_loss + settings.beta * cross_loss + settings.gamma * structure
        self.optimizer.zero_grad()
        weights.zero_grad()
        # Streams don't mix, and both optimisers are elementwise: the sum trains each stream by itself.
        loss.sum().backward()
        self.optimizer.step()
        weights.step(losses.detach())
        return Iteration(*(part.detach() for part in (attack_loss, cross_loss, losses, factors, cross)))

    @torch.no_grad()
    def images(self) -> Float[Tensor, "stream channel height width"]:
        """What the latents decode to now, in [-1, 1]."""
        final = _denoise(self.backbone, self.latents, self.prepared, self.settings, None)
        return self.backbone.decode(final).clamp(-1, 1)


def attack(
    backbone: Backbone,
    classifier: Classifier,
    images: Float[Tensor, "stream channel height width"],
    labels: Int[Tensor, " stream"],
    weights: Weights,
    settings: Settings = PAPER,
    prepared: Prepared | None = None,
) -> AttackResult:
    """Attacks one image per stream for `settings.iterations`.

    Args:
        backbone: Frozen.
        classifier: The surrogate, frozen.
        images: In [-1, 1].
        labels: True labels.
        weights: Timestep weights, one row per stream; changed in place, as the original's network is.
        settings: Numbers of the attack.
        prepared: What `prepare` returned for these images, where it was kept; one row per stream.

    Returns:
        Adversarial images and what was seen in each iteration.
    """
    prepared = prepare(backbone, images, labels, settings) if prepared is None else prepared
    running = Attack(backbone, classifier, labels, prepared, weights, settings)
    weights.start_image()
    seen = [running.iterate() for _ in range(settings.iterations)]
    return AttackResult(running.images(), *(torch.stack(part) for part in zip(*seen, strict=True)))


def _denoise(
    backbone: Backbone,
    latents: Latents,
    prepared: Prepared,
    settings: Settings,
    control: AttentionStore | AttentionControlEdit | None,
) -> Latents:
    """The active steps, guided."""
    timesteps = backbone.timesteps(settings.num_steps).tolist()[settings.start_step :]
    seen: Control | None = control
    for null, timestep in zip(prepared.nulls, timesteps, strict=True):
        if control is not None:
            control.next_step()
        noise = guided_noise(backbone, latents, timestep, null, prepared.context, settings.guidance, seen)
        latents = ddim_step(backbone, latents, noise, timestep, settings.num_steps)
    return latents
