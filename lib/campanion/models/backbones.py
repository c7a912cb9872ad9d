"""Trainable backbones for both stems, from torchvision's blocks: ResNet, ResNeXt, SE-ResNet and DenseNet-BC.

Parameter names are torchvision's, so that its weights load into the ImageNet forms. ``trunk`` says how the networks of
LFI-CAM's generations (:mod:`campanion.models.lfi`) differ from a plain one:

=================  =================================================================================================
``plain``          as published (He et al.); a 224-pixel image gives 7x7 maps
``last_stride1``   the last stage does not stride: 14x14 maps
``stem_stride1``   the first convolution does not stride: 14x14 maps, four times the multiply-adds everywhere
``three_stages``   the last stage is replaced by three that do not stride, of the width before it, its own, and the
                   width before it again (256, 512, 256): 14x14 maps
=================  =================================================================================================
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import SqueezeExcitation

from campanion.models.network import Backbone, initialise

REDUCTION = 16  # of the channels, in squeeze and excitation


class _Squeezed(nn.Module):
    """A block of torchvision's with squeeze and excitation before the sum (Hu et al., CVPR 2018, fig. 3)."""

    def __init__(self, inplanes: int, planes: int, *args: object, **options: object) -> None:
        super().__init__(inplanes, planes, *args, **options)
        width = planes * self.expansion
        self.se = SqueezeExcitation(width, max(1, width // REDUCTION))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, expansion * planes, h, w]."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if isinstance(self, Bottleneck):
            out = self.bn3(self.conv3(self.relu(out)))
        return self.relu(self.se(out) + identity)


class SEBasicBlock(_Squeezed, BasicBlock):
    """BasicBlock with squeeze and excitation."""


class SEBottleneck(_Squeezed, Bottleneck):
    """Bottleneck with squeeze and excitation."""


class ResNet(Backbone):
    """A residual network of three or four stages.

    Args:
        block: torchvision's ``BasicBlock`` or ``Bottleneck``, or one of the two above.
        depths: blocks in each stage.
        widths: planes of each stage (a Bottleneck gives four times as many channels).
        stem: ``"imagenet"`` (7x7 convolution of stride 2, max-pooling) or ``"cifar"`` (3x3, neither).
        trunk: see the module's head.
        stem_width: channels of the first convolution.
        groups, width_per_group: ResNeXt's cardinality and width, as in torchvision.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: str = "imagenet",
        trunk: str = "plain",
        num_classes: int = 1000,
        stem_width: int = 64,
        groups: int = 1,
        width_per_group: int = 64,
    ) -> None:
        super().__init__()
        self.stem, self.num_classes = stem, num_classes
        self._block, self._groups, self._width_per_group = block, groups, width_per_group
        if stem == "imagenet":
            stride = 1 if trunk == "stem_stride1" else 2
            self.conv1 = nn.Conv2d(3, stem_width, 7, stride, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(3, stem_width, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1, self.relu = nn.BatchNorm2d(stem_width), nn.ReLU(inplace=True)

        self._last, channels = len(depths), stem_width
        for i, (width, depth) in enumerate(zip(widths[:-1], depths[:-1], strict=True), start=1):
            self.add_module(f"layer{i}", self._stage(channels, width, depth, stride=1 if i == 1 else 2))
            channels = width * block.expansion
        self.early_channels, self._last_stage = channels, (widths[-1], depths[-1])
        if trunk == "three_stages":
            stages = []
            for width in (widths[-2], widths[-1], widths[-2]):
                stages.append(self._stage(channels, width, depths[-1], stride=1))
                channels = width * block.expansion
            last = nn.Sequential(*stages)
        else:
            last = self._stage(channels, *self._last_stage, stride=1 if trunk == "last_stride1" else 2)
            channels = widths[-1] * block.expansion
        self.add_module(f"layer{self._last}", last)
        self.channels, self.target_layer = channels, f"layer{self._last}"
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, num_classes)
        initialise(self)

    def _stage(self, channels: int, width: int, depth: int, stride: int) -> nn.Sequential:
        """``depth`` blocks from ``channels`` to ``width * expansion``; the first one strides."""
        out, shortcut = width * self._block.expansion, None
        if stride != 1 or channels != out:
            shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        shape = {"groups": self._groups, "base_width": self._width_per_group}
        first = self._block(channels, width, stride, shortcut, **shape)
        return nn.Sequential(first, *(self._block(out, width, **shape) for _ in range(depth - 1)))

    def branch_stage(self) -> nn.Sequential:
        return self._stage(self.early_channels, *self._last_stage, stride=1)

    def early(self, images: Tensor) -> Tensor:
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for i in range(1, self._last):
            maps = getattr(self, f"layer{i}")(maps)
        return maps

    def late(self, maps: Tensor) -> Tensor:
        return getattr(self, f"layer{self._last}")(maps)

    def classify(self, maps: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.avgpool(maps), 1))


class DenseNet(Backbone, models.DenseNet):
    """DenseNet-BC (Huang et al., CVPR 2017); parameter names are torchvision's.

    Args:
        growth: channels that each layer adds.
        depths: layers in each block.
        stem: ``"imagenet"``, or ``"cifar"``: one 3x3 convolution without norm, ReLU or pooling, as in the paper.
        trunk: ``"plain"``, ``"last_stride1"`` (no pooling before the last block) or ``"stem_stride1"``: see
            the module's head.
    """

    def __init__(
        self, growth: int, depths: Sequence[int], stem: str = "imagenet", trunk: str = "plain", num_classes: int = 1000
    ) -> None:
        super().__init__(growth, tuple(depths), 2 * growth, num_classes=num_classes)
        self.stem, self.num_classes = stem, num_classes
        if stem == "cifar":
            self.features.conv0 = nn.Conv2d(3, 2 * growth, 3, padding=1, bias=False)
            del self.features.norm0, self.features.relu0, self.features.pool0
        elif trunk == "stem_stride1":
            self.features.conv0.stride = (1, 1)
        if trunk == "last_stride1":
            *_, transition, _block, _norm = self.features
            transition.pool = nn.Identity()
        # torchvision's last ReLU is a function call without a name, and a target layer needs one.
        self.features.add_module("relu5", nn.ReLU(inplace=True))
        self.target_layer = "features.relu5"
        self.channels = self.classifier.in_features
        self.early_channels = self.channels - growth * depths[-1]
        initialise(self)

    def branch_stage(self) -> nn.Module:
        # As in ABN's code, the new last block comes after the last pooling.
        stage = copy.deepcopy(self.features[-3])
        initialise(stage)
        return stage

    def early(self, images: Tensor) -> Tensor:
        for step in [*self.features][:-3]:
            images = step(images)
        return images

    def late(self, maps: Tensor) -> Tensor:
        for step in [*self.features][-3:]:
            maps = step(maps)
        return maps

    def classify(self, maps: Tensor) -> Tensor:
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(maps, 1), 1))
