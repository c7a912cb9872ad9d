"""Insertion and deletion: how fast the score of a class rises or falls as a map's pixels are shown or removed.

Petsiuk et al., RISE (BMVC 2018); FD-CAM Table I (3.6 % a step) and LIFT-CAM Table 4 (2.5 % a step) report it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from campanion.errors import one_of
from campanion.inference import images_at_once
from campanion.metrics.inputs import Model, Scorer, check
from campanion.outputs import Activation, Target

BASELINES = ("blur", "blur51", "zero")


@dataclass(frozen=True)
class CurveResult:
    """Curves [B, P] and areas [B] (or [B, M, P] and [B, M]) on the images' device; ``fractions`` [P] runs 0..1."""

    fractions: Tensor
    insertion_curve: Tensor
    deletion_curve: Tensor

    @property
    def insertion(self) -> Tensor:
        """Area under the insertion curve, per image: higher is better."""
        return torch.trapezoid(self.insertion_curve, self.fractions)

    @property
    def deletion(self) -> Tensor:
        """Area under the deletion curve, per image: lower is better."""
        return torch.trapezoid(self.deletion_curve, self.fractions)

    @property
    def overall(self) -> Tensor:
        """Insertion minus deletion (FD-CAM, section IV-B): higher is better."""
        return self.insertion - self.deletion


@torch.no_grad()
def insertion_deletion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    targets: Target,
    *,
    step: int | float = 1792,
    baseline: str = "blur",
    batch_size: int | None = None,
    activation: Activation | None = None,
    score: str | None = None,
) -> CurveResult:
    r"""Insertion and deletion curves and their areas.

    With the pixels in descending order of the map, S_k the first k of them and f the score of the target class,

    .. math:: ins(k) = f(x \text{ on } S_k,\ start \text{ elsewhere}), \quad
              del(k) = f(0 \text{ on } S_k,\ x \text{ elsewhere})

    are evaluated at k = 0, step, 2 step, ..., HW; the area is the trapezoid over the true fractions k / HW, so that
    a shorter last step weighs what it should. Where the step divides HW it equals RISE's own formula. Pixels of equal
    value keep raster order (row by row from the top left). The original, the start and the empty image are
    forwarded once per image, whatever the number of maps; a block of ``batch_size`` images is in memory at a time.

    Args:
        model: a network, best as ``campanion.inference.fast`` makes it, or a function from images to logits [N, C].
        images: preprocessed (normalised) images [B, 3, H, W]. Zero is the mean colour.
        maps: [B, H, W], or [B, M, H, W] for M maps of every image; only their order of pixels matters.
        targets: classes, integers [B] or one for all; or a sign or a function, as in :func:`campanion.explain`.
        step: pixels a step, a whole number (1792 is 3.57 % of 224 x 224, FD-CAM's 3.6 %: 28 steps), or a fraction of
            the image in (0, 1) (0.025 for LIFT-CAM: the i-th point is at the whole number nearest i step HW).
        baseline: where insertion starts. ``"blur"``: RISE's blur, 11 x 11, sigma 5, zero padding; ``"blur51"``:
            Group-CAM's, 51 x 51, sigma 50, reflected at the border; ``"zero"``. Deletion always ends in zeros.
        batch_size: images a forward; None: :func:`campanion.inference.images_at_once`.
        activation: how logits become probabilities: ``"softmax"``, ``"sigmoid"`` or a function of logits [N, C]. None:
            ``model.activation``, also in wrappers, else a softmax (if the network has none), a sigmoid of one logit.
        score: ``"logit"`` for the logit itself in place of a probability; also an activation's name.

    Returns:
        a :class:`CurveResult`; scores are probabilities (0..1) unless ``score="logit"``.

    Raises:
        ValueError: before any forward, for shapes that disagree, NaN or infinite values, a bad step, baseline, score
            or target; after the first block, for a target beyond the network's classes.

    Example:
        >>> curves = insertion_deletion(fast(model), images, explanation.maps["fd_cam"], explanation.targets)
        >>> curves.insertion.mean(), curves.deletion.mean(), curves.overall.mean()
    """
    stacked, classes = check(images, maps, targets, batch_size)
    channels, height, width = images.shape[1:]
    counts = _counts(step, height * width)
    start = _start(images, baseline)
    scorer = Scorer(model, targets, activation, score)
    batch_size = batch_size or images_at_once(images, scorer.read.network)
    ranks = _ranks(stacked, batch_size)
    number, points = stacked.shape[1], len(counts)
    jobs = _jobs(counts, number, one_end=start is None, device=images.device)
    # Pixels as rows with their channels side by side: what channels_last networks read, and the fastest to mix.
    source = _pixel_rows(images)
    fillers = None if start is None else torch.stack([torch.zeros_like(source), _pixel_rows(start)], 1)

    def masked(image: Tensor, place: Tensor) -> Tensor:
        which, inserting, count = (column[place] for column in jobs)
        shown = (ranks[image, which] < count[:, None]) == inserting[:, None]
        shown = shown[..., None].expand(-1, -1, channels).flatten(1)
        # A block within one image broadcasts it instead of copying it batch_size times.
        pixels = source[image[:1]] if bool(image[0] == image[-1]) else source[image]
        filler = source.new_zeros(()) if fillers is None else fillers[image, inserting.long()]
        return torch.where(shown, pixels, filler).unflatten(1, (height, width, channels)).permute(0, 3, 1, 2)

    scores = scorer.in_blocks(classes, len(jobs[0]), batch_size, masked)
    ends = 2 if start is None else 3
    inner = scores[:, ends:].view(len(images), number, 2, points - 2)
    original, begin, end = (scores[:, i, None, None].expand(-1, number, 1) for i in (0, 1, ends - 1))
    insertion = torch.cat([begin, inner[:, :, 0], original], dim=-1)
    deletion = torch.cat([original, inner[:, :, 1], end], dim=-1)
    fractions = torch.tensor(counts, dtype=torch.float64, device=scores.device).div(counts[-1]).to(scores)
    if maps.ndim == 3:
        insertion, deletion = insertion[:, 0], deletion[:, 0]
    return CurveResult(fractions, insertion, deletion)


