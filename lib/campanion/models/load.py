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
from campanion.errors import MissingData, one_of, unknown
from campanion.game.layouts import default_layer
from campanion.models.build import ARCHITECTURES, build_model
from campanion.models.network import Network, random_weights, seeded
from campanion.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from campanion.models.small import MEAN, SIZE, STD, ImagenetteVGG, SceneResNet, SceneVGG
from campanion.models.voc_nets import VOC_NETS, VocNet, build_voc_net
from campanion.models.weights import fill, find_checkpoint, find_weights, finished, read_card, read_weights, weights_of
from campanion.paths import checkpoints_dir, sha256

#: Networks of generated scenes with an attention branch, made by ``python -m campanion train NAME``.
LEARNED_SCENES = ("scenes_lfi", "scenes_lfi_nofin", "scenes_abn")
_TORCHVISION = torchvision.models.list_models(module=torchvision.models)


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
    weights = "random" if weights is None else weights
    ours = name in OWN or name in LEARNED_SCENES or (weights == "auto" and name not in _TORCHVISION and finished(name))
    if name in VOC_NETS:
        model = _voc_model(name, weights, seed)
    elif weights == "random" and name in OWN:
        model = build_network({"network": name}, OWN[name].class_names, OWN[name].preprocess, seed)
        model.activation = "softmax"
    elif weights != "random" and ours:
        model = load_trained(find_checkpoint(name, weights))
    else:
        model = _torchvision_model(name, weights, 1000 if num_classes is None else num_classes, seed)
    if num_classes not in (None, len(model.class_names)):
        raise ValueError(f"{name} has {len(model.class_names)} classes and is not built with {num_classes}.")
    return model.to(device).eval()


def _torchvision_model(name: str, weights: str | Path, classes: int, seed: int) -> nn.Module:
    if weights == "auto" and (checkpoints_dir() / f"{name}.json").is_file():
        raise MissingData(f"The weights of {name} are not committed: `campanion grid --only {name} --run` trains.")
    if name not in _TORCHVISION:
        raise ValueError(unknown("model", name, [*_TORCHVISION, *OWN, *VOC_NETS]))
    if type(classes) is not int or classes < 1:
        raise ValueError(f"num_classes must be a whole number, 1 or more, not {classes!r}.")
    if weights == "auto" and classes != 1000:
        raise ValueError("ImageNet weights have 1000 classes; pass weights='random' or a file for another number.")
    inception = {"init_weights": True, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model = seeded(seed, lambda: torchvision.models.get_model(name, weights=None, num_classes=classes, **inception))
    facts = random_weights(name, seed)
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
    return model


class _Relu5(nn.Module):
    """max(x, 0), whose gradient does not need its output: the network changes that in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp_min(0)


def _voc_model(name: str, weights: str | Path, seed: int) -> nn.Module:
    model, parts = seeded(seed, lambda: build_voc_net(name)), VOC_NETS[name]
    model.preprocess = Preprocess(224, IMAGENET_MEAN, IMAGENET_STD)
    model.class_names, model.target_layer, model.activation = list(voc.CLASS_NAMES), parts.layer, "sigmoid"
    model.weights = random_weights(name, seed)
    if weights != "random":
        path = find_checkpoint(name, weights)
        head, (state, trunk) = read_weights(path), _trunk(parts)
        model.weights = {
            "name": name,
            "origin": f"{path.name} on {trunk['origin']}",
            # of both files: the head alone does not decide the logits
            "sha256": hashlib.sha256(f"{sha256(path)} {trunk['sha256']}".encode()).hexdigest(),
        }
        fill(model, state | head, model.weights)
    return model


def load_trunk(name: str, device: str = "cpu") -> nn.Module:
    """The frozen trunk of a VOC network, with the head's parameters random; ``.weights`` are the trunk's facts."""
    model, parts = _voc_model(name, "random", 0), VOC_NETS[name]
    state, model.weights = _trunk(parts)
    fill(model, state | {k: v for k, v in model.state_dict().items() if k.startswith(parts.head)}, model.weights)
    return model.to(device).eval()


def _trunk(parts: VocNet) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The weights of a VOC network's trunk, and their facts."""
    state, facts = find_weights(parts.trunk, "auto")
    return {key: value for key, value in state.items() if not key.startswith(parts.head)}, facts


def build_network(
    spec: Mapping[str, object], class_names: Sequence[str], preprocess: Preprocess, seed: int = 0
) -> nn.Module:
    """A network with random weights that answers to :mod:`campanion.models.network`, in train mode.

    ``spec`` holds ``network``, a name of :data:`campanion.models.build.ARCHITECTURES`, of :data:`OWN`, or one of
    torchvision's CNNs; ``attention``, ``generation``, ``stem``, ``block``, ``fin`` for the first kind; ``options``, a
    dictionary for the classes of :mod:`campanion.models.small`. ValueError: an unknown name, or an option that the
    network does not have.
    """
    name, options = str(spec["network"]), dict(spec.get("options") or {})
    branch = {k: spec[k] for k in ("attention", "generation", "stem", "block", "fin") if spec.get(k) is not None}
    known = [*ARCHITECTURES, *OWN, *_TORCHVISION]
    one_of("network", name, known)
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
            network: nn.Module = seeded(seed, lambda: OWN[name].build(len(class_names), **options))
        except TypeError as problem:
            raise ValueError(f"{name} cannot be built with these options: {problem}.") from problem
        network.weights = random_weights(name, seed)
    else:
        network = load_model(name, weights="random", num_classes=len(class_names), seed=seed)
        network.loss, network.unused = MethodType(Network.loss, network), ()
    network.preprocess, network.class_names = preprocess, list(class_names)
    return network.train()


def start_from_imagenet(network: nn.Module, name: str) -> None:
    """Give the layers of ``network`` that torchvision's ``name`` has too its ImageNet weights, in place.

    Layers are matched by their names, in the network itself or in its backbone (ABN, LFI-CAM). The classifier, the
    attention branch and FIN, which torchvision's network lacks, keep their initialisation.
    """
    if name not in _TORCHVISION:
        raise ValueError(f"There are no ImageNet weights of {name}: init='imagenet' needs a network of torchvision's.")
    pretrained, body = load_model(name), getattr(network, "backbone", network)
    shapes = {key: value.shape for key, value in body.state_dict().items()}
    classifier = ("fc.", "classifier.")
    shared = {k: v for k, v in pretrained.state_dict().items() if k in shapes and not k.startswith(classifier)}
    for key, value in shared.items():
        if value.shape != shapes[key]:
            raise ValueError(f"{key} has another shape in torchvision's {name}: init='imagenet' needs stem='imagenet'.")
    body.load_state_dict(shared, strict=False)
    network.weights["origin"] += f", its layers started from {pretrained.weights['origin']}"


def load_trained(path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """The network of a checkpoint (``.safetensors``) of ``python -m campanion train``, with what ``load_model`` adds.

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
