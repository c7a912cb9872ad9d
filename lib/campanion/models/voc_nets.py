"""The two multi-label classifiers of Pascal VOC's 20 classes: ResNet-18's trunk with a non-linear or a linear head.

The trunk carries ImageNet weights, which are not this project's; only the heads were trained here. ``voc_mlp`` ends as
VGG does, in two hidden layers on the flattened maps, so its head is truly non-linear in the channels; ``voc_linear``
ends as ResNet does, in global average pooling and one linear layer.
"""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet18

from campanion.data.voc import CLASS_NAMES
from campanion.errors import unknown

VOC_NETS = ("voc_mlp", "voc_linear")
TARGET_LAYER = "layer4"  # 512 maps of 7x7 for a picture of 224 pixels
TRUNK = "resnet18"
HEAD = "fc."  # the head's parameters start with this, all others are the trunk's
#: Units of each hidden layer of ``voc_mlp``: its head's file stays below 10 MB.
HIDDEN = 128


def build_voc_net(name: str, dropout: float = 0.5) -> nn.Module:
    """A VOC network with random weights, in train mode; :func:`campanion.load_model` brings the trained one.

    Args:
        name: ``"voc_mlp"`` or ``"voc_linear"``.
        dropout: share of the hidden units of ``voc_mlp`` that are dropped in training.

    Returns:
        torchvision's ResNet-18 (its layer names) whose ``fc`` is the head: logits [B, 20] of images [B, 3, H, W].

    Raises:
        ValueError: unknown name.

    Example:
        >>> build_voc_net("voc_mlp").fc[0]
        Linear(in_features=25088, out_features=128, bias=True)
    """
    if name not in VOC_NETS:
        raise ValueError(unknown("model", name, VOC_NETS))
    net = resnet18(num_classes=len(CLASS_NAMES))
    if name == "voc_mlp":
        # As in VGG, pooling to 7x7 does nothing at 224 pixels and lets other sizes in.
        net.avgpool = nn.AdaptiveAvgPool2d(7)
        net.fc = nn.Sequential(
            nn.Linear(512 * 7 * 7, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, len(CLASS_NAMES)),
        )
    return net
