"""DenseNet-BC backbones for both stems: torchvision's DenseNet, with its stem exchanged for CIFAR."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from campanion.models.network import Backbone, initialise


class DenseNet(models.DenseNet, Backbone):
    """DenseNet-BC (Huang et al., CVPR 2017); parameter names are torchvision's.

    Args:
        growth: channels that each layer adds.
        depths: layers in each block.
        stem: ``"imagenet"``, or ``"cifar"``: one 3x3 convolution without norm, ReLU or pooling, as in the paper.
        trunk: ``"plain"``, ``"last_stride1"`` (no pooling before the last block) or ``"stem_stride1"``: see
            :mod:`campanion.models.backbones_resnet`.
    """

    def __init__(
        self,
        growth: int,
        depths: Sequence[int],
        stem: str = "imagenet",
        trunk: str = "plain",
        num_classes: int = 1000,
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
        """See :meth:`Backbone.branch_stage`: a new last block. As in ABN's code it comes after the last pooling."""
        block, _norm, _relu = [*self.features][-3:]
        stage = copy.deepcopy(block)
        initialise(stage)
        return stage

    def early(self, images: Tensor) -> Tensor:
        """See :meth:`Backbone.early`."""
        for step in [*self.features][:-3]:
            images = step(images)
        return images

    def late(self, maps: Tensor) -> Tensor:
        """See :meth:`Backbone.late`: the last dense block, batch norm and ReLU."""
        for step in [*self.features][-3:]:
            maps = step(maps)
        return maps

    def classify(self, maps: Tensor) -> Tensor:
        """See :meth:`Backbone.classify`."""
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(maps, 1), 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        return self.classify(self.maps(images))
