"""What a user would run instead: other libraries, and FD-CAM's algorithm step by step as its authors describe it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import numpy as np
import torch
from captum.attr import ShapleyValueSampling
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

Head = Callable[[Tensor], Tensor]


def grad_cam_ablation(model: nn.Module, layer: nn.Module, images: Tensor, target: int) -> Tensor:
    """Ablation-CAM maps [B, H, W] by the grad-cam package, with its default batches of 32."""
    with AblationCAM(model=model, target_layers=[layer]) as cam, contextlib.redirect_stderr(io.StringIO()):
        maps = cam(input_tensor=images, targets=[ClassifierOutputTarget(target)] * len(images))
    return torch.from_numpy(maps)


def captum_shapley(head: Head, activations: Tensor, target: int, orderings: Tensor, batch: int) -> Tensor:
    """SHAP-CAM's coefficients [K] by captum's ShapleyValueSampling on the head, for given orderings [n, K].

    ``batch`` coalitions go through the head together (captum's own default is 1).
    """
    channels = activations.shape[1]
    mask = torch.arange(channels).reshape(1, channels, 1, 1).expand_as(activations[:1]).contiguous()
    sampler = ShapleyValueSampling(lambda masked: head(masked)[:, target])
    sampler.permutation_generator = lambda _features, n: iter(orderings[:n].tolist())
    with torch.no_grad():
        values = sampler.attribute(
            activations, feature_mask=mask, n_samples=len(orderings), perturbations_per_eval=batch
        )
    return values[0, :, 0, 0]  # captum gives every member of a feature the feature's value


def fd_cam_scores(head: Head, activations: Tensor, target: int, percentile: float = 5.0, batch: int = 128) -> Tensor:
    """FD-CAM's switching scores [K] as its authors compute them: a group per channel, then 2 K forwards of the head.

    Groups come one channel at a time from NumPy cosines; their masks multiply the activations, ``batch`` at once.
    """
    channels = activations.shape[1]
    vectors = activations[0].flatten(1).numpy()
    lengths = np.linalg.norm(vectors, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.nan_to_num(vectors @ vectors.T / np.outer(lengths, lengths))
    members = torch.zeros(channels, channels)
    for k in range(channels):
        row = torch.from_numpy(cosines[k])
        members[k] = (row > torch.quantile(row, 1 - percentile / 100)).float()
    scores = []
    with torch.no_grad():
        whole = head(activations)[0, target]
        for some in members.split(batch):
            mask = some[:, :, None, None]
            on = head(activations * mask)[:, target]
            off = whole - head(activations * (1 - mask))[:, target]
            scores.append(on + off)
    return torch.cat(scores)


def fd_cam(model: nn.Module, layer: nn.Module, head: Head, images: Tensor, target: int) -> Tensor:
    """FD-CAM's weights [K]: the gradient from a backward pass through the whole network, and the scores above."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = layer.register_forward_hook(keep)
    try:
        model(images)[0, target].backward()
    finally:
        handle.remove()
    gradient = kept[0].grad[0].mean((1, 2))
    model.zero_grad()
    score = fd_cam_scores(head, kept[0].detach(), target)
    return _min_max(gradient) * _min_max(score).exp() - 0.5


def _min_max(values: Tensor) -> Tensor:
    return (values - values.min()) / (values.max() - values.min())
