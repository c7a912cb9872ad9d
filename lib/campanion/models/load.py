"""``load_model``: torchvision's networks and this project's small networks, ready to be explained."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from campanion.errors import MissingData, unknown
from campanion.files import sha256
from campanion.game.layouts import default_layer
from campanion.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from campanion.paths import checkpoints_dir, data_dir, out_dir

#: Networks of generated scenes with an attention branch, made by ``python -m campanion train NAME``.
LEARNED_SCENES = ("scenes_lfi", "scenes_lfi_nofin", "scenes_abn")


def load_model(
    name: str, weights: str | Path | None = "auto", num_classes: int | None = None, seed: int = 0, device: str = "cpu"
) -> nn.Module:
    """A CNN in eval mode with ``.preprocess``, ``.class_names``, ``.target_layer`` and ``.weights`` (a dict of facts).

    ``.activation`` says how its logits become probabilities: ``"softmax"`` over the classes, or ``"sigmoid"`` for each
    class of a multi-label network.

    Args:
        name: any torchvision classification network, or one that this project trained: ``scenes_vgg``,
            ``scenes_resnet``, those of :data:`LEARNED_SCENES`, the heads of ``voc_vgg16``, ``voc_mlp`` and
            ``voc_linear`` (on trunks with the weights ``vgg16_features`` and ``resnet18``), or the name of any
            checkpoint that ``python -m campanion train`` exported (``imagenette_vgg``) or left in ``out/training``.
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
    if name.startswith("voc_"):
        return _voc_model(name, weights, seed, device)
    plain_scenes = name in ("scenes_vgg", "scenes_resnet")
    if name in ("imagenette_vgg", *LEARNED_SCENES) or (weights == "auto" and not plain_scenes and _finished(name)):
        return _trained_model(name, weights, seed, device)
    if name.startswith("scenes_"):
        return _scene_model(name, weights, seed, device)
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        own = ("scenes_vgg", "scenes_resnet", "voc_vgg16", "voc_mlp", "voc_linear")
        raise ValueError(unknown("model", name, [*known, *own]))
    classes = num_classes or 1000
    random = weights in (None, "random")
    if weights == "auto" and classes != 1000:
        raise ValueError("ImageNet weights have 1000 classes; pass weights='random' or a file for another number.")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        if name in ("googlenet", "inception_v3"):
            extra["aux_logits"] = False
        model = torchvision.models.get_model(name, weights=None, num_classes=classes, **extra)
    facts: dict[str, object] = {"name": name, "origin": f"random, seed {seed}", "sha256": None}
    if not random:
        state, facts = _find_weights(name, weights)
        _load(model, state, facts)
    layer = default_layer(model)
    if name.startswith("densenet"):
        layer = "features.relu5"
        # Its last ReLU is a function call without a name; one before it changes nothing.
        model.features.add_module("relu5", _Relu5())
    size = 299 if name == "inception_v3" else 224
    names = _imagenet_classes() if classes == 1000 else [str(i) for i in range(classes)]
    return _dress(model, Preprocess(size, IMAGENET_MEAN, IMAGENET_STD), names, layer, facts, device)


