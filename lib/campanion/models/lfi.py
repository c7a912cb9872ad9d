"""LFI-CAM: a classifier that learns its own class activation map (Lee et al., ICCV 2021), and its three generations.

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
gray (eq. 5)      mean of the normalised   mean of the normalised colours    luma of the image in 0..1
                  colours
Down (eq. 5)      bilinear, aliased        bilinear, aliased                 mean over each cell
s (eq. 6)         (F - min) /              (F - min) / (max - min); a        (F - min) / (max - min); a constant
                  (max - min + 1e-5)       constant channel becomes 1, a     channel becomes 0
                                           dead one 0
FIN (eq. 7)       four 1x1 convolutions,   four 3x3 convolutions, N each,    four 3x3 convolutions, N each, ReLU after
                  2N, 2N, N, N, ReLU       ReLU after each (CIFAR stem:      each
                  after 2nd and 4th        after 2nd and 4th)
softmax over N    no                       yes                               yes (the supplement's output layer)
L to 0..1 over    the whole batch          each image                        each image
constant L        left as it is            left as it is                     becomes 0
gradient          none through L: FIN      through L                         through L
                  stays as initialised
================  =======================  ================================  ========================================

In ``table3`` an image's logits depend on the images beside it in the batch, in training and in evaluation.
The paper does not say how ResNet gives maps of 14x14 (section 3.2); ``paper`` takes the cheapest change that does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campanion.errors import one_of
from campanion.models.network import Attending, Backbone, initialise

#: What becomes of FIN: trained with the rest; never trained, as in generation ``table3``; absent, every weight 1 / N.
FINS = ("trained", "frozen", "none")

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what "gray" means in PIL, OpenCV and MATLAB's rgb2gray
# Differences below it are not stretched to 0..1: the slope of a min-max normalisation, 1 / (max - min), stays finite.
_SMALLEST_SPAN = 1e-5


@dataclass(frozen=True)
class Generation:
    """One column of the table in the module's head."""

    trunk: str  #: of the backbone, ImageNet stem; with the CIFAR stem only three_stages applies
    kernel: int  #: side of FIN's convolutions
    widths: tuple[int, int, int, int]  #: of FIN's convolutions, in units of N
    relu_after: tuple[int, ...]  #: which of FIN's four batch norms (from 1) a ReLU follows, ImageNet stem
    relu_after_cifar: tuple[int, ...]
    softmax: bool = True  #: over the N scores
    luma: bool = False  #: gray image from the colours in 0..1, averaged over cells; else mean and aliased bilinear
    margin: float = 0.0  #: added to max - min in s
    constant_channel: int = 0  #: what s makes of a constant positive channel
    keep_constant_map: bool = True  #: a constant L stays as it is; else it becomes 0
    batch_wide: bool = False  #: L is normalised over the batch
    detached: bool = False  #: no gradient flows through L


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

    Four convolutions without bias, each with batch norm and, where asked, ReLU; global average pooling; softmax. The
    ``form`` gives their kernel and widths; ``relu_after`` is the form's, by stem; N ``channels`` come in.
    """

    def __init__(self, channels: int, form: Generation, relu_after: tuple[int, ...]) -> None:
        super().__init__()
        layers, inputs = [], channels
        for i, width in enumerate(form.widths, start=1):
            outputs = width * channels
            layers.append(nn.Conv2d(inputs, outputs, form.kernel, padding=form.kernel // 2, bias=False))
            layers.append(nn.BatchNorm2d(outputs))
            if i in relu_after:
                layers.append(nn.ReLU(inplace=True))
            inputs = outputs
        self.layers, self.softmax = nn.Sequential(*layers), form.softmax
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


class LFICAM(Attending):
    """A backbone whose last feature maps F are weighted by the scores of a Feature Importance Network.

    =========  =====================================================  =================================
    eq. 5      I~ = Down(rgb2gray(I))                                 gray image at the maps' size
    eq. 6      M_k = I~ * s(F_k)                                      masked images, s: min-max to 0..1
    eq. 7, 8   w = FIN(M)                                             :class:`FIN`
    eq. 9      L = ReLU(sum_k w_k F_k)                                the map: of no class in particular
    eq. 10     F'_k = (1 + L) * F_k, L normalised to 0..1             the attention mechanism
    \\          logits = classify(F')                                  average pooling, one linear layer
    =========  =====================================================  =================================

    F and w are not negative, so that the ReLU of eq. 9 never acts. The loss is the cross-entropy alone.

    ``explain`` weighs F' (the layer ``attended``) by default: these are the channels that the classifier reads, and
    switching one off leaves the attention as it is. With ``layer="backbone.layer4"`` (``backbone.target_layer``) it
    weighs F: without a channel, FIN sees another image and the attention changes too. There every coalition is
    a forward pass of the network, and methods that need a cut head (LIFT-CAM) are refused.

    Args:
        backbone: gives F and the classifier; :func:`campanion.models.build_model` chooses its trunk.
        generation: ``"paper"``, ``"published"`` or ``"table3"``; the table in the module's head.
        mean, std: of the colours, by which the images given to the network were normalised (for gray in ``"paper"``).
        fin: ``"trained"``; or, to see what the learned importance is worth, ``"frozen"`` (FIN's parameters stay as they
            were initialised; its batch norms still follow the images) or ``"none"`` (no FIN: w_k = 1 / N, so that L
            is the mean feature map).
    """

    target_layer = "attended"
    learned_map = "lfi_cam"

    def __init__(
        self,
        backbone: Backbone,
        generation: str = "paper",
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
        fin: str = "trained",
    ) -> None:
        super().__init__()
        one_of("generation", generation, GENERATIONS)
        one_of("fin", fin, FINS)
        self.generation, self.form = generation, GENERATIONS[generation]
        self.backbone = backbone
        relu_after = self.form.relu_after_cifar if backbone.stem == "cifar" else self.form.relu_after
        self.fin = None
        if fin != "none":
            self.fin = FIN(backbone.channels, self.form, relu_after)
            if fin == "frozen":
                self.fin.requires_grad_(False)
            if fin == "frozen" or self.form.detached:
                self.unused = tuple(f"fin.{name}" for name, _ in self.fin.named_parameters())
        self.attended = nn.Identity()  # a name for F', so that a CAM can be asked of it
        luma = self.form.luma
        weight = [y * s for y, s in zip(_LUMA, std, strict=True)] if luma else [1 / 3] * 3
        offset = sum(y * m for y, m in zip(_LUMA, mean, strict=True)) if luma else 0.0
        self.register_buffer("gray_weight", torch.tensor(weight).view(3, 1, 1))
        self.register_buffer("gray_offset", torch.tensor(offset))

    def gray(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """I~ [B, 1, m, n], eq. 5."""
        gray = (images * self.gray_weight).sum(1, keepdim=True) + self.gray_offset
        if self.form.luma:
            return F.adaptive_avg_pool2d(gray, size)
        return F.interpolate(gray, size, mode="bilinear", align_corners=False)

    def importance(self, images: Tensor, maps: Tensor | None = None) -> Tensor:
        """w [B, N], eq. 5-8. ``maps``: F of the images, where it is known already."""
        maps = self.backbone.maps(images) if maps is None else maps
        return self._weights(maps, self.gray(images, maps.shape[-2:]) * self._masks(maps))

    def _masks(self, maps: Tensor) -> Tensor:
        """s(F) [B, N, m, n], eq. 6."""
        constant = (maps > 0).to(maps.dtype) if self.form.constant_channel else None
        return unit_range(maps, (2, 3), self.form.margin, constant)

    def _weights(self, maps: Tensor, masked: Tensor) -> Tensor:
        return maps.new_full(maps.shape[:2], 1 / maps.shape[1]) if self.fin is None else self.fin(masked)

    def activation_map(self, maps: Tensor, importance: Tensor) -> Tensor:
        """L [B, m, n], eq. 9, not normalised."""
        weighted = torch.bmm(importance.to(maps.dtype).unsqueeze(1), maps.flatten(2))
        return weighted.squeeze(1).unflatten(1, maps.shape[2:]).relu()

    def attention(self, cam: Tensor) -> Tensor:
        """L [B, m, n] normalised to 0..1, as eq. 10 takes it."""
        dims = (0, 1, 2) if self.form.batch_wide else (1, 2)
        scaled = unit_range(cam, dims, constant=cam if self.form.keep_constant_map else None)
        return scaled.detach() if self.form.detached else scaled

    def steps(self, images: Tensor) -> dict[str, Tensor]:
        """The quantities of eq. 5-10 in one forward pass of preprocessed ``images`` [B, 3, H, W], in their order.

        Keys: ``I``, ``F`` (feature maps), ``I~`` (eq. 5), ``M`` (eq. 6), ``w`` (eq. 7 and 8; uniform without a FIN),
        ``L`` (eq. 9), ``attention`` (L in 0..1), ``F'`` (eq. 10) and ``logits``.
        """
        maps = self.backbone.maps(images)
        gray = self.gray(images, maps.shape[-2:])
        masked = gray * self._masks(maps)
        importance = self._weights(maps, masked)
        cam = self.activation_map(maps, importance)
        attention = self.attention(cam)
        attended = self.attended((1 + attention).unsqueeze(1) * maps)
        return {
            "I": images, "F": maps, "I~": gray, "M": masked, "w": importance, "L": cam, "attention": attention,
            "F'": attended, "logits": self.backbone.classify(attended),
        }  # fmt: skip

    def forward_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, C] and the attention map [B, m, n] of one forward pass."""
        steps = self.steps(images)
        return steps["logits"], steps["attention"]
