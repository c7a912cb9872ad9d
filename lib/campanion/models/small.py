"""The small networks that this project trained and commits: two for generated scenes, one for Imagenette.

They are small enough for a repository, are trained in minutes, and differ in their heads: the VGGs have two hidden
layers, where methods that agree on a linear head (LIFT-CAM, SHAP-CAM, Ablation-CAM) differ; ``scenes_resnet`` ends in
average pooling and one linear layer.
"""

from __future__ import annotations

from itertools import chain, pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import cfgs, make_layers

from campanion.data.scenes import CLASS_NAMES
from campanion.models.backbones import ResNet
from campanion.models.network import Network, initialise

#: Side in pixels of the scenes that the networks were trained on; values in 0..1 are normalised by MEAN and STD.
SIZE = 64
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)


def hidden_layers(layers: list[nn.Module], dropout: float) -> nn.Sequential:
    """``layers`` with what VGG has between them, so that the indices are torchvision's."""
    *hidden, last = ((layer, nn.ReLU(inplace=True), nn.Dropout(dropout)) for layer in layers)
    return nn.Sequential(*chain(*hidden), last[0])


class VGG(Network):
    """A VGG in small: torchvision's convolutions, then a classifier with two hidden layers on ``pooled`` x ``pooled``.

    Args:
        layout: channels of each 3x3 convolution, ``"M"`` for a max-pooling.
    """

    def __init__(
        self, layout: list[int | str], num_classes: int, hidden: int, pooled: int, dropout: float, batch_norm: bool
    ) -> None:
        super().__init__()
        self.features = make_layers(layout, batch_norm=batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        layers = [nn.Linear(layout[-2] * pooled**2, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, num_classes)]
        self.classifier = hidden_layers(layers, dropout)
        self.target_layer = f"features.{len(self.features) - 2}"  # the last ReLU, before the last pooling
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C] of preprocessed images [B, 3, H, W]."""
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))


class SceneVGG(VGG):
    """VGG in small: 3x3 convolutions with ReLU and max-pooling, then a classifier with two hidden layers.

    With ``batch_norm`` each convolution is followed by batch norm. It is trained with it (without, the loss hardly
    falls within minutes) and stored without: see :meth:`folded`.
    """

    def __init__(self, num_classes: int = len(CLASS_NAMES), hidden: int = 128, batch_norm: bool = False) -> None:
        super().__init__([16, "M", 32, "M", 64, 64, "M", 64, 64, "M"], num_classes, hidden, 2, 0.2, batch_norm)

    def folded(self) -> SceneVGG:
        """The same function in eval mode without batch norm: each one's scale and shift go into its convolution."""
        plain = SceneVGG(self.classifier[-1].out_features, self.classifier[0].out_features)
        pairs = [pair for pair in pairwise(self.eval().features) if isinstance(pair[1], nn.BatchNorm2d)]
        for pair, conv in zip(pairs, (m for m in plain.features if isinstance(m, nn.Conv2d)), strict=True):
            conv.load_state_dict(fuse_conv_bn_eval(*pair).state_dict())
        plain.classifier.load_state_dict(self.classifier.state_dict())
        return plain.eval()


class SceneResNet(ResNet):
    """ResNet in small: three stages of two basic blocks with batch norm, global average pooling, one linear layer."""

    def __init__(self, num_classes: int = len(CLASS_NAMES)) -> None:
        super().__init__(BasicBlock, (2, 2, 2), (16, 32, 64), "cifar", num_classes=num_classes, stem_width=16)
        self.conv1.stride = (2, 2)


class ImagenetteVGG(VGG):
    """torchvision's ``vgg11_bn`` narrowed until its weights fit into a repository, with two hidden layers.

    At 96 pixels the last ReLU before the last pooling has maps of 6x6. ``width`` is the share of VGG11's 64, 128, 256
    and 512 channels; the classifier reads averages of ``pooled`` x ``pooled``.
    """

    def __init__(
        self,
        num_classes: int = 10,
        width: float = 0.5,
        hidden: int = 512,
        pooled: int = 3,
        dropout: float = 0.3,
        batch_norm: bool = True,
    ) -> None:
        if not 0 < width <= 1 or not 0 <= dropout < 1 or hidden < 1 or pooled < 1:
            raise ValueError(
                "imagenette_vgg needs a width in 0..1, a dropout in 0..1 without 1, and at least one hidden unit and "
                f"one pooled position, not {width}, {dropout}, {hidden} and {pooled}."
            )
        layout = [v if v == "M" else max(1, round(v * width)) for v in cfgs["A"]]
        super().__init__(layout, num_classes, hidden, pooled, dropout, batch_norm)
        nn.init.normal_(self.classifier[-1].weight, std=0.01)
        nn.init.zeros_(self.classifier[-1].bias)
