"""Attribution of the input's pixels, by the libraries that do it well: captum and saliency.

Each gives a map [B, H, W]; attributions of the three colours are added by magnitude. Each method imports its library
when it is called: other methods need none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from campanion.cams.captum import captum_call, seed_from
from campanion.cams.methods import Count, Number, method
from campanion.game.game import ChannelGame
from campanion.inference import eval_mode, images_at_once, wide


@method("Gradient", "Simonyan et al., ICLR Workshops 2014", gives="map")
def gradient(game: ChannelGame, target: Tensor) -> Tensor:
    """``|d logit / d x|``, summed over colours (captum's Saliency)."""
    from captum.attr import Saliency

    return _attribute(game, lambda model, x: Saliency(model).attribute(x, target=target))


@method("SmoothGrad", "Smilkov et al., 2017", gives="map")
def smooth_grad(
    game: ChannelGame,
    target: Tensor,
    *,
    samples: Count = 50,
    noise: Number = 0.15,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean of the gradient over images with Gaussian noise of ``noise`` times the image's range (captum).

    Raises:
        ValueError: noise below 0.
    """
    from captum.attr import NoiseTunnel, Saliency

    if noise < 0:
        raise ValueError(f"smooth_grad: noise must be at least 0, not {noise}.")

    def run(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        parts, seed = [], seed_from(generator)  # one seed for all: a map does not depend on the image's neighbours
        for image, c in zip(x.split(1), target.split(1), strict=True):
            # The range is each image's own.
            drawn = {"nt_samples": samples, "nt_samples_batch_size": min(16, images_at_once(image))}
            drawn["stdevs"] = noise * float(image.max() - image.min())
            with captum_call(seed):
                # captum draws its noise in float32.
                tunnel = NoiseTunnel(Saliency(lambda noisy: model(noisy.to(x.dtype))))
                parts.append(tunnel.attribute(image, nt_type="smoothgrad", **drawn, target=c, abs=False))
        return torch.cat(parts)

    return _attribute(game, run)


@method("Integrated Gradients", "Sundararajan et al., ICML 2017", gives="map")
def integrated_gradients(game: ChannelGame, target: Tensor, *, steps: Count = 50) -> Tensor:
    """x times the gradient averaged on the way from the zero (mean colour) image, ``steps`` points (captum)."""
    from captum.attr import IntegratedGradients

    def run(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        points = {"n_steps": steps, "internal_batch_size": min(32, 2 * images_at_once(x))}
        attribute = IntegratedGradients(model).attribute
        pairs = zip(x.split(1), target.split(1), strict=True)
        return torch.cat([attribute(image, target=c, **points) for image, c in pairs])

    return _attribute(game, run)


@method("LIME", "Ribeiro et al., KDD 2016", gives="map")
def lime(
    game: ChannelGame,
    target: Tensor,
    *,
    samples: Count = 1000,
    segments: Count = 50,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Coefficients of a sparse linear model of the logit on the presence of SLIC segments (captum, scikit-image).

    Negative coefficients count as 0: the map says what speaks for the class.
    """
    from captum.attr import Lime
    from skimage.segmentation import slic

    rows, seed = [], seed_from(generator)
    for b, c in enumerate(target.tolist()):
        pixels = game.images[b].permute(1, 2, 0).double().cpu().numpy()
        spread = (pixels - pixels.min()) / max(np.ptp(pixels), 1e-12)
        labels = slic(spread, n_segments=segments, start_label=0)
        mask = torch.as_tensor(labels, device=target.device)[None, None]
        with captum_call(seed):
            drawn = {"n_samples": samples, "perturbations_per_eval": min(32, 2 * images_at_once(game.images))}
            explained = Lime(game.network).attribute(game.images[b : b + 1], target=c, feature_mask=mask, **drawn)
        rows.append(explained[0].mean(0).relu())
    return torch.stack(rows).to(game.images.dtype)


@method("XRAI", "Kapishnikov et al., ICCV 2019", gives="map")
def xrai(game: ChannelGame, target: Tensor) -> Tensor:
    """Regions ranked by their mean integrated gradient (PAIR's saliency library)."""
    from saliency.core import XRAI
    from saliency.core.base import INPUT_OUTPUT_GRADIENTS

    def gradients(images: np.ndarray, call_model_args: dict, expected_keys: list | None = None) -> dict:
        x = torch.as_tensor(np.asarray(images), dtype=game.images.dtype, device=game.images.device)
        x = x.permute(0, 3, 1, 2).contiguous().requires_grad_(True)
        (slope,) = torch.autograd.grad(game.parts(x)[:, call_model_args["class"]].sum(), x)
        return {INPUT_OUTPUT_GRADIENTS: wide(slope).permute(0, 2, 3, 1).cpu().numpy()}

    rows, batch_size = [], min(16, images_at_once(game.images))
    with _differentiated(game):
        for image, c in zip(game.images, target.tolist(), strict=True):
            pixels = wide(image).permute(1, 2, 0).cpu().numpy()  # which has no bfloat16
            if pixels.min() == pixels.max():  # no regions, and saliency divides by the range
                rows.append(np.zeros(pixels.shape[:2]))
                continue
            rows.append(XRAI().GetMask(pixels, gradients, {"class": c}, batch_size=batch_size))
    return torch.from_numpy(np.stack(rows)).to(game.images)


def _attribute(game: ChannelGame, run: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> Tensor:
    with _differentiated(game), captum_call():
        attribution = run(game.parts, game.images.clone())
    return attribution.detach().abs().sum(1)


@contextmanager
def _differentiated(game: ChannelGame) -> Iterator[None]:
    """The network in eval mode, to be differentiated by its images; ValueError where that cannot be."""
    if not game.images.is_floating_point():
        raise ValueError(f"A gradient by the image needs floating-point images; these are {game.images.dtype}.")
    try:
        with eval_mode(game.parts.model, graph=True), torch.enable_grad():
            yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(f"This network cannot be differentiated by its image: {error}") from error
