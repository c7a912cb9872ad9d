"""Insertion and deletion of the same maps by this library, torchcam and Quantus."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial

import clock
import torch
from campanion.inference import fast
from campanion.metrics import insertion_deletion
from cases import SEED, network, random_images
from grid import forward_gflop, quick_rate
from quantus import PixelFlipping
from torch import Tensor, nn
from torch.nn import functional as F
from torchcam.metrics import DeletionInsertionMetric

STEPS = 28  # FD-CAM's: 1,792 of 224 x 224 pixels


class Given:
    """The part of a torchcam extractor that its metric uses, answering with maps made beforehand."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(
        self, class_idx: object = None, scores: object = None, normalized: bool = True, *, targets: object = None
    ) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """The only one."""
        return cams[0]

    def _hooks_off(self) -> nullcontext:
        return nullcontext()


def smooth_maps(count: int, side: int) -> Tensor:
    """Maps as a CAM makes them: 7 x 7 numbers enlarged."""
    small = torch.rand(count, 1, 7, 7, generator=torch.Generator().manual_seed(SEED))
    return F.interpolate(small, (side, side), mode="bilinear")[:, 0]


def sides(model: nn.Module, images: Tensor, maps: Tensor, steps: int = STEPS) -> dict[str, Callable[[], Tensor]]:
    """Functions that give [insertion, deletion], means over the images; Quantus' gives [deletion].

    All change pixels to zeros. Quantus counts a pixel's three colours one by one and wants steps that divide the
    pixels: it takes 2 step of the 3 H W numbers at once. What a scored image costs compares them all.
    """
    with torch.no_grad():
        targets = model(images).argmax(1)
    pixels = images.shape[-2] * images.shape[-1]
    step = -(-pixels // steps)

    def ours() -> Tensor:
        found = insertion_deletion(fast(model), images, maps, targets, step=step, baseline="zero")
        return torch.stack([found.insertion.mean(), found.deletion.mean()])

    def by_torchcam() -> Tensor:
        metric = DeletionInsertionMetric(Given(model, maps), partial(torch.softmax, dim=-1), steps=steps)
        metric.update(images, targets.tolist())
        found = metric.summary()
        return torch.tensor([found["insertion_auc"], found["deletion_auc"]])

    def by_quantus() -> Tensor:
        metric = PixelFlipping(features_in_step=2 * step, perturb_baseline=0.0, normalise=False, disable_warnings=True)
        arrays = {"x_batch": images.cpu().numpy(), "y_batch": targets.cpu().numpy()}
        curves = metric(model, **arrays, a_batch=maps[:, None].cpu().numpy(), device=images.device, softmax=True)
        return torch.tensor(curves).mean().reshape(1)

    return {"campanion": ours, "torchcam": by_torchcam, "quantus": by_quantus}


def measure(repeats: int, device: str, quick: bool) -> dict[str, object]:
    """Times of the three on the same maps."""
    name, count, side, steps = ("scenes_resnet", 2, 64, 16) if quick else ("squeezenet1_1", 2, 224, STEPS)
    model, rate = network(name).to(device), (quick_rate if quick else clock.product_rate)(device)
    images, maps = random_images(count, side).to(device), smooth_maps(count, side).to(device)
    load = os.getloadavg()[0]
    return {
        "network": name, "pictures": count, "steps": steps, "rate_gflops": rate,
        "forward_gflop": forward_gflop(name, side),
        "sides": clock.in_turn(sides(model, images, maps, steps), repeats, device), "left_out": {},
        "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