def _counts(step: int | float, pixels: int) -> list[int]:
    """Numbers of pixels changed at the points of the curve: 0, ..., ``pixels``, strictly rising."""
    if isinstance(step, bool) or not isinstance(step, (int, float)):
        raise ValueError(f"step must be a whole number of pixels or a fraction in (0, 1), not {step!r}.")
    if isinstance(step, int):
        if not 1 <= step <= pixels:
            raise ValueError(f"step must be 1 to {pixels} pixels (the size of the image), not {step}.")
        return [*range(0, pixels, step), pixels]
    if not 1 / pixels <= step < 1:  # also refuses NaN
        raise ValueError(f"step as a fraction must lie in [1/{pixels}, 1): one pixel at least; got {step}.")
    steps = math.ceil(1 / step - 1e-9)
    rounded = (math.floor(i * step * pixels + 0.5) for i in range(steps))
    return [*(k for k in rounded if k < pixels), pixels]


def _start(images: Tensor, baseline: str) -> Tensor | None:
    """The images where insertion starts; None for zeros."""
    one_of("baseline", baseline, BASELINES)
    if baseline == "zero":
        return None
    if baseline == "blur":
        return _rise_blur(images)
    if min(images.shape[-2:]) < 26:
        raise ValueError("baseline 'blur51' needs images of 26 x 26 pixels or more; use 'blur' or 'zero'.")
    return gaussian_blur(images, [51, 51], [50.0, 50.0])


def _rise_blur(images: Tensor) -> Tensor:
    """RISE's blur (11 x 11, sigma 5): separable, zero padding."""
    from scipy.ndimage import gaussian_filter1d

    # RISE's kernel is a smoothed 11 x 11 unit impulse, whose tails (to 4 sigma) SciPy reflects back into the window: it
    # sums to 1 and is much flatter than a plain truncated Gaussian.
    impulse = F.one_hot(torch.tensor(5, device="cpu"), 11).double()
    channels = images.shape[1]
    kernel = torch.from_numpy(gaussian_filter1d(impulse.numpy(), 5.0)).to(images).expand(channels, 1, 11)
    rows = F.conv2d(images, kernel[..., None, :], padding=(0, 5), groups=channels)
    return F.conv2d(rows, kernel[..., None], padding=(5, 0), groups=channels)


def _pixel_rows(images: Tensor) -> Tensor:
    """[B, 3, H, W] as [B, H * W * 3]."""
    return images.permute(0, 2, 3, 1).flatten(1)


def _ranks(maps: Tensor, batch_size: int) -> Tensor:
    """Place of every pixel (0 = highest value, ties in raster order) [B, M, H * W], int32."""
    rows = maps.flatten(0, 1).flatten(1)
    places = torch.arange(rows.shape[1], device=maps.device, dtype=torch.int32)
    ranks = torch.empty(rows.shape, device=maps.device, dtype=torch.int32)
    for block, out in zip(rows.split(batch_size), ranks.split(batch_size), strict=True):
        order = block.argsort(dim=1, descending=True, stable=True)
        out.scatter_(1, order, places.expand(len(block), -1))
    return ranks.view(*maps.shape[:2], -1)


def _jobs(counts: list[int], maps: int, one_end: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs to score for one image: (map, inserting?, pixels changed); first the end points, shared by its maps."""
    pixels = counts[-1]
    ends = [(0, True, pixels), (0, True, 0)] + ([] if one_end else [(0, False, pixels)])
    inner = [(m, inserting, k) for m in range(maps) for inserting in (True, False) for k in counts[1:-1]]
    which, inserting, count = (torch.tensor(column, device=device) for column in zip(*ends, *inner, strict=True))
    return which, inserting, count.int()
