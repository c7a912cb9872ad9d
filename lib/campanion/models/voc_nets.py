"""The three multi-label classifiers of Pascal VOC's 20 classes: a trunk of ImageNet with a head of this project.

The trunks carry ImageNet weights, which are not this project's; only the heads were trained here. ``voc_vgg16`` is
VGG16, the network of the FD-CAM and LIFT-CAM papers, with its two hidden layers of 4,096 units; ``voc_mlp`` has a head
of that form, but smaller, on ResNet-18; ``voc_linear`` ends as ResNet does, in global average pooling and one linear
layer.

The two large matrices of ``voc_vgg16`` have low rank (Girshick, Fast R-CNN, section 3.1): each is two linear layers
with nothing between them. That is a file of a thirteenth of the size, and a head that costs a twentieth.
:func:`multiplied_out` gives the same function as torchvision's own VGG16.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn
from torchvision.models import VGG, resnet18
from torchvision.models.vgg import cfgs, make_layers

from campanion.data.voc import CLASS_NAMES
from campanion.errors import one_of
from campanion.models.small import hidden_layers


class VocNet(NamedTuple):
    """Where a VOC network's parts come from."""

    trunk: str  # the file weights/NAME of the data folder
    head: str  # what the names of the head's parameters start with; all others are the trunk's
    layer: str  # the target layer


VOC_NETS = {
    "voc_vgg16": VocNet("vgg16_features", "classifier.", "features.29"),  # 512 maps of 14x14 for 224 pixels
    "voc_mlp": VocNet("resnet18", "fc.", "layer4"),  # 512 maps of 7x7
    "voc_linear": VocNet("resnet18", "fc.", "layer4"),
}
#: Units of each hidden layer, and the ranks of ``voc_vgg16``'s two large layers: the heads' files stay below 10 MB.
HIDDEN = {"voc_mlp": 128, "voc_vgg16": 4096}
RANKS = (144, 64)


def build_voc_net(name: str, dropout: float = 0.5) -> nn.Module:
    """A network of :data:`VOC_NETS` with random weights, in train mode; :func:`campanion.load_model` has trained ones.

    It is torchvision's ResNet-18 or VGG16 (their layer names) with this project's head: logits [B, 20] of images
    [B, 3, H, W]. ``dropout`` is the share of the hidden units that are dropped in training.
    """
    one_of("model", name, VOC_NETS)
    if name == "voc_vgg16":
        hidden = HIDDEN[name]
        layers = [*map(factored, (512 * 7 * 7, hidden), (hidden, hidden), RANKS), nn.Linear(hidden, len(CLASS_NAMES))]
        with torch.device("meta"):  # torchvision's own classifier of 100 million random numbers is not wanted
            net = VGG(nn.Identity(), num_classes=len(CLASS_NAMES), init_weights=False)
        net.features, net.classifier = make_layers(cfgs["D"]), hidden_layers(layers, dropout)
        return net
    net = resnet18(num_classes=len(CLASS_NAMES))
    if name == "voc_mlp":
        # As in VGG, pooling to 7x7 does nothing at 224 pixels and lets other sizes in.
        net.avgpool = nn.AdaptiveAvgPool2d(7)
        hidden = HIDDEN[name]
        layers = [nn.Linear(512 * 7 * 7, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, len(CLASS_NAMES))]
        net.fc = hidden_layers(layers, dropout)
    return net


def factored(inputs: int, outputs: int, rank: int) -> nn.Sequential:
    """A linear layer of low rank: two layers with nothing between them, the first without bias."""
    return nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))


def multiplied_out(net: nn.Module) -> VGG:
    """torchvision's own VGG16 with the function of ``voc_vgg16``: each pair of factors is one matrix of its classifier.

    The trunk's parameters are shared, not copied. The logits agree to float32 rounding. ValueError: another network.

        >>> multiplied_out(load_model("voc_vgg16")).classifier[0]
        Linear(in_features=25088, out_features=4096, bias=True)
    """
    if not isinstance(net, VGG) or not isinstance(net.classifier[0], nn.Sequential):
        raise ValueError("Only voc_vgg16 has factors to multiply out: its classifier[0] is a pair of linear layers.")
    whole = copy.deepcopy(net, {id(net.features): net.features})
    for i, step in enumerate(whole.classifier):
        if isinstance(step, nn.Sequential):
            first, second = step
            whole.classifier[i] = layer = nn.Linear(first.in_features, second.out_features, device="meta")
            layer.weight, layer.bias = nn.Parameter((second.weight @ first.weight).detach()), second.bias
    return whole.train(net.training)
