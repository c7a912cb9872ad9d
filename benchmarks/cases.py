"""The comparisons: for each, what we run, what it is compared with, and the goal for their ratio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import peers
import torch
from campanion import explain, load_model
from campanion.cams import explain_game
from campanion.cams.fd import similarity_groups, switching_score
from campanion.game.game import ChannelGame
from campanion.game.split import find_layer, split
from torch import Tensor, nn

SEED = 0
NINE = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam", "ablation_cam", "fd_cam", "lift_cam", "shap_cam", "cam",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two things to run on one image (or batch); a peer's result equals ours."""

    ours: Callable[[], object]
    peer: Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        what: ours, in words.
        against: the peer, in words; for a cost, what the cost is counted in.
        network: name for :func:`campanion.load_model`, with random weights.
        build: makes the pair for a network and images.
        goal: of the ratio; at least this for ``"speed"`` (peer / ours), at most this for ``"cost"`` (ours / unit).
        batch: number of images.
        slow: the peer takes minutes, and runs once.
    """

    what: str
    against: str
    network: str
    build: Callable[[nn.Module, Tensor], Pair]
    goal: float | None
    kind: str = "speed"
    batch: int = 1
    slow: bool = False

    def pair(self) -> Pair:
        """The two things to run."""
        return self.build(network(self.network), random_images(self.batch))


@lru_cache(maxsize=1)
def network(name: str) -> nn.Module:
    """A network with random weights (speed depends on them through the number of hidden units at zero alone).

    Those of this project's scene networks are its own.
    """
    return load_model(name, weights="auto" if name.startswith("scenes_") else "random", seed=SEED)


def random_images(count: int, size: int = 224) -> Tensor:
    """Noise, normalised as images are."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(SEED))


def fresh(game: ChannelGame) -> ChannelGame:
    """The game as one forward pass leaves it, with nothing computed yet."""
    return game.fresh()


def ablation(model: nn.Module, images: Tensor) -> Pair:
    """Image to map, both with every forward pass that they need."""
    target = int(explain(model, images, methods="ablation_cam").targets)
    _, layer = find_layer(model, None)
    return Pair(
        lambda: explain(model, images, target, "ablation_cam").maps["ablation_cam"],
        lambda: peers.grad_cam_maps("AblationCAM", model, layer, images, torch.tensor([target])),
    )


def shapley(batch: int, orderings: int = 1) -> Callable[[nn.Module, Tensor], Pair]:
    """From the activations, the same orderings for both."""

    def build(model: nn.Module, images: Tensor) -> Pair:
        game = ChannelGame.of(model, images)
        target = int(game.logits.argmax())
        order = torch.rand(orderings, game.channels, generator=torch.Generator().manual_seed(SEED)).argsort(1)
        return Pair(
            lambda: fresh(game).shapley(target, orderings, torch.Generator().manual_seed(SEED)).values[0],
            lambda: peers.captum_shapley(peers.tail(model), game.activations, target, order, batch),
        )

    return build


def fd(model: nn.Module, images: Tensor) -> Pair:
    """Image to weights."""
    target = int(explain(model, images, methods="grad_cam").targets)
    _, layer = find_layer(model, None)
    return Pair(
        lambda: explain(model, images, target, "fd_cam").weights["fd_cam"][0],
        lambda: peers.fd_cam(model, layer, peers.tail(model), images, target),
    )


def fd_scores(model: nn.Module, images: Tensor) -> Pair:
    """The loop alone: from the activations to the switching scores."""
    game = ChannelGame.of(model, images)
    target = game.target(None)

    def ours() -> Tensor:
        groups = similarity_groups(game.activations)
        return 2 * switching_score(fresh(game), target, groups)[0]

    return Pair(ours, lambda: peers.fd_cam_scores(peers.tail(model), game.activations, int(target)))


def forward(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """One forward pass without gradients, the unit of the costs."""

    def run() -> Tensor:
        with torch.no_grad():
            return model(images)

    return run


def nine(*methods: str) -> Callable[[nn.Module, Tensor], Pair]:
    """Image to the maps of all ``methods``."""
    return lambda model, images: Pair(
        lambda: explain(model, images, methods=methods, orderings=1), forward(model, images)
    )


def shapley_cost(orderings: int) -> Callable[[nn.Module, Tensor], Pair]:
    """Image to SHAP-CAM's map."""
    return lambda model, images: Pair(
        lambda: explain(model, images, methods="shap_cam", orderings=orderings), forward(model, images)
    )


def fd_cost(model: nn.Module, images: Tensor) -> Pair:
    """FD-CAM and Grad-CAM from the activations: the forward pass, which would make them alike, is not counted."""
    game = ChannelGame.of(model, images)
    return Pair(
        lambda: explain_game(fresh(game), None, ["fd_cam"]), lambda: explain_game(fresh(game), None, ["grad_cam"])
    )


def cut(model: nn.Module, images: Tensor) -> Pair:
    """A forward pass that records the head and keeps its graph, as every ``explain`` makes one, beside a plain one."""
    return Pair(lambda: split(model).play(images), forward(model, images))


_SHAPLEY = "captum ShapleyValueSampling on the head, same ordering"
_PASSES = "forward passes"

CASES: dict[str, Case] = {
    "vgg16_ablation": Case("ablation_cam", "grad-cam AblationCAM", "vgg16", ablation, 200, slow=True),
    "vgg16_shap": Case("shap_cam, 1 ordering", f"{_SHAPLEY} (its default)", "vgg16", shapley(1), 15),
    "vgg16_shap_batched": Case("shap_cam, 1 ordering", f"{_SHAPLEY}, 128 at once", "vgg16", shapley(128), 15),
    "vgg16_fd": Case("fd_cam", "the authors' algorithm, step by step", "vgg16", fd, 6),
    "vgg16_fd_scores": Case("fd_cam's scores", "the authors' loop alone", "vgg16", fd_scores, None),
    "vgg16_together": Case("eight CAMs in one call", _PASSES, "vgg16", nine(*NINE[:-1]), 6, "cost"),
    "vgg16_cut": Case("a pass that cuts the network", _PASSES, "vgg16", cut, None, "cost"),
    "resnet50_ablation": Case("ablation_cam", "grad-cam AblationCAM", "resnet50", ablation, 1000, slow=True),
    "resnet50_together": Case("nine CAMs in one call", _PASSES, "resnet50", nine(*NINE), 6, "cost"),
    "resnet50_cut": Case("a pass that cuts the network", _PASSES, "resnet50", cut, None, "cost"),
    "squeezenet_shap_100": Case("SHAP-CAM_100", _PASSES, "squeezenet1_1", shapley_cost(100), 10, "cost"),
    "squeezenet_shap_10k": Case("SHAP-CAM_10k", _PASSES, "squeezenet1_1", shapley_cost(10_000), None, "cost"),
    "squeezenet_fd": Case(
        "fd_cam, 16 pictures", "grad_cam, forward not counted", "squeezenet1_1", fd_cost, 3, "cost", 16
    ),
    "squeezenet_cut": Case("a pass that cuts the network", _PASSES, "squeezenet1_1", cut, None, "cost"),
}
