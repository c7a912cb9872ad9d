"""Confidence with the image multiplied by its map: IIC, AD and ADD (LIFT-CAM, equations 12 to 14)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from campanion.inference import images_at_once
from campanion.metrics.inputs import Model, Scorer, check
from campanion.outputs import Activation, Target


@dataclass(frozen=True)
class ConfidenceResult:
    """Scores of the target class, [B] or [B, M]: ``original`` Y, ``explanation`` O, ``inverted`` D.

    Where Y is exactly 0 (underflow) the two drops are undefined and count as 0.
    """

    original: Tensor
    explanation: Tensor
    inverted: Tensor

    @property
    def iic(self) -> Tensor:
        """Increase in confidence, 1[Y < O] (equation 12): 0.0 or 1.0 per image; higher is better."""
        return (self.original < self.explanation).to(self.original.dtype) + 0 * self.explanation  # NaN stays

    @property
    def average_drop(self) -> Tensor:
        """Average drop, max(0, Y - O) / Y (equation 13), a proportion per image; lower is better."""
        return self._relative((self.original - self.explanation).clamp(min=0))

    @property
    def add(self) -> Tensor:
        """Average drop in deletion, (Y - D) / Y (equation 14), per image; negative where D > Y; higher is better."""
        return self._relative(self.original - self.inverted)

    def summary(self) -> dict[str, Tensor]:
        """``{"IIC", "AD", "ADD"}`` in percent, means over the images: scalars, or [M] for M maps of each image."""
        return {"IIC": 100 * self.iic.mean(0), "AD": 100 * self.average_drop.mean(0), "ADD": 100 * self.add.mean(0)}

    def _relative(self, drop: Tensor) -> Tensor:
        # A probability that underflowed to zero has nothing to lose; one NaN or infinity would spoil the mean.
        defined = ~(self.original <= 0)
        return torch.where(defined, drop / self.original.where(defined, 1.0), 0.0)


@torch.no_grad()
def confidence(
    model: Model,
    images: Tensor,
    maps: Tensor,
    targets: Target,
    *,
    activation: Activation | None = None,
    score: str | None = None,
    batch_size: int | None = None,
) -> ConfidenceResult:
    r"""Scores of the image, of what its map keeps and of what its map takes away.

    With f the score of the target class, s(u(L)) the min-max normalised map at input size and ∘ the elementwise
    product, Y = f(x), O = f(s(u(L)) ∘ x) (equation 11) and D = f((1 - s(u(L))) ∘ x). The *normalised* image is
    multiplied (torch-cam, grad-cam and most published code do so; the paper does not say): a pixel taken away gets
    the mean colour, not black. Equation 14 has no maximum with 0, unlike equation 13. The original is forwarded once
    per image, whatever the number of maps; a block of ``batch_size`` images is in memory at a time.

    Args:
        model: a network, best as ``campanion.inference.fast`` makes it, or a function from images to logits [N, C].
        images: preprocessed (normalised) images [B, 3, H, W].
        maps: min-max normalised maps in 0..1 at input size, [B, H, W], or [B, M, H, W] for M maps of every image.
        targets, activation, batch_size: as in :func:`campanion.metrics.insertion_deletion`.
        score: a name of an activation, as an older word for it; not ``"logit"``: a ratio of logits means nothing.

    Returns:
        a :class:`ConfidenceResult`, probabilities on the images' device.

    Raises:
        ValueError: before any forward, for shapes that disagree, NaN, maps outside 0..1, a bad score or target; after
            the first block, for a target beyond the network's classes.

    Example:
        >>> result = confidence(fast(model), images, explanation.maps["lift_cam"], explanation.targets)
        >>> result.summary()  # {"IIC": ..., "AD": ..., "ADD": ...} in percent
    """
    stacked, classes = check(images, maps, targets, batch_size)
    if score == "logit":
        raise ValueError("score must be 'softmax' or 'sigmoid' here: drops are proportions of a probability.")
    scorer = Scorer(model, targets, activation, score)
    batch_size = batch_size or images_at_once(images, scorer.read.network)
    low, high = stacked.min().item(), stacked.max().item()
    # Interpolation leaves rounding beside 0 and 1; anything more is a map that was not normalised.
    if low < -1e-4 or high > 1 + 1e-4:
        raise ValueError(f"maps must be min-max normalised to 0..1; these run from {low:.4g} to {high:.4g}.")

    def masked(image: Tensor, place: Tensor) -> Tensor:
        """The original at place 0, then each map's explanation and inverted explanation."""
        masks = stacked[image, (place - 1).clamp(min=0) // 2].to(images.dtype)
        masks = torch.where((place % 2 == 0)[:, None, None], 1 - masks, masks)
        masks[place == 0] = 1
        return images[image] * masks[:, None]

    number = stacked.shape[1]
    scores = scorer.in_blocks(classes, 1 + 2 * number, batch_size, masked)
    original = scores[:, :1].expand(-1, number)
    explanation, inverted = scores[:, 1:].unflatten(1, (number, 2)).unbind(-1)
    if maps.ndim == 3:
        original, explanation, inverted = original[:, 0], explanation[:, 0], inverted[:, 0]
    return ConfidenceResult(original, explanation, inverted)
