"""``imagenette_vgg``: VGG11 with batch norm, narrowed until its weights fit into a repository.

A VGG's head has two hidden layers between the maps and the logits, so that methods which agree on a linear head
(LIFT-CAM, SHAP-CAM, Ablation-CAM) differ on it. At 96 pixels the last ReLU before the last pooling has maps of 6x6.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from campanion.models.network import Network, initialise


class ImagenetteVGG(Network):
    """torchvision's ``vgg11_bn`` with a share of its channels, and a classifier with two hidden layers.

    Args:
        num_classes: C.
        width: share of VGG11's 64, 128, 256, 512 channels.
        hidden: units of each hidden layer.
        pooled: side of the maps that the classifier reads, as averages of what the last pooling leaves (3x3 at 96
            pixels).
        dropout: share of the hidden units that a training step leaves out.
        batch_norm: after each convolution.

    Raises:
        ValueError: a width or dropout outside 0..1, no hidden units.

    Example:
        >>> ImagenetteVGG(10)(torch.zeros(1, 3, 96, 96)).shape
        torch.Size([1, 10])
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
        super().__init__()
        if not 0 < width <= 1 or not 0 <= dropout < 1 or hidden < 1 or pooled < 1:
            raise ValueError(
                "imagenette_vgg needs a width in 0..1, a dropout in 0..1 without 1, and at least one hidden unit and "
                f"one pooled position, not {width}, {dropout}, {hidden} and {pooled}."
            )
        layout = [v if v == "M" else max(1, round(v * width)) for v in cfgs["A"]]
        self.features = make_layers(layout, batch_norm=batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        self.classifier = nn.Sequential(
            nn.Linear(layout[-2] * pooled**2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        # the last ReLU, before the last pooling
        self.target_layer = f"features.{len(self.features) - 2}"
        initialise(self)
        nn.init.normal_(self.classifier[-1].weight, std=0.01)
        nn.init.zeros_(self.classifier[-1].bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C] of preprocessed images [B, 3, H, W]; H and W of 32 or more."""
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
