"""What a user would run instead: other libraries, and FD-CAM's algorithm step by step as its authors describe it.

Maps come back at the image's size, [B, H, W], with each library's own scale of values.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable

import numpy as np
import pytorch_grad_cam
import torch
import torchcam.methods
from captum.attr import DeepLift, FeatureAblation, LayerGradCam, ShapleyValueSampling
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

Head = Callable[[Tensor], Tensor]


def tail(model: nn.Module) -> nn.Sequential:
    """What follows the last maps of a torchvision network (and of this project's scene networks), for captum to take.

    captum's DeepLift needs modules, each used once, with no in-place ReLU.
    """
    if hasattr(model, "fc"):
        steps = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.fc]  # ResNet
    elif hasattr(model, "avgpool"):
        steps = [model.features[-1], model.avgpool, nn.Flatten(), *model.classifier]  # VGG
    elif isinstance(model.classifier, nn.Linear):
        steps = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.classifier]  # DenseNet
    else:
        steps = [*model.classifier, nn.Flatten()]  # SqueezeNet
    return nn.Sequential(*(nn.ReLU() if isinstance(step, nn.ReLU) else step for step in steps)).eval()


def activations_of(model: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """The layer's maps [B, K, h, w] from one forward pass."""
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        with torch.no_grad():
            model(images)
    finally:
        handle.remove()
    return kept[0].clone()  # a later layer may change it in place


def weighted(weights: Tensor, activations: Tensor, size: tuple[int, int]) -> Tensor:
    """ReLU of the weighted sum of maps, enlarged."""
    return enlarged(torch.einsum("bk,bkhw->bhw", weights, activations).relu(), size)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [B, h, w] at the image's size."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def grad_cam_maps(kind: str, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Maps by a class of the grad-cam package, with its defaults."""
    wanted = [ClassifierOutputTarget(c) for c in targets.tolist()]
    with (
        getattr(pytorch_grad_cam, kind)(model=model, target_layers=[layer]) as cam,
        contextlib.redirect_stderr(io.StringIO()),
    ):
        maps = cam(input_tensor=images, targets=wanted)
    model.zero_grad()  # it leaves a gradient on every parameter
    return torch.from_numpy(maps)


def torchcam_maps(kind: str, model: nn.Module, layer: str, images: Tensor, targets: Tensor, **options: str) -> Tensor:
    """Maps by a class of torchcam, with its defaults; those that need no gradient run without."""
    with (
        getattr(torchcam.methods, kind)(model, layer, **options) as cam,
        torch.set_grad_enabled(kind not in ("CAM", "ScoreCAM")),
    ):
        scores = model(images)
        (maps,) = cam(targets.tolist(), scores)
    return enlarged(maps.detach(), images.shape[-2:])


def captum_grad_cam(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Grad-CAM by captum's LayerGradCam."""
    maps = LayerGradCam(model, layer).attribute(images, target=targets, relu_attributions=True)
    return enlarged(maps.detach()[:, 0], images.shape[-2:])


def captum_ablation(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor, batch: int = 32) -> Tensor:
    """Ablation-CAM by captum's FeatureAblation of channels, on what follows the layer, ``batch`` at once."""
    activations = activations_of(model, layer, images)
    with torch.no_grad():
        drops = FeatureAblation(tail(model)).attribute(
            activations, target=targets, feature_mask=_by_channel(activations), perturbations_per_eval=batch
        )
    return weighted(drops[:, :, 0, 0], activations, images.shape[-2:])


def captum_lift(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """LIFT-CAM by captum's DeepLift on what follows the layer, as its authors' code does."""
    activations = activations_of(model, layer, images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets hooks
        lifted = DeepLift(tail(model)).attribute(activations.requires_grad_(), target=targets).detach()
    activations = activations.detach()
    return weighted(lifted.sum((2, 3)), activations, images.shape[-2:])


def captum_shap(
    model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor, orderings: Tensor, batch: int = 32
) -> Tensor:
    """SHAP-CAM for given orderings [n, K] by captum's ShapleyValueSampling, image by image."""
    activations, head = activations_of(model, layer, images), tail(model)
    weights = [
        captum_shapley(head, one, target, orderings, batch)
        for one, target in zip(activations.split(1), targets.tolist(), strict=True)
    ]
    return weighted(torch.stack(weights), activations, images.shape[-2:])


def authors_fd_cam(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """FD-CAM's maps, the authors' algorithm image by image."""
    head = tail(model)
    pairs = zip(images.split(1), targets.tolist(), strict=True)
    weights = torch.stack([fd_cam(model, layer, head, one, target) for one, target in pairs])
    return weighted(weights, activations_of(model, layer, images), images.shape[-2:])


def _by_channel(activations: Tensor) -> Tensor:
    """captum's feature mask with a feature per channel [1, K, h, w]."""
    channels = torch.arange(activations.shape[1], device=activations.device).reshape(1, -1, 1, 1)
    return channels.expand_as(activations[:1]).contiguous()


def captum_shapley(head: Head, activations: Tensor, target: int, orderings: Tensor, batch: int) -> Tensor:
    """SHAP-CAM's coefficients [K] by captum's ShapleyValueSampling on the head, for given orderings [n, K].

    ``batch`` coalitions go through the head together (captum's own default is 1).
    """
    sampler = ShapleyValueSampling(lambda masked: head(masked)[:, target])
    sampler.permutation_generator = lambda _features, n: iter(orderings[:n].tolist())
    with torch.no_grad():
        values = sampler.attribute(
            activations, feature_mask=_by_channel(activations), n_samples=len(orderings), perturbations_per_eval=batch
        )
    return values[0, :, 0, 0]  # captum gives every member of a feature the feature's value


def fd_cam_scores(head: Head, activations: Tensor, target: int, percentile: float = 5.0, batch: int = 128) -> Tensor:
    """FD-CAM's switching scores [K] as its authors compute them: a group per channel, then 2 K forwards of the head.

    Groups come one channel at a time from NumPy cosines; their masks multiply the activations, ``batch`` at once.
    """
    channels = activations.shape[1]
    vectors = activations[0].flatten(1).cpu().numpy()
    lengths = np.linalg.norm(vectors, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.nan_to_num(vectors @ vectors.T / np.outer(lengths, lengths))
    members = torch.zeros(channels, channels, device=activations.device)
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
