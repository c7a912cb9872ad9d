"""What every network of :func:`campanion.models.build_model` answers to: the protocol between networks and training.

============================  =======================================================================================
``network(images)``           logits [B, C]
``network.loss(images, y)``   (loss, logits): the network's own loss, one term or two, and the logits for the accuracy
``network.attention_map(x)``  the learned map [B, h, w]; LFI-CAM and ABN only
``network.preprocess``        PIL image -> [3, H, W]; its ``mean`` and ``std`` are those that training must use
``network.target_layer``      dotted name of the layer that :func:`campanion.explain` weighs
``network.class_names``       a list of C names
``network.weights``           facts of the weights: name, origin, sha256, as :func:`campanion.load_model` has them
``network.learned_map``       the method of ``explain`` that shows this map: ``"lfi_cam"``, ``"abn"`` or None
``network.unused``            names of the parameters that the loss does not reach (FIN in generation ``table3``)
============================  =======================================================================================

A training loop that wraps the network (``DistributedDataParallel``, ``torch.compile``) must go through ``forward`` to
reach the loss: :class:`Objective` is a module whose forward is ``network.loss``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Network(nn.Module):
    """A classifier that knows its own loss; see the module's head for the protocol."""

    preprocess: Callable
    class_names: list[str]
    weights: dict[str, object]
    target_layer: str
    unused: tuple[str, ...] = ()
    learned_map: str | None = None

    def loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy (a scalar) and logits [B, C] of preprocessed images [B, 3, H, W].

        ``targets`` are class indices [B], or probabilities [B, C] (as mixing augmentations give them).
        """
        logits = self(images)
        return F.cross_entropy(logits, targets), logits


class Backbone(Network):
    """A plain classifier in pieces: ``logits = classify(late(early(images)))``.

    An attention branch reads the maps between the pieces: ABN after ``early``, LFI-CAM after ``late``.
    """

    stem: str  #: "imagenet" or "cifar"
    num_classes: int  #: C
    early_channels: int  #: of the maps of early
    channels: int  #: K, of the maps of late, which the classifier averages over space

    def early(self, images: Tensor) -> Tensor:
        """Maps before the last stage, [B, early_channels, h', w']."""
        raise NotImplementedError

    def late(self, maps: Tensor) -> Tensor:
        """F_last [B, K, h, w], not negative: the last stage's maps."""
        raise NotImplementedError

    def classify(self, maps: Tensor) -> Tensor:
        """Logits [B, C]: global average pooling, then one linear layer."""
        raise NotImplementedError

    def branch_stage(self) -> nn.Module:
        """A new last stage without striding, from ``early_channels`` to ``channels``: what ABN's branch starts with."""
        raise NotImplementedError

    def maps(self, images: Tensor) -> Tensor:
        """F_last [B, K, h, w] of preprocessed images."""
        return self.late(self.early(images))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        return self.classify(self.maps(images))


class Objective(nn.Module):
    """A network's loss as a module, for wrappers that replace ``forward``: the network itself stays free of them."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, logits)."""
        return self.network.loss(images, targets)


class Attending(Network):
    """A network that makes an attention map in its forward pass: LFI-CAM and ABN."""

    def forward_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, C] and the attention map [B, h, w] in 0..1 of one forward pass of images [B, 3, H, W]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        return self.forward_with_map(images)[0]

    def attention_map(self, images: Tensor) -> Tensor:
        """The attention map [B, h, w] alone."""
        return self.forward_with_map(images)[1]


def seeded(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """What ``build`` makes with random weights of ``seed``; the global generator is not touched."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def random_weights(name: str, seed: int) -> dict[str, object]:
    """The facts (``network.weights``) of random weights."""
    return {"name": name, "origin": f"random, seed {seed}", "sha256": None}


@torch.no_grad()
def initialise(net: nn.Module) -> None:
    """He initialisation of the convolutions (fan out), batch norm as the identity: as in torchvision's ResNet.

    For the 3x3 convolutions of CIFAR networks it is the N(0, sqrt(2 / (k k out))) of the authors' code.
    A network on the meta device stays as it is: its weights have no values, and drawing none of them takes long.
    """
    if all(parameter.is_meta for parameter in net.parameters()):
        return
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
