"""Networks that the training engine can build by name, and the checkpoints that it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MethodType

import torch
import torchvision
from torch import nn

from campanion.errors import MissingData, unknown
from campanion.files import sha256
from campanion.models.build import ARCHITECTURES, build_model
from campanion.models.load import load_model, read_weights
from campanion.models.network import Network
from campanion.models.preprocess import Preprocess
from campanion.models.small import ImagenetteVGG

#: Networks of this project that are not made of a backbone and an attention branch.
PLAIN = {"imagenette_vgg": ImagenetteVGG}


def build_network(
    spec: Mapping[str, object], class_names: Sequence[str], preprocess: Preprocess, seed: int = 0
) -> nn.Module:
    """A network with random weights that answers to :mod:`campanion.models.network`, in train mode.

    Args:
        spec: ``network``, a name of :data:`campanion.models.build.ARCHITECTURES`, ``"imagenette_vgg"``, or one of
            torchvision's CNNs; ``attention``, ``generation``, ``stem``, ``block``, ``fin`` for the first kind;
            ``options``, a dictionary for :class:`~campanion.models.small.ImagenetteVGG`.
        class_names: one per class.
        preprocess: kept as ``.preprocess``.
        seed: of the initialisation.

    Raises:
        ValueError: unknown name, or an option that the network does not have.

    Example:
        >>> build_network({"network": "resnet20", "attention": "lfi"}, names, Preprocess(32, CIFAR_MEAN, CIFAR_STD))
    """
    name, options = str(spec["network"]), dict(spec.get("options") or {})
    asked = ("attention", "generation", "stem", "block", "fin")
    built_in = {key: spec[key] for key in asked if spec.get(key) is not None}
    plain = not set(built_in) - {"generation", "block"}
    if name in ARCHITECTURES:
        if options:
            raise ValueError(f"{name} has no options, but {', '.join(options)} was given.")
        return build_model(
            name, **built_in, num_classes=len(class_names), class_names=class_names, preprocess=preprocess, seed=seed
        )
    torchvision_names = torchvision.models.list_models(module=torchvision.models)
    if name not in PLAIN and name not in torchvision_names:
        raise ValueError(unknown("network", name, [*ARCHITECTURES, *PLAIN, *torchvision_names]))
    if not plain:
        raise ValueError(f"{name} has no attention branch and one stem: leave out attention, fin and stem.")
    if name in PLAIN:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                network: nn.Module = PLAIN[name](len(class_names), **options)
            except TypeError as problem:
                raise ValueError(f"{name} cannot be built with these options: {problem}.") from problem
        network.weights = {"name": name, "origin": f"random, seed {seed}", "sha256": None}
    else:
        if options:
            raise ValueError(f"{name} has no options, but {', '.join(options)} was given.")
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


def weights_of(path: str | Path) -> Path:
    """The ``.safetensors`` file of a checkpoint that is named with or without a suffix, or by its ``.json``."""
    path = Path(path)
    if path.suffix not in (".safetensors", ".json"):  # a name may hold a dot, as in lr0.1
        return path.with_name(path.name + ".safetensors")
    return path.with_suffix(".safetensors")


def read_card(path: str | Path) -> dict:
    """The facts beside the checkpoint ``path`` (``.safetensors`` or the ``.json`` itself).

    Raises:
        MissingData: checkpoint or facts are not there.
        ValueError: the facts cannot be read.
    """
    path = weights_of(path)
    facts = path.with_suffix(".json")
    for file in (path, facts):
        if not file.is_file():
            raise MissingData(f"There is no {file}: `python -m campanion train CONFIG` writes it.")
    try:
        return json.loads(facts.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ValueError(f"{facts} cannot be read: {problem}.") from problem


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
    facts = read_card(path)
    digest = sha256(path)
    if digest != facts["sha256"]:
        raise ValueError(f"{path} is not the file that its .json describes: the SHA-256 differs.")
    given = facts["input"]
    preprocess = Preprocess(given["size"], tuple(given["mean"]), tuple(given["std"]))
    network = build_network(facts["network"], facts["classes"], preprocess)
    network.load_state_dict(read_weights(path))
    network.weights = {"name": facts["name"], "origin": path.name, "sha256": digest}
    network.activation = "softmax"
    return network.to(device).eval()
