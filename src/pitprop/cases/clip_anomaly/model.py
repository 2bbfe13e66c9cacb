"""CLIP with adapters and cross-attention in both stages (`AdaptedCLIPWithCrossAttention` of the original).

The towers are frozen. Stage 1 trains `text_adapter` (and `text_cross_attn`), stage 2 `image_adapter` (and
`image_cross_attn`). `text_features` and `text_context` are what stage 1 leaves to stage 2: buffers, no gradient.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pitprop.cases.clip_anomaly.adapters import ImageAdapter, TextAdapter, adapt
from pitprop.cases.clip_anomaly.cross_attention import CrossAttention, Injection
from pitprop.cases.clip_anomaly.options import ClipSize
from pitprop.cases.clip_anomaly.prompts import prompts
from pitprop.cases.clip_anomaly.sample import Batch
from pitprop.cases.clip_anomaly.towers import TwoTowers


class Seen(NamedTuple):
    """What the image side says of a batch, in the common space, L2-normalised per patch."""

    patches: Float[Tensor, "level image patch embed"]
    detection: Float[Tensor, "image embed"]
    """Mean over the patches of the last level's `det_proj`."""


class AdaptedCLIP(nn.Module):
    """The adapted model.

    Args:
        clip: Two towers; frozen here.
        injection: How both cross-attentions are put in; None: the base model, without them.
        size: Of the towers.
        class_names: Classes, in the order of `Batch.class_index`.
        context_norm: Wanted norm of the text context over that of the image stream where it is put in; None leaves the
            context as the text tower gives it. A small CLIP hasn't the token norms of the real one.
        relu: LeakyReLU after the segmentation and detection projections (`--relu` of the original).
    """

    text_features: Tensor
    text_context: Tensor

    def __init__(
        self,
        clip: TwoTowers,
        injection: Injection | None,
        *,
        size: ClipSize,
        class_names: tuple[str, ...],
        context_norm: float | None = None,
        relu: bool = False,
    ):
        super().__init__()
        assert isinstance(clip, nn.Module)  # narrows the type: a Protocol can't say so
        self.clip = clip.requires_grad_(False)
        self.size, self.class_names, self.context_norm = size, class_names, context_norm
        self.image_adapter, self.text_adapter = ImageAdapter(size, relu=relu), TextAdapter(size)
        self.image_cross_attn = self.text_cross_attn = None
        if injection is not None:
            self.image_cross_attn = CrossAttention(size.vision_width, size.embed, size.cross_heads, injection)
            self.text_cross_attn = CrossAttention(size.embed, size.embed, size.cross_heads, injection)
        per_class = [normal + abnormal for normal, abnormal in map(prompts, class_names)]
        self.num_normal = len(prompts(class_names[0])[0])
        ids = torch.stack([clip.text.tokenise(texts) for texts in per_class])
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("text_features", torch.zeros(len(class_names), size.embed, 2))
        keys = ids.shape[1] * ids.shape[2]
        self.register_buffer("text_context", torch.zeros(len(class_names), keys, size.embed))

    def stream(self, image: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image token width"]:
        """The image tower's residual stream after block 0: nothing trained lies before it."""
        return self.clip.visual.blocks[0](self.clip.visual.stem(image))  # type: ignore[operator,index,union-attr]

    def see(
        self,
        stream: Float[Tensor, "image token width"],
        context: Float[Tensor, "image key embed"] | None,
    ) -> Seen:
        """The image side from block 0 on; `context=None` leaves the cross-attention out."""
        visual, x, patches = self.clip.visual, stream, []
        last = x
        for index, block in enumerate(visual.blocks):  # type: ignore[arg-type,union-attr]
            if index > 0:
                x = block(x)
            if index == 0 and context is not None and self.image_cross_attn is not None:
                x = x + self.image_cross_attn(x, context)
            if index < len(self.image_adapter.layers):
                x = adapt(self.image_adapter.layers[index], x)
            if index + 1 in self.size.levels:
                last = visual.ln_post(x[:, 1:])  # type: ignore[operator,union-attr]
                patches.append(F.normalize(self.image_adapter.seg_proj[len(patches)](last), dim=-1))
        detection = F.normalize(self.image_adapter.det_proj(last), dim=-1).mean(1)
        return Seen(torch.stack(patches), detection)

    def forward(self, batch: Batch, *, cross_attention: bool = True) -> Seen:
        """What the image side says; `cross_attention=False` is how the original's test script evaluates."""
        stream = self.stream(batch.image) if batch.stream is None else batch.stream
        return self.see(stream, self.text_context[batch.class_index] if cross_attention else None)

    def read(
        self, image_context: Float[Tensor, "image patch embed"] | None = None
    ) -> tuple[Float[Tensor, "class embed 2"], Float[Tensor, "class key embed"]]:
        """The text side: features of normal and abnormal per class, and the context for stage 2.

        Args:
            image_context: For the stage 1 cross-attention; averaged over the images, because there are more prompts
                than images, as in the original. None leaves it out.

        Returns:
            Normalised means of normalised prompt embeddings; and the tokens after block 0 and its adapter, all prompts
            of a class in a row, padding included as in the original, as they are (see `context_norm`).
        """
        text, ids = self.clip.text, self.ids.flatten(0, 1)  # type: ignore[operator]
        x = text.stem(ids)  # type: ignore[operator,union-attr]
        early = x
        for index, block in enumerate(text.blocks):  # type: ignore[arg-type,union-attr]
            x = block(x)
            if index == 0 and image_context is not None and self.text_cross_attn is not None:
                x = x + self.text_cross_attn(x, image_context.mean(0, keepdim=True))
            if index < len(self.text_adapter.layers):
                x = adapt(self.text_adapter.layers[index], x)
            if index == 0:
                early = x
        end = text.ln_final(x)[torch.arange(len(ids)), text.end(ids)]  # type: ignore[operator,union-attr]
        each = F.normalize(self.text_adapter.proj(end), dim=-1).unflatten(0, (len(self.class_names), -1))
        normal, abnormal = each[:, : self.num_normal].mean(1), each[:, self.num_normal :].mean(1)
        features = torch.stack([F.normalize(normal, dim=-1), F.normalize(abnormal, dim=-1)], -1)
        return features, early.unflatten(0, (len(self.class_names), -1)).flatten(1, 2)

    @torch.no_grad()
    def frozen(self, image: Float[Tensor, "image 3 height width"]) -> tuple[Tensor, Tensor]:
        """What the untrained towers see, for stage 1, with `surgery` in the last blocks.

        Returns:
            Normalised patch features `[level, image, patch, embed]`; and the image context `[image, patch, embed]` of
            loop 1: features of the first level plus the normalised class token of the last.
        """
        visual, found = self.clip.visual, []
        x = visual.stem(image)  # type: ignore[operator,union-attr]
        blocks = visual.blocks  # type: ignore[union-attr]
        for index, block in enumerate(blocks):  # type: ignore[arg-type]
            x = block(x, surgery=index >= len(blocks) - self.size.surgery_layers)  # type: ignore[arg-type]
            if index + 1 in self.size.levels:
                found.append(F.normalize(visual.project(visual.ln_post(x)), dim=-1))  # type: ignore[operator,union-attr]
        levels = torch.stack(found)
        return levels[:, :, 1:], levels[0, :, 1:] + levels[-1, :, :1]

    @torch.no_grad()
    def trained_context(self, batch: Batch) -> Float[Tensor, "image patch embed"]:
        """The image context of loops 2 and later: the trained adapters' features, without the image cross-attention,
        as in the original.
        """
        seen = self(batch, cross_attention=False)
        return seen.patches[0] + seen.detection[:, None]

    @torch.no_grad()
    def set_text(
        self,
        stream: Float[Tensor, "image token width"],
        image_context: Float[Tensor, "image patch embed"] | None = None,
    ) -> None:
        """Hands stage 1's outcome to stage 2, as the original does: features without the image context, text context
        with it; the context's norm is set relative to that of `stream`.
        """
        self.text_features.copy_(self.read()[0])
        context = self.read(image_context)[1]
        if self.context_norm is not None:
            context = context * (self.context_norm * stream.norm(dim=-1).mean() / context.norm(dim=-1).mean())
        self.text_context.copy_(context)
