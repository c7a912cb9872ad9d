"""The networks of the result files: a name to print, and what stands between the explained layer and the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

HIDDEN, NEARLY, LINEAR = "hidden", "nearly linear", "linear"


class NetworkName(NamedTuple):
    """How one prints and draws a network, and what stands between its explained layer and the score."""

    name: str
    head: str
    colour: str = "#777777"
    mark: str = "*"


#: by the name in result files; the colours are Wong's, as in campanion.report.figures, then of Paul Tol's muted scheme
NETWORKS: Mapping[str, NetworkName] = {
    "vgg16": NetworkName("VGG16", HIDDEN, "#882255", "<"),
    "voc_vgg16": NetworkName("VGG16 of VOC", HIDDEN, "#000000", "o"),
    "alexnet": NetworkName("AlexNet", HIDDEN),
    "voc_mlp": NetworkName("ResNet-18 + hidden layers", HIDDEN, "#0072B2", "s"),
    "imagenette_vgg": NetworkName("VGG11 of Imagenette", HIDDEN, "#999933", "X"),
    "scenes_vgg": NetworkName("small VGG of scenes", HIDDEN),
    "squeezenet1_0": NetworkName("SqueezeNet 1.0", NEARLY),
    "squeezenet1_1": NetworkName("SqueezeNet 1.1", NEARLY, "#009E73", "D"),
    "resnet18": NetworkName("ResNet-18", LINEAR, "#CC79A7", "^"),
    "resnet50": NetworkName("ResNet-50", LINEAR, "#E69F00", "v"),
    "voc_linear": NetworkName("ResNet-18 of VOC", LINEAR, "#56B4E9", "P"),
    "resnet20": NetworkName("ResNet-20", LINEAR, "#332288", ">"),
    "resnext29": NetworkName("ResNeXt-29", LINEAR),
    "scenes_resnet": NetworkName("small ResNet of scenes", LINEAR),
    "scenes_lfi": NetworkName("LFI-CAM of scenes", LINEAR),
    "scenes_lfi_nofin": NetworkName("LFI-CAM without FIN", LINEAR),
    "scenes_abn": NetworkName("ABN of scenes", LINEAR),
    "vqa": NetworkName("VQA network", HIDDEN),
    "vqa_scenes": NetworkName("VQA network of scenes", HIDDEN),
}
_FAMILIES = {"resnet": "ResNet-", "vgg": "VGG"}


def head(model: str) -> str:
    """Whether the part after the explained layer has hidden layers, is nearly linear, or linear.

    Networks that are not listed and whose name begins with ``vgg`` have hidden layers; the other CNN families of
    torchvision, and what was trained here on small images, end in a mean over positions and one linear layer.
    """
    if model in NETWORKS:
        return NETWORKS[model].head
    return HIDDEN if model.startswith(("vgg", "alexnet")) else LINEAR


def name(model: str) -> str:
    """The network's name as one prints it: ``ResNet-50``; of training runs ``ResNet-20, ABN, 3 epochs``."""
    if model in NETWORKS:
        return NETWORKS[model].name
    parts = model.split("_")
    if len(parts) > 3 and name(parts[1]) != parts[1]:  # a training run: data_network_kind_rate_seed_epochs
        kind = parts[2].replace("lfi-", "LFI-CAM (") + ")" if parts[2].startswith("lfi-") else parts[2].upper()
        how = f", {parts[-1][1:]} epochs" if parts[-1][1:].isdigit() else ", fine-tuned" * (parts[-1] == "tune")
        return f"{name(parts[1])}, {kind}{how}"
    for start, printed in _FAMILIES.items():
        if (size := model.removeprefix(start)).isdigit():
            return f"{printed}{size}"
    return model


def short(model: str) -> str:
    """The printed name without what a narrow column has no room for."""
    return " and ".join(name(m) for m in model.split(" and ")).replace(" (paper)", "")


_DATA = {
    "imagenet": "ImageNet",
    "voc2007": "VOC2007",
    "coco": "COCO",
    "imagenette": "Imagenette",
    "imagenette96": "Imagenette",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "stl10": "STL-10",
    "cats-dogs": "Cat&Dog",
    "vqa-v2": "VQA v2",
}

_SAME = {"imagenet-val": "imagenet", "voc2007-val": "voc2007", "voc2007-test": "voc2007", "vqa": "vqa-v2"}
_SAME |= dict.fromkeys(("coco-val2014", "coco-val2017", "coco-voc"), "coco")


def paper_data(name: str) -> str:
    """The papers' data set of which ours is (a part of): ``imagenet-val`` is ``imagenet``; others are themselves."""
    return _SAME.get(name, name)


def data(name: str) -> str:
    """The data set's name as one prints it: ``ImageNet``."""
    return _DATA.get(paper_data(name), name)


def where(model: str, dataset: str, between: str = " on ") -> str:
    """Networks (joined by *and*) and their data as one prints them: ``VGG16 of VOC on VOC2007``."""
    return f"{' and '.join(map(name, model.split(' and ')))}{between}{data(dataset)}"


def of_run(run: Mapping, between: str = " on ") -> str:
    """:func:`where` of a run of a result."""
    return where(run["model"], run["data"], between)
