"""``load_model`` and ``build_network``: every network by its name, with its weights or with random ones.

=====================================  =============================================  ==================================
names                                  weights                                        built by
=====================================  =============================================  ==================================
torchvision's classifiers              ``CAMPANION_DATA/weights``, or downloaded      torchvision
:data:`OWN`                            ``data/checkpoints``                           :mod:`campanion.models.small`
``voc_vgg16 voc_mlp voc_linear``       a head of ours on a trunk of torchvision's     :mod:`campanion.models.voc_nets`
any checkpoint of ``campanion train``  its file, and the facts beside it              :func:`build_network`
=====================================  =============================================  ==================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MethodType
from typing import NamedTuple

import torch
import torchvision
from torch import nn

from campanion.data import classification, scenes, voc
from campanion.errors import unknown
from campanion.game.layouts import default_layer
from campanion.models.build import ARCHITECTURES, build_model
from campanion.models.network import Network
from campanion.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from campanion.models.small import MEAN, SIZE, STD, ImagenetteVGG, SceneResNet, SceneVGG
from campanion.models.voc_nets import VOC_NETS, build_voc_net
from campanion.models.weights import fill, find_checkpoint, find_weights, finished, read_card, read_weights, weights_of
from campanion.paths import sha256

#: Networks of generated scenes with an attention branch, made by ``python -m campanion train NAME``.
LEARNED_SCENES = ("scenes_lfi", "scenes_lfi_nofin", "scenes_abn")


class Own(NamedTuple):
    """A small network of this project: its class, what it was trained to name, and what it is given."""

    build: Callable[..., Network]
    class_names: Sequence[str]
    preprocess: Preprocess


OWN = {
    "scenes_vgg": Own(SceneVGG, scenes.CLASS_NAMES, Preprocess(SIZE, MEAN, STD)),
    "scenes_resnet": Own(SceneResNet, scenes.CLASS_NAMES, Preprocess(SIZE, MEAN, STD)),
    "imagenette_vgg": Own(ImagenetteVGG, classification.IMAGENETTE_NAMES, Preprocess(96, IMAGENET_MEAN, IMAGENET_STD)),
}


def load_model(
    name: str, weights: str | Path | None = "auto", num_classes: int | None = None, seed: int = 0, device: str = "cpu"
) -> nn.Module:
    """A CNN in eval mode with ``.preprocess``, ``.class_names``, ``.target_layer`` and ``.weights`` (a dict of facts).

    ``.activation`` says how its logits become probabilities: ``"softmax"`` over the classes, or ``"sigmoid"`` for each
    class of a multi-label network.

    Args:
        name: any torchvision classification network, or one that this project trained: those of :data:`OWN` and
            :data:`LEARNED_SCENES`, the heads of ``voc_vgg16``, ``voc_mlp`` and ``voc_linear`` (on trunks with the
            weights ``vgg16_features`` and ``resnet18``), or the name of any checkpoint that
            ``python -m campanion train`` exported or left in ``out/training``.
        weights: ``"auto"`` looks for ``CAMPANION_DATA/weights/NAME.npz`` and ``.safetensors``, then downloads
            torchvision's own (hash checked); a path takes that file; ``"random"`` or None initialises from ``seed``.
        num_classes: width of the classifier, for random weights.

    Raises:
        ValueError: unknown name, or a weights file that does not fit or is damaged (named).
        MissingData: no weights found and none can be downloaded; the message says both ways to get them.

    Example:
        >>> model = load_model("resnet50")
        >>> model.target_layer  # 'layer4'
    """
    random = weights in (None, "random")
    if name in VOC_NETS:
        return _voc_model(name, "random" if random else weights, seed, device)
    if random and name in OWN:
        model = build_network({"network": name}, OWN[name].class_names, OWN[name].preprocess, seed)
        model.activation = "softmax"
        return model.to(device).eval()
    if not random and (name in OWN or name in LEARNED_SCENES or (weights == "auto" and finished(name))):
        return load_trained(find_checkpoint(name, weights), device)
    return _torchvision_model(name, "random" if random else weights, num_classes or 1000, seed, device)


def _torchvision_model(name: str, weights: str | Path, classes: int, seed: int, device: str) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(unknown("model", name, [*known, *OWN, *VOC_NETS]))
    if weights == "auto" and classes != 1000:
        raise ValueError("ImageNet weights have 1000 classes; pass weights='random' or a file for another number.")
    inception = {"init_weights": True, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model = _seeded(seed, lambda: torchvision.models.get_model(name, weights=None, num_classes=classes, **inception))
    facts = _random(name, seed)
    if weights != "random":
        state, facts = find_weights(name, weights)
        fill(model, state, facts)
    layer = default_layer(model)
    if name.startswith("densenet"):
        layer = "features.relu5"
        # Its last ReLU is a function call without a name; one before it changes nothing.
        model.features.add_module("relu5", _Relu5())
    names = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"] if classes == 1000 else range(classes)
    model.preprocess = Preprocess(299 if name == "inception_v3" else 224, IMAGENET_MEAN, IMAGENET_STD)
    model.class_names, model.target_layer, model.weights = [str(n) for n in names], layer, facts
    model.activation = "softmax"
    return model.to(device).eval()


class _Relu5(nn.Module):
    """max(x, 0), whose gradient does not need its output: the network changes that in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp_min(0)


