"""The Feature Importance Network of LFI-CAM, and the three generations that papers and code know of it.

The authors' article, its supplement and their repository's history do not describe one network. A result must say which
of the following it is from:

================  =======================  ================================  ========================================
\\                 ``table3``               ``published``                     ``paper`` (default)
================  =======================  ================================  ========================================
source            repository, 2021-03-05   repository, since 2021-06-05      eq. 5-10 and the supplement's Table 1,
                                                                             read literally
sizes match       the paper's Table 3      the supplement's Table 1          the supplement's Table 1
F, ImageNet stem  14x14: the last stage    14x14: the first convolution      14x14: the last stage does not stride
                  becomes three            does not stride
gray (eq. 5)      mean of the normalised   mean of the normalised colours    luma of the picture in 0..1
                  colours
Down (eq. 5)      bilinear, aliased        bilinear, aliased                 mean over each cell
s (eq. 6)         (F - min) /              (F - min) / (max - min); a        (F - min) / (max - min); a constant
                  (max - min + 1e-5)       constant channel becomes 1, a     channel becomes 0
                                           dead one 0
FIN (eq. 7)       four 1x1 convolutions,   four 3x3 convolutions, N each,    four 3x3 convolutions, N each, ReLU after
                  2N, 2N, N, N, ReLU       ReLU after each (CIFAR stem:      each
                  after 2nd and 4th        after 2nd and 4th)
softmax over N    no                       yes                               yes (the supplement's output layer)
L to 0..1 over    the whole batch          each picture                      each picture
constant L        left as it is            left as it is                     becomes 0
gradient          none through L: FIN      through L                         through L
                  stays as initialised
================  =======================  ================================  ========================================

In ``table3`` a picture's logits depend on the pictures beside it in the batch, in training and in evaluation.
The paper does not say how ResNet gives maps of 14x14 (section 3.2); ``paper`` takes the cheapest change that does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from campanion.models.network import initialise

#: What becomes of FIN: trained with the rest; never trained, as in generation ``table3``; absent, every weight 1 / N.
FINS = ("trained", "frozen", "none")

# Differences below it are not stretched to 0..1: the slope of a min-max normalisation, 1 / (max - min), stays finite.
_SMALLEST_SPAN = 1e-5


@dataclass(frozen=True)
class Generation:
    """One column of the table in the module's head.

    Attributes:
        trunk: how the backbone differs from a plain one (:mod:`campanion.models.backbones_resnet`), ImageNet stem;
            with the CIFAR stem only ``three_stages`` applies.
        kernel: side of FIN's convolutions.
        widths: FIN's four widths, in units of N.
        relu_after: which of FIN's four batch norms (counted from 1) a ReLU follows, for the ImageNet stem.
        relu_after_cifar: the same for the CIFAR stem.
        softmax: over the N scores.
        luma: gray picture from the colours in 0..1, and its average over cells; else mean and aliased bilinear.
        margin: added to max - min in s.
        constant_channel: what s makes of a constant positive channel, 0 or 1.
        keep_constant_map: a constant L stays as it is; else it becomes 0.
        batch_wide: L is normalised over the batch.
        detached: no gradient flows through L.
    """

    trunk: str
    kernel: int
    widths: tuple[int, int, int, int]
    relu_after: tuple[int, ...]
    relu_after_cifar: tuple[int, ...]
    softmax: bool = True
    luma: bool = False
    margin: float = 0.0
    constant_channel: int = 0
    keep_constant_map: bool = True
    batch_wide: bool = False
    detached: bool = False


GENERATIONS = {
    "paper": Generation(
        "last_stride1", 3, (1, 1, 1, 1), (1, 2, 3, 4), (1, 2, 3, 4), luma=True, keep_constant_map=False
    ),
    "published": Generation("stem_stride1", 3, (1, 1, 1, 1), (1, 2, 3, 4), (2, 4), constant_channel=1),
    "table3": Generation(
        "three_stages", 1, (2, 2, 1, 1), (2, 4), (2, 4), softmax=False, margin=1e-5, batch_wide=True, detached=True
    ),
}


class FIN(nn.Module):
    """Feature Importance Network: ``S_fi = FIN(M)`` (LFI-CAM eq. 7; architecture: Table 1 of the supplement).

    Four convolutions without bias, each with batch norm and, where asked, ReLU; global average pooling; softmax.

    Args:
        channels: N, the number of feature maps.
        kernel, widths, relu_after, softmax: see :class:`Generation`.

    Example:
        >>> FIN(512)(torch.rand(2, 512, 14, 14)).sum(1)
        tensor([1., 1.])
    """

    def __init__(
        self,
        channels: int,
        kernel: int = 3,
        widths: tuple[int, ...] = (1, 1, 1, 1),
        relu_after: tuple[int, ...] = (1, 2, 3, 4),
        softmax: bool = True,
    ) -> None:
        super().__init__()
        layers, inputs = [], channels
        for i, width in enumerate(widths, start=1):
            outputs = width * channels
            layers.append(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False))
            layers.append(nn.BatchNorm2d(outputs))
            if i in relu_after:
                layers.append(nn.ReLU(inplace=True))
            inputs = outputs
        self.layers, self.softmax = nn.Sequential(*layers), softmax
        initialise(self)

    def forward(self, masked: Tensor) -> Tensor:
        """w [B, N] from the masked images M [B, N, m, n]: one score for each feature map (eq. 7 and 8)."""
        scores = self.layers(masked).mean((2, 3))
        return scores.softmax(1) if self.softmax else scores


def unit_range(maps: Tensor, dims: tuple[int, ...], margin: float = 0.0, constant: Tensor | None = None) -> Tensor:
    """``(x - min) / (max - min + margin)`` over ``dims``: the normalisation to 0..1 of eq. 6 and eq. 10.

    Where x is constant, the result is 0, or ``constant``. Neither values nor gradients can be NaN.
    """
    low, high = maps.amin(dims, keepdim=True), maps.amax(dims, keepdim=True)
    scaled = (maps - low) / (high - low + margin).clamp_min(_SMALLEST_SPAN)
    return scaled if constant is None else torch.where(high > low, scaled, constant)