class _Relu5(nn.Module):
    """max(x, 0), whose gradient does not need its output: the network changes that in place."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_min(0)


def _dress(
    model: nn.Module, preprocess: Callable, names: list[str], layer: str, facts: dict, device: str,
    activation: str = "softmax",
) -> nn.Module:  # fmt: skip
    model.preprocess, model.class_names, model.target_layer, model.weights = preprocess, names, layer, facts
    model.activation = activation
    return model.to(device).eval()


def _scene_model(name: str, weights: str | Path | None, seed: int, device: str) -> nn.Module:
    from campanion.data.scenes import CLASS_NAMES
    from campanion.models import small

    if name not in small.TARGET_LAYER:
        raise ValueError(unknown("model", name, small.TARGET_LAYER))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = small.build_scene_net(name)
    facts: dict[str, object] = {"name": name, "origin": f"random, seed {seed}", "sha256": None}
    if weights not in (None, "random"):
        path = checkpoints_dir() / f"{name}.safetensors" if weights == "auto" else Path(weights)
        if not path.exists():
            raise MissingData(f"{path} is not there: run `python -m campanion train {name}`.")
        state, facts = read_weights(path), {"name": name, "origin": path.name, "sha256": sha256(path)}
        _load(model, state, facts)
    preprocess = Preprocess(small.SIZE, small.MEAN, small.STD)
    return _dress(model, preprocess, list(CLASS_NAMES), small.TARGET_LAYER[name], facts, device)


def _trained_model(name: str, weights: str | Path | None, seed: int, device: str) -> nn.Module:
    """A network that ``python -m campanion train`` made, by the name of its checkpoint."""
    from campanion.data.classification import IMAGENETTE_NAMES
    from campanion.models.trained import build_network, load_trained

    if weights in (None, "random"):
        pictures = Preprocess(96, IMAGENET_MEAN, IMAGENET_STD)
        net = build_network({"network": name}, IMAGENETTE_NAMES, pictures, seed)
        return _dress(net, net.preprocess, net.class_names, net.target_layer, net.weights, device)
    path = _finished(name) if weights == "auto" else Path(weights)
    if path is None or not path.exists():
        said = path or checkpoints_dir() / f"{name}.safetensors"
        raise MissingData(f"{said} is not there: run `python -m campanion train {name}`.")
    return load_trained(path, device)


def _finished(name: str) -> Path | None:
    """The checkpoint of that name which is committed, or which a training (also of a quick run) has left in ``out``."""
    runs = (out_dir() / "training" / name, out_dir() / "quick" / "training" / name)
    return next((p for folder in (checkpoints_dir(), *runs) if (p := folder / f"{name}.safetensors").is_file()), None)


def _voc_model(name: str, weights: str | Path | None, seed: int, device: str) -> nn.Module:
    from campanion.data.voc import CLASS_NAMES
    from campanion.models.voc_nets import VOC_NETS, build_voc_net

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_voc_net(name).eval()
    parts = VOC_NETS[name]
    facts: dict[str, object] = {"name": name, "origin": f"random, seed {seed}", "sha256": None}
    if weights not in (None, "random"):
        path = checkpoints_dir() / f"{name}.safetensors" if weights == "auto" else Path(weights)
        if not path.exists():
            raise MissingData(f"{path} is not there: run `python -m campanion train {name}`.")
        head, (trunk, under) = read_weights(path), _find_weights(parts.trunk, "auto")
        facts = {
            "name": name,
            "origin": f"{path.name} on {under['origin']}",
            # of both files: the head alone does not decide the logits
            "sha256": hashlib.sha256(f"{sha256(path)} {under['sha256']}".encode()).hexdigest(),
        }
        _load(model, {**{k: v for k, v in trunk.items() if not k.startswith(parts.head)}, **head}, facts)
    preprocess = Preprocess(224, IMAGENET_MEAN, IMAGENET_STD)
    return _dress(model, preprocess, list(CLASS_NAMES), parts.layer, facts, device, activation="sigmoid")


def load_trunk(name: str, device: str = "cpu") -> nn.Module:
    """The frozen trunk of a VOC network, with the head's parameters random; ``.weights`` are the trunk's facts.

    Raises:
        MissingData: no weights of it in the data folder.

    Example:
        >>> load_trunk("voc_vgg16").weights["origin"]  # 'vgg16_features.npz'
    """
    from campanion.models.voc_nets import VOC_NETS

    parts = VOC_NETS[name]
    model = _voc_model(name, "random", 0, device)
    state, model.weights = _find_weights(parts.trunk, "auto")
    head = {key: value for key, value in model.state_dict().items() if key.startswith(parts.head)}
    _load(model, {**{k: v for k, v in state.items() if not k.startswith(parts.head)}, **head}, model.weights)
    return model


def _imagenet_classes() -> list[str]:
    return list(torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def _find_weights(name: str, weights: str | Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    folder = data_dir() / "weights"
    paths = [folder / f"{name}.npz", folder / f"{name}.safetensors"] if weights == "auto" else [Path(weights)]
    path = next((p for p in paths if p.exists()), None)
    if path is None and weights != "auto":
        raise MissingData(f"Weights file {weights} is not there.")
    if path is None:
        path = _download(name, paths[1])
    return read_weights(path), {"name": name, "origin": path.name, "sha256": sha256(path)}


def _download(name: str, path: Path) -> Path:
    if name == "vgg16_features":
        raise MissingData(
            f"No weights of {name} under {path.parent}, not to be downloaded: put {path.stem}.npz or {path.name}"
            " there, the convolutions of the original VGG16 (torchvision's names features.*, for its normalisation)."
        )
    ways = (
        f"No weights of {name} under {path.parent}. Either run `python -m campanion data fetch weights/{name}` with a "
        f"network connection, or put {path.stem}.npz or {path.name} there (torchvision's parameter names)."
    )
    if os.environ.get("CAMPANION_OFFLINE"):
        raise MissingData(ways)
    from campanion.data.download import DownloadError
    from campanion.data.weights import fetch_weights

    try:
        return fetch_weights(name, path.parent)
    except (OSError, DownloadError) as error:
        raise MissingData(f"{ways} The download failed: {error}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Parameters from ``.npz`` (no pickles) or ``.safetensors``, floats as float32; ValueError names a bad file."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                state = {key: torch.from_numpy(np.array(file[key])) for key in file.files}
        elif path.suffix == ".safetensors":
            state = load_file(path)
        else:
            raise ValueError("only .npz and .safetensors are read (a .pth may hold code)")
    except Exception as error:  # zip, zlib, safetensors and NumPy each raise their own
        raise ValueError(f"Weights file {path} cannot be read: {error}") from error
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _load(model: nn.Module, state: dict[str, Tensor], facts: dict) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if len(str(error).splitlines()) > 1 else error
        raise ValueError(f"Weights file {facts['origin']} does not fit {facts['name']}: {first}") from error
