"""ABN: a classifier with an attention branch that is trained by a loss of its own (Fukui et al., CVPR 2019)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from campanion.models.network import Attending, Backbone, initialise


class AttentionBranch(nn.Module):
    """A last stage that does not stride, then convolutions without bias to one map per class, one map, and logits.

    ``stage`` leads from the backbone's early maps to ``channels`` maps
    (:meth:`campanion.models.network.Backbone.branch_stage`).
    """

    def __init__(self, stage: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.stage, self.norm = stage, nn.BatchNorm2d(channels)
        self.to_classes = nn.Conv2d(channels, num_classes, 1, bias=False)
        self.norm_classes = nn.BatchNorm2d(num_classes)
        self.to_map, self.norm_map = nn.Conv2d(num_classes, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1)
        self.to_logits = nn.Conv2d(num_classes, num_classes, 1, bias=False)
        initialise(self)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The attention M [B, h, w] in 0..1, and the class maps [B, C, h, w], of early maps [B, K', h, w]."""
        classes = self.norm_classes(self.to_classes(self.norm(self.stage(maps)))).relu()
        return self.norm_map(self.to_map(classes)).sigmoid().squeeze(1), classes

    def logits(self, classes: Tensor) -> Tensor:
        """The branch's own logits [B, C] from the class maps."""
        return self.to_logits(classes).mean((2, 3))


class ABN(Attending):
    """Attention Branch Network: the last stage sees ``g' = (1 + M) * g`` (the mechanism of LFI-CAM eq. 10).

    g are the maps before the backbone's last stage, M the attention that the branch makes of them, both as in the
    authors' code. The loss is the sum of two cross-entropies, of the branch's logits and of the network's.
    ``explain`` weighs by default the last stage's maps, as it does in the plain network.
    """

    learned_map = "abn"

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.branch = AttentionBranch(backbone.branch_stage(), backbone.channels, backbone.num_classes)
        self.target_layer = f"backbone.{backbone.target_layer}"

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.backbone.early(images)
        attention, classes = self.branch(maps)
        attended = (1 + attention).unsqueeze(1) * maps
        return self.backbone.classify(self.backbone.late(attended)), attention, classes

    def forward_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The perception branch's logits [B, C] and M [B, h, w], in 0..1 by a sigmoid, of one forward pass."""
        return self._forward(images)[:2]

    def losses(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """L_att, L_per (scalars) and the perception branch's logits [B, C]."""
        logits, _, classes = self._forward(images)
        return F.cross_entropy(self.branch.logits(classes), targets), F.cross_entropy(logits, targets), logits

    def loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """L_att + L_per (a scalar) and the perception branch's logits [B, C]."""
        attention, perception, logits = self.losses(images, targets)
        return attention + perception, logits