def _voc_model(name: str, weights: str | Path, seed: int, device: str) -> nn.Module:
    model, parts = _seeded(seed, lambda: build_voc_net(name)), VOC_NETS[name]
    model.preprocess = Preprocess(224, IMAGENET_MEAN, IMAGENET_STD)
    model.class_names, model.target_layer, model.activation = list(voc.CLASS_NAMES), parts.layer, "sigmoid"
    model.weights = _random(name, seed)
    if weights != "random":
        path = find_checkpoint(name, weights)
        head, (trunk, under) = read_weights(path), find_weights(parts.trunk, "auto")
        model.weights = {
            "name": name,
            "origin": f"{path.name} on {under['origin']}",
            # of both files: the head alone does not decide the logits
            "sha256": hashlib.sha256(f"{sha256(path)} {under['sha256']}".encode()).hexdigest(),
        }
        fill(model, {**{k: v for k, v in trunk.items() if not k.startswith(parts.head)}, **head}, model.weights)
    return model.to(device).eval()


def load_trunk(name: str, device: str = "cpu") -> nn.Module:
    """The frozen trunk of a VOC network, with the head's parameters random; ``.weights`` are the trunk's facts.

    Raises:
        MissingData: no weights of it in the data folder.

    Example:
        >>> load_trunk("voc_vgg16").weights["origin"]  # 'vgg16_features.npz'
    """
    parts, model = VOC_NETS[name], _voc_model(name, "random", 0, device)
    state, model.weights = find_weights(parts.trunk, "auto")
    head = {key: value for key, value in model.state_dict().items() if key.startswith(parts.head)}
    fill(model, {**{k: v for k, v in state.items() if not k.startswith(parts.head)}, **head}, model.weights)
    return model


