"""How time grows with channels, orderings, images and their size, and memory with images and orderings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import clock
import peers
import torch
from campanion import explain
from campanion.cams import explain_game
from campanion.game.game import ChannelGame
from cases import SEED, forward, fresh, network, random_images
from torch import Tensor, nn

HIDDEN = 512
METHODS = ("grad_cam", "lift_cam", "ablation_cam", "fd_cam", "shap_cam")
LARGEST = {"images": (100, 1000), "orderings": (100, 1000, 10_000)}


class Wide(nn.Module):
    """A network of one convolution to ``channels`` maps of 7 x 7, and a head of three linear layers like VGG's."""

    target_layer = "target"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem, self.target = nn.Conv2d(3, channels, 8, 8), nn.ReLU()
        layers = [nn.Linear(49 * channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
        self.tail = nn.Sequential(nn.Flatten(), *layers, nn.Linear(HIDDEN, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images of 56 x 56."""
        return self.tail(self.target(self.stem(x)))


def channels(quick: bool, device: str) -> dict[int, dict[str, Callable[[], object]]]:
    """Coefficients from the activations of one image; beside FD-CAM the authors' loop over the same head."""
    points = {}
    for count in (32, 64, 128) if quick else (64, 128, 256, 512, 1024):
        torch.manual_seed(SEED)
        model = Wide(count).to(device).eval()
        game = ChannelGame.of(model, random_images(1, 56).to(device))
        points[count] = {
            name: lambda game=game, name=name: explain_game(fresh(game), None, [name], {"shap_cam": {"orderings": 1}})
            for name in METHODS
        }
        target = int(game.logits.argmax())
        points[count]["fd_cam, the authors' loop"] = lambda model=model, game=game, target=target: peers.fd_cam_scores(
            model.tail, game.activations, target
        )
    return points


def orderings(quick: bool, device: str) -> dict[int, dict[str, Callable[[], object]]]:
    """SHAP-CAM of one image, from its activations."""
    model, side, _ = _small(quick, device)
    game = ChannelGame.of(model, random_images(1, side).to(device))
    return {
        count: {"shap_cam": lambda count=count: fresh(game).shapley(None, count)}
        for count in (1, 10, 100, 1000, 10_000)[: 3 if quick else None]
    }


def images(quick: bool, device: str) -> dict[int, dict[str, Callable[[], object]]]:
    """Images to maps, by the number of images in the batch."""
    model, side, most = _small(quick, device)
    return {
        count: _to_maps(model, random_images(count, side).to(device))
        for count in (1, 2, 4, 8, 16, 32, 64)
        if count <= most
    }


def size(quick: bool, device: str) -> dict[int, dict[str, Callable[[], object]]]:
    """Images to maps, by the side of the image."""
    model, _, _ = _small(quick, device)
    return {
        side: _to_maps(model, random_images(1, side).to(device))
        for side in ((64, 96, 128) if quick else (96, 128, 192, 256, 384, 512))
    }


def _small(quick: bool, device: str) -> tuple[nn.Module, int, int]:
    """A network, the side of its images and the largest batch."""
    name, side, most = ("scenes_vgg", 64, 8) if quick else ("squeezenet1_1", 224, 64)
    return network(name).to(device), side, most


def _to_maps(model: nn.Module, batch: Tensor) -> dict[str, Callable[[], object]]:
    chosen = {
        name: lambda name=name: explain(model, batch, methods=name, **({"orderings": 1} if name == "shap_cam" else {}))
        for name in METHODS
    }
    return {"forward": forward(model, batch), **chosen}


AXES = {"channels": channels, "orderings": orderings, "images": images, "size": size}


def measure(axis: str, repeats: int, device: str, quick: bool) -> dict[str, object]:
    """``lines``: of every method, x and the median seconds by either clock."""
    load, lines = os.getloadavg()[0], {}
    for x, sides in AXES[axis](quick, device).items():
        for name, found in clock.in_turn(sides, repeats, device).items():
            line = lines.setdefault(name, {"x": [], "wall": [], "cpu": [], "added_mb": []})
            line["x"].append(x)
            for key in ("wall", "cpu"):
                line[key].append(found[key]["median"])
            line["added_mb"].append(found["added_mb"])
    return {
        "lines": lines, "network": "a head of three linear layers" if axis == "channels" else _name(quick),
        "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def _name(quick: bool) -> str:
    return "scenes_vgg" if quick else "squeezenet1_1"


def memory(kind: str, threads: int, device: str) -> dict[str, object]:
    """Most memory in MB of a new process that explains so many images, or draws so many orderings (stream.py)."""
    found = {}
    for count in LARGEST[kind]:
        command = [sys.executable, str(Path(__file__).with_name("stream.py")), kind, str(count), str(threads), device]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[count] = json.loads(answer.splitlines()[-1])
    return {
        "x": list(found), "mb": [one["mb"] for one in found.values()], "seconds": [one["s"] for one in found.values()],
        "network": "scenes_vgg", "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
