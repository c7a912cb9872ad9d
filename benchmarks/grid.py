"""Every method on four networks and three batch sizes, beside every library that has it: image to map."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial

import clock
import peers
import torch
from campanion import METHODS, explain
from cases import SEED, forward, network, random_images
from torch import Tensor, nn

#: Batch sizes by network. resnet18 is one of those whose faithfulness was measured.
NETWORKS = {
    "squeezenet1_1": (1, 8, 32), "resnet18": (1, 8), "resnet50": (1, 8, 32), "vgg16": (1, 8, 32),
    "densenet121": (1, 8, 32),
}  # fmt: skip
QUICK_NETWORKS = {"scenes_vgg": (1,), "scenes_resnet": (1,)}
QUICK_METHODS = ("forward", "grad_cam", "layer_cam", "score_cam", "ablation_cam", "shap_cam", "lift_cam", "fd_cam")
SIDE = 64  # pixels, of the scene networks

#: lfi_cam and abn belong to networks of their own (training.py).
OURS = tuple(name for name in METHODS if name not in ("lfi_cam", "abn"))
GRAD_CAM = {
    "grad_cam": "GradCAM", "grad_cam_pp": "GradCAMPlusPlus", "xgrad_cam": "XGradCAM", "layer_cam": "LayerCAM",
    "score_cam": "ScoreCAM", "ablation_cam": "AblationCAM",
}  # fmt: skip
TORCHCAM = {
    "cam": "CAM", "grad_cam": "GradCAM", "grad_cam_pp": "GradCAMpp", "xgrad_cam": "XGradCAM", "layer_cam": "LayerCAM",
    "score_cam": "ScoreCAM",
}  # fmt: skip
#: Both libraries weigh Score-CAM's channels by a softmax over them. One ordering: what an ordering costs.
OPTIONS = {"score_cam": {"variant": "cic"}, "shap_cam": {"orderings": 1}}

#: About how many forward passes of the network an image takes, where it is far more than the three of a gradient.
PASSES = {
    "rise": 4000, "lime": 1000, "xrai": 600, "cameras": 190, "smooth_grad": 150, "integrated_gradients": 150,
    "group_cam": 33,
}  # fmt: skip
#: One per channel, in these sides.
PER_CHANNEL = {"score_cam": ("campanion", "grad-cam", "torchcam"), "ablation_cam": ("grad-cam",)}


@dataclass(frozen=True)
class Cell:
    """One method (or ``"forward"``: the network's forward pass) on one network with one batch."""

    network: str
    method: str
    batch: int

    @property
    def name(self) -> str:
        """Such as ``vgg16/fd_cam/8``."""
        return f"{self.network}/{self.method}/{self.batch}"

    def measure(self, repeats: int, device: str, limit: float) -> dict[str, object]:
        """Times, memory and arithmetic of every side whose call takes at most about ``limit`` TFLOP."""
        model = network(self.network).to(device)
        images = random_images(self.batch, SIDE if self.network in QUICK_NETWORKS else 224).to(device)
        load = os.getloadavg()[0]
        rate = (quick_rate if self.network in QUICK_NETWORKS else clock.product_rate)(device)
        chosen, left_out = {}, {}
        for side, function in sides(model, self.method, images).items():
            tflop = passes(model, self.method, side) * self.batch * forward_gflop(self.network, images.shape[-1]) / 1e3
            if tflop <= limit:
                chosen[side] = function
            else:
                left_out[side] = f"about {tflop:.3g} TFLOP a call, above the limit of {limit:g}"
        return {
            "network": self.network, "method": self.method, "batch": self.batch, "rate_gflops": rate,
            "sides": clock.in_turn(chosen, repeats, device, left_out), "left_out": left_out,
            "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1),
            "date": datetime.now(UTC).date().isoformat(),
        }  # fmt: skip


def cells(quick: bool) -> Iterator[Cell]:
    """All of them, a network and batch at a time."""
    for name, batches in (QUICK_NETWORKS if quick else NETWORKS).items():
        for batch in batches:
            for method in QUICK_METHODS if quick else ("forward", *OURS):
                if method != "cam" or name.startswith(("resnet", "densenet")):  # CAM needs such a head
                    yield Cell(name, method, batch)


def sides(model: nn.Module, method: str, images: Tensor) -> dict[str, Callable[[], Tensor]]:
    """``"campanion"`` and every library that has the method, each a function that makes the maps [B, H, W].

    Methods that are captum's or saliency's own code here have no other side.
    """
    if method == "forward":
        return {"campanion": forward(model, images)}
    with torch.no_grad():
        targets = model(images).argmax(1)
    layer = model.get_submodule(model.target_layer)
    found: dict[str, Callable[[], Tensor]] = {"campanion": lambda: ours(model, method, images, targets)}
    if method in GRAD_CAM:
        found["grad-cam"] = partial(peers.grad_cam_maps, GRAD_CAM[method], model, layer, images, targets)
    if method in TORCHCAM:
        options = {"fc_layer": "fc" if hasattr(model, "fc") else "classifier"} if method == "cam" else {}
        found["torchcam"] = partial(
            peers.torchcam_maps, TORCHCAM[method], model, model.target_layer, images, targets, **options
        )
    if method in CAPTUM:
        found["captum"] = partial(CAPTUM[method], model, layer, images, targets)
    if method == "shap_cam":
        channels = peers.activations_of(model, layer, images[:1]).shape[1]
        order = torch.rand(1, channels, generator=torch.Generator().manual_seed(SEED)).argsort(1)
        found["captum"] = partial(peers.captum_shap, model, layer, images, targets, order)
    if method == "fd_cam":
        found["authors"] = partial(peers.authors_fd_cam, model, layer, images, targets)
    return found


CAPTUM = {
    "grad_cam": peers.captum_grad_cam,
    "ablation_cam": peers.captum_ablation,
    "lift_cam": peers.captum_lift,
}


def ours(model: nn.Module, method: str, images: Tensor, targets: Tensor) -> Tensor:
    """This library's maps, with the options of :data:`OPTIONS`."""
    return explain(model, images, targets, method, **OPTIONS.get(method, {})).maps[method]


def passes(model: nn.Module, method: str, side: str) -> int:
    """About how many forward passes a side needs for one image."""
    if side in PER_CHANNEL.get(method, ()):
        return 1 + channels_of(model)
    if side in ("captum", "authors") and method != "grad_cam" and method != "lift_cam":
        return 10  # thousands of passes of the head
    return PASSES.get(method, 1 if method in ("forward", "cam") else 3)


def channels_of(model: nn.Module) -> int:
    """K of the target layer."""
    side = SIDE if model.weights["name"] in QUICK_NETWORKS else 224
    device = next(model.parameters()).device
    return peers.activations_of(
        model, model.get_submodule(model.target_layer), random_images(1, side).to(device)
    ).shape[1]


#: Measured once in a quick run: before each of its jobs it would take longer than the job.
quick_rate = lru_cache(clock.product_rate)


@lru_cache
def forward_gflop(name: str, side: int) -> float:
    """Of one image's forward pass."""
    model = network(name)
    image = random_images(1, side).to(next(model.parameters()).device)
    with clock.Arithmetic() as counter, torch.no_grad():
        model(image)
    return counter.flop / 1e9
