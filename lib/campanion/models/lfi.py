"""LFI-CAM: a classifier that learns its own class activation map (Lee et al., ICCV 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campanion.errors import unknown
from campanion.models.fin import FIN, FINS, GENERATIONS, unit_range
from campanion.models.network import Backbone, Network

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what "gray" means in PIL, OpenCV and MATLAB's rgb2gray


class LFICAM(Network):
    """A backbone whose last feature maps F are weighed by what a Feature Importance Network thinks of them.

    =========  =====================================================  =================================
    eq. 5      I~ = Down(rgb2gray(I))                                 gray picture at the maps' size
    eq. 6      M_k = I~ * s(F_k)                                      masked images, s: min-max to 0..1
    eq. 7, 8   w = FIN(M)                                             :class:`campanion.models.fin.FIN`
    eq. 9      L = ReLU(sum_k w_k F_k)                                the map: of no class in particular
    eq. 10     F'_k = (1 + L) * F_k, L normalised to 0..1             the attention mechanism
    \\          logits = classify(F')                                  average pooling, one linear layer
    =========  =====================================================  =================================

    F and w are not negative, so that the ReLU of eq. 9 never acts. The loss is the cross-entropy alone.

    ``explain`` weighs F' (the layer ``attended``) by default: these are the channels that the classifier reads, and
    switching one off leaves the attention as it is. With ``layer="backbone.layer4"`` (``backbone.target_layer``) it
    weighs F: without a channel, FIN sees another picture and the attention changes too. There every coalition is
    a forward pass of the network, and methods that need a cut head (LIFT-CAM) are refused.

    Args:
        backbone: gives F and the classifier; :func:`campanion.models.build_model` chooses its trunk.
        generation: ``"paper"``, ``"published"`` or ``"table3"``; the table in :mod:`campanion.models.fin`.
        mean, std: of the colours, by which the images given to the network were normalised (for gray in ``"paper"``).
        fin: ``"trained"``; or, to see what the learned importance is worth, ``"frozen"`` (FIN's parameters stay as they
            were initialised; its batch norms still follow the pictures) or ``"none"`` (no FIN: w_k = 1 / N, so that L
            is the mean feature map).

    Raises:
        ValueError: unknown generation or ``fin``.

    Example:
        >>> network = LFICAM(ResNet(BasicBlock, (2, 2, 2, 2), num_classes=10))
        >>> logits, attention = network.forward_with_map(images)  # [B, 10], [B, h, w] in 0..1
    """

    target_layer = "attended"

    def __init__(
        self,
        backbone: Backbone,
        generation: str = "paper",
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
        fin: str = "trained",
    ) -> None:
        super().__init__()
        if generation not in GENERATIONS:
            raise ValueError(unknown("generation", generation, GENERATIONS))
        if fin not in FINS:
            raise ValueError(unknown("fin", fin, FINS))
        self.generation, self.form = generation, GENERATIONS[generation]
        self.backbone = backbone
        relu_after = self.form.relu_after_cifar if backbone.stem == "cifar" else self.form.relu_after
        self.fin = None
        if fin != "none":
            self.fin = FIN(backbone.channels, self.form.kernel, self.form.widths, relu_after, self.form.softmax)
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
        if self.fin is None:
            return maps.new_full(maps.shape[:2], 1 / maps.shape[1])
        constant = (maps > 0).to(maps.dtype) if self.form.constant_channel else None
        masks = unit_range(maps, (2, 3), self.form.margin, constant)
        return self.fin(self.gray(images, maps.shape[-2:]) * masks)

    def activation_map(self, maps: Tensor, importance: Tensor) -> Tensor:
        """L [B, m, n], eq. 9, not normalised."""
        weighted = torch.bmm(importance.to(maps.dtype).unsqueeze(1), maps.flatten(2))
        return weighted.squeeze(1).unflatten(1, maps.shape[2:]).relu()

    def attention(self, cam: Tensor) -> Tensor:
        """L [B, m, n] normalised to 0..1, as eq. 10 takes it."""
        dims = (0, 1, 2) if self.form.batch_wide else (1, 2)
        scaled = unit_range(cam, dims, constant=cam if self.form.keep_constant_map else None)
        return scaled.detach() if self.form.detached else scaled

    def forward_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, C] and the attention map [B, m, n] of one forward pass."""
        maps = self.backbone.maps(images)
        attention = self.attention(self.activation_map(maps, self.importance(images, maps)))
        attended = self.attended((1 + attention).unsqueeze(1) * maps)
        return self.backbone.classify(attended), attention

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        return self.forward_with_map(images)[0]

    def attention_map(self, images: Tensor) -> Tensor:
        """The normalised map [B, m, n] of preprocessed images [B, 3, H, W]."""
        return self.forward_with_map(images)[1]
