"""The two small networks of the generated scenes: one VGG-like, one ResNet-like, both with 64 maps of 8x8 at the end.

They are to the companion what a test card is to a screen: small enough to be committed, trained in minutes, and unlike
in what matters here. ``scenes_vgg`` ends in a head with two hidden layers (truly non-linear), ``scenes_resnet`` in
average pooling and one linear layer.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock

from campanion.data.scenes import CLASS_NAMES
from campanion.errors import unknown

#: Side in pixels of the pictures that the networks were trained on; values in 0..1 are normalised by MEAN and STD.
SIZE = 64
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
#: The layer whose maps are explained: the last ReLU before the last pooling, and the last residual stage.
TARGET_LAYER = {"scenes_vgg": "features.14", "scenes_resnet": "layer3"}


class SceneVGG(nn.Module):
    """VGG in small: 3x3 convolutions with ReLU and max-pooling, then a classifier with two hidden layers.

    With ``batch_norm`` each convolution is followed by batch norm. It is trained so (plain, it does not get off the
    ground within minutes) and stored without: see :meth:`folded`.
    """

    def __init__(self, num_classes: int = len(CLASS_NAMES), hidden: int = 128, batch_norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (16, "pool", 32, "pool", 64, 64, "pool", 64, 64, "pool"):
            if width == "pool":
                layers.append(nn.MaxPool2d(2))
            else:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 2 * 2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Linear(hidden, num_classes),
        )
        _initialise(self)

    def folded(self) -> SceneVGG:
        """The same function in eval mode without batch norm: each one's scale and shift go into its convolution."""
        plain = SceneVGG(self.classifier[-1].out_features, self.classifier[0].out_features)
        layers = list(self.eval().features)
        convolutions = iter([m for m in plain.features if isinstance(m, nn.Conv2d)])
        for layer, following in pairwise(layers):
            if isinstance(layer, nn.Conv2d):
                fused = fuse_conv_bn_eval(layer, following) if isinstance(following, nn.BatchNorm2d) else layer
                next(convolutions).load_state_dict(fused.state_dict())
        plain.classifier.load_state_dict(self.classifier.state_dict())
        return plain.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C] of preprocessed images [B, 3, H, W]; H and W of 64 or more."""
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))


class SceneResNet(nn.Module):
    """ResNet in small: three stages of two basic blocks with batch norm, global average pooling, one linear layer."""

    def __init__(self, num_classes: int = len(CLASS_NAMES)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(16, 16, stride=1)
        self.layer2 = _stage(16, 32, stride=2)
        self.layer3 = _stage(32, 64, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C] of preprocessed images [B, 3, H, W]."""
        maps = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(images))))))
        return self.fc(torch.flatten(self.avgpool(maps), 1))


def _initialise(net: nn.Module) -> None:
    """He initialisation of the convolutions, as torchvision's VGG and ResNet have it."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))


SCENE_NETS: dict[str, type[nn.Module]] = {"scenes_vgg": SceneVGG, "scenes_resnet": SceneResNet}


def build_scene_net(name: str) -> nn.Module:
    """A scene network with random weights, in train mode; :func:`campanion.load_model` brings the trained one.

    Raises:
        ValueError: unknown name.

    Example:
        >>> build_scene_net("scenes_vgg")(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 10])
    """
    if name not in SCENE_NETS:
        raise ValueError(unknown("scene network", name, SCENE_NETS))
    return SCENE_NETS[name]()