def build_network(
    spec: Mapping[str, object], class_names: Sequence[str], preprocess: Preprocess, seed: int = 0
) -> nn.Module:
    """A network with random weights that answers to :mod:`campanion.models.network`, in train mode.

    Args:
        spec: ``network``, a name of :data:`campanion.models.build.ARCHITECTURES`, of :data:`OWN`, or one of
            torchvision's CNNs; ``attention``, ``generation``, ``stem``, ``block``, ``fin`` for the first kind;
            ``options``, a dictionary for the classes of :mod:`campanion.models.small`.
        class_names: one per class.
        preprocess: kept as ``.preprocess``.
        seed: of the initialisation.

    Raises:
        ValueError: unknown name, or an option that the network does not have.

    Example:
        >>> build_network({"network": "resnet20", "attention": "lfi"}, names, Preprocess(32, CIFAR_MEAN, CIFAR_STD))
    """
    name, options = str(spec["network"]), dict(spec.get("options") or {})
    branch = {k: spec[k] for k in ("attention", "generation", "stem", "block", "fin") if spec.get(k) is not None}
    known = [*ARCHITECTURES, *OWN, *torchvision.models.list_models(module=torchvision.models)]
    if name not in known:
        raise ValueError(unknown("network", name, known))
    if options and name not in OWN:
        raise ValueError(f"{name} has no options, but {', '.join(options)} was given.")
    if name in ARCHITECTURES:
        return build_model(
            name, **branch, num_classes=len(class_names), class_names=class_names, preprocess=preprocess, seed=seed
        )
    if set(branch) - {"generation", "block"}:
        raise ValueError(f"{name} has no attention branch and one stem: leave out attention, fin and stem.")
    if name in OWN:
        try:
            network: nn.Module = _seeded(seed, lambda: OWN[name].build(len(class_names), **options))
        except TypeError as problem:
            raise ValueError(f"{name} cannot be built with these options: {problem}.") from problem
        network.weights = _random(name, seed)
    else:
        network = load_model(name, weights="random", num_classes=len(class_names), seed=seed)
        network.loss, network.unused = MethodType(Network.loss, network), ()
    network.preprocess, network.class_names = preprocess, list(class_names)
    return network.train()


def start_from_imagenet(network: nn.Module, name: str) -> None:
    """Give the layers of ``network`` that torchvision's ``name`` has too its ImageNet weights, in place.

    Layers are matched by their names, in the network itself or in its backbone (ABN, LFI-CAM). The classifier, the
    attention branch and FIN, which torchvision's network lacks, keep their initialisation.

    Args:
        network: of :func:`build_network`.
        name: its architecture; the weights are those that ``load_model`` finds or downloads.

    Raises:
        ValueError: torchvision has no such network, or a layer of that name has another shape (a CIFAR stem).
        MissingData: the weights are not there.

    Example:
        >>> start_from_imagenet(build_model("resnet18", "lfi", num_classes=2), "resnet18")
    """
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(f"There are no ImageNet weights of {name}: init='imagenet' needs a network of torchvision's.")
    given = load_model(name)
    body, taken = getattr(network, "backbone", network), given.state_dict()
    own = {key: value for key, value in body.state_dict().items() if key.split(".")[0] not in ("fc", "classifier")}
    for key in own.keys() & taken.keys():
        if own[key].shape != taken[key].shape:
            raise ValueError(f"{key} has another shape in torchvision's {name}: init='imagenet' needs stem='imagenet'.")
    body.load_state_dict({key: taken[key] for key in own.keys() & taken.keys()}, strict=False)
    network.weights["origin"] += f", its layers started from {given.weights['origin']}"


def load_trained(path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """The network of a checkpoint of ``python -m campanion train``, in eval mode, with what ``load_model`` adds.

    Args:
        path: the ``.safetensors`` file; its ``.json`` lies beside it.
        device: where it goes.

    Raises:
        MissingData: one of the two files is not there.
        ValueError: a damaged file, or weights that are not those that the facts name (SHA-256).

    Example:
        >>> network = load_trained("data/checkpoints/imagenette_vgg.safetensors")
        >>> explain(network, images)
    """
    path = weights_of(path)
    facts, digest = read_card(path), sha256(path)
    if digest != facts["sha256"]:
        raise ValueError(f"{path} is not the file that its .json describes: the SHA-256 differs.")
    size, mean, std = (facts["input"][key] for key in ("size", "mean", "std"))
    network = build_network(facts["network"], facts["classes"], Preprocess(size, tuple(mean), tuple(std)))
    network.load_state_dict(read_weights(path))
    network.weights = {"name": facts["name"], "origin": path.name, "sha256": digest}
    network.activation = "softmax"
    return network.to(device).eval()


def _seeded(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """What ``build`` makes with random weights of ``seed``; the global generator is not touched."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def _random(name: str, seed: int) -> dict[str, object]:
    return {"name": name, "origin": f"random, seed {seed}", "sha256": None}
