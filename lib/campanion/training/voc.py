"""Train a multi-label head on Pascal VOC 2007: ``python -m campanion train voc_vgg16`` (``voc_mlp``, ``voc_linear``).

The trunk, VGG16's or ResNet-18's with ImageNet weights, stays frozen, so its maps of the training images are computed
once and kept in ``out/features``; the head is then trained on them in minutes on one thread of a CPU. The mean average
precisions are measured on images that were never trained on, with the network as read back from the written file.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from campanion.data import Dataset, Object, open_dataset
from campanion.data.voc import CLASS_NAMES
from campanion.errors import MissingData, one_of
from campanion.models.load import load_model, load_trunk
from campanion.models.voc_nets import HIDDEN, RANKS, VOC_NETS, build_voc_net
from campanion.paths import checkpoints_dir
from campanion.progress import track
from campanion.results.provenance import device_name
from campanion.training.checkpoint import Clock, halved, write_checkpoint
from campanion.training.features import batches_of, features
from campanion.training.fit import fit, unfinished
from campanion.training.recipe import Recipe

IGNORED = -1  # in place of 0 or 1: the class shows in the image, but only in objects marked difficult
VIEWS = ("whole", "mirrored", "crop 1")


@dataclass(frozen=True)
class Head:
    """How a head is trained; the values were chosen on a held-out fifth of the training images.

    The head first learns on maps averaged over their positions. ``voc_mlp`` and ``voc_vgg16`` then start from the same
    function, each channel's weight spread evenly over the positions, and learn in a second stage on the maps
    themselves: from random weights their 25,088 inputs overfit so few images. Before that, ``voc_vgg16``'s two large
    layers are replaced by their truncated singular value decompositions (``models/voc_nets.py``), whose factors are
    what learns on.
    """

    about: str
    stages: tuple[Recipe, ...]
    dropout: float = 0.0
    views: tuple[str, ...] = VIEWS
    layer: str | None = None  # whose maps the head takes, where it is not the target layer
    precision: str = "float32"  # of the trunk's forward passes


def _stage(epochs: int, lr: float, weight_decay: float = 0.1) -> Recipe:
    return Recipe(
        epochs=epochs, batch=64, lr=lr, schedule="cosine", optimiser="adamw", weight_decay=weight_decay, augment="none"
    )


HEADS = {
    "vgg16": Head(
        "two hidden layers of 4,096 units on the flattened maps, as VGG16 has them",
        (_stage(12, 3e-4), _stage(10, 3e-5)), 0.5, layer="features.30", precision="bfloat16",
    ),
    "mlp": Head("two hidden layers on the flattened maps", (_stage(80, 1e-3), _stage(10, 1e-4)), 0.3),
    "linear": Head("mean over pixels, one layer", (_stage(40, 3e-3, weight_decay=0.01),)),
}  # fmt: skip


def target_of(objects: Sequence[Object]) -> Tensor:
    """[20]: 1 for a class in the image, 0 for one that is not, -1 (left out, as by VOC) where all are difficult."""
    target = torch.zeros(len(CLASS_NAMES), dtype=torch.long)
    target[[o.label for o in objects]] = IGNORED
    target[[o.label for o in objects if not o.difficult]] = 1
    return target


def train(head: nn.Module, maps: Sequence[np.ndarray], targets: Tensor, recipe: Recipe, seed: int, place: Path) -> None:
    """Binary cross-entropy of each class, without ignored ones, in each epoch on a random view of each image.

    ``head`` makes logits [N, C] of the ``maps`` [N, K, h, w] of a view; ``targets`` [N, C] are 1, 0 and -1 (ignored).
    """
    device = next(head.parameters()).device
    losses_of = nn.BCEWithLogitsLoss(reduction="none")

    def loss_of(batch: Tensor, generator: torch.Generator) -> Tensor:
        view = torch.randint(len(maps), (len(batch),), generator=generator)
        rows = np.stack([maps[v][i] for v, i in zip(view.tolist(), batch.tolist(), strict=True)])
        target = targets[batch].to(device)
        counted = (target != IGNORED).float()
        losses = losses_of(head(torch.from_numpy(rows).to(device).float()), target.clamp(min=0).float())
        return (losses * counted).sum() / counted.sum()

    fit(head, loss_of, len(targets), recipe, seed, place)


def average_precision(logits: Tensor, targets: Tensor) -> Tensor:
    """Average precision of each class [C]; ignored images do not count, NaN where none is positive."""
    per_class = []
    for scores, truth in zip(logits.double().sigmoid().T, targets.T, strict=True):
        counted = truth != IGNORED
        per_class.append(average_precision_score(truth[counted], scores[counted]) if (truth == 1).any() else torch.nan)
    return torch.tensor(per_class, dtype=torch.float64)


def evaluate(model: nn.Module, data: Dataset, indices: Sequence[int], device: str) -> dict[str, object]:
    """Mean average precision over the classes that occur, and that of each class, of a network on images."""
    logits, targets = [], []
    with torch.no_grad():
        for batch in track(batches_of(indices), f"evaluate on {data.name}", unit="batch"):
            samples = [data[i] for i in batch]
            logits.append(model(torch.stack([model.preprocess(s.image) for s in samples]).to(device)).cpu())
            targets += [target_of(s.objects) for s in samples]
    precisions = average_precision(torch.cat(logits), torch.stack(targets))
    classes = {name: round(float(v), 4) for name, v in zip(CLASS_NAMES, precisions, strict=True) if not v.isnan()}
    return {"mAP": round(float(precisions.nanmean()), 4), "n": len(indices), "classes": classes}


def train_head(
    name: str, head: Head, maps: Sequence[np.ndarray], targets: Tensor, seed: int, device: str, place: Path
) -> nn.Module:
    """A trained VOC network, whose trunk has random weights; see :class:`Head`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build_voc_net(name, head.dropout).to(device)
        layers = start = after_maps(name, net)[-1]
        if len(head.stages) > 1:  # for maps of one position; factors are one matrix
            first, hidden = nn.Linear(maps[0].shape[1], HIDDEN[name]), (HIDDEN[name], HIDDEN[name])
            rest = (nn.Linear(*hidden) if isinstance(s, nn.Sequential) else s for s in layers[1:])
            start = nn.Sequential(first, *rest)
    averaged = [view.mean((2, 3), keepdims=True, dtype=np.float32) for view in maps]
    train(nn.Sequential(nn.Flatten(1), start.to(device)), averaged, targets, head.stages[0], seed, place / "averaged")
    if len(head.stages) > 1:
        positions = maps[0][0, 0].size
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)  # of the decompositions, which are sketched
            for target, source in zip(layers, start, strict=True):
                if target is not source:
                    _copy_layer(target, source, positions if source is start[0] else 1)
        train(after_maps(name, net), maps, targets, head.stages[1], seed, place / "positions")
    return net.eval()


def _copy_layer(target: nn.Module, source: nn.Linear, positions: int) -> None:
    """Give ``target`` the function of ``source`` [D, K], its inputs spread over ``positions``: [D, K x positions]."""
    first = last = target
    weight = source.weight
    if isinstance(target, nn.Sequential):
        first, last = target  # of the truncated singular value decomposition, square roots of the values in both
        left, values, right = torch.svd_lowrank(weight, len(first.weight), niter=8)
        roots = values.sqrt()
        last.weight.copy_(left * roots)
        weight = (roots[:, None] * right.T).contiguous()
    first.weight.copy_(weight.repeat_interleave(positions, 1) / positions)
    last.bias.copy_(source.bias)


def after_maps(name: str, net: nn.Module) -> nn.Sequential:
    """What a VOC network does after the maps that its head is trained on; the head is the last step."""
    return nn.Sequential(net.avgpool, nn.Flatten(1), net.get_submodule(VOC_NETS[name].head.rstrip(".")))


def run(
    head: str, folder: Path | None = None, limit: int | None = None, epochs: int | None = None, seed: int = 0,
    device: str = "cpu",
) -> dict[str, object]:  # fmt: skip
    """Train a head of :data:`HEADS` on VOC's train images, write its three files to ``folder`` and return the facts.

    A run that was stopped resumes after its last whole epoch.

    Args:
        folder: where the files go; by default the project's checkpoints.
        limit: only so many images of each set, the first of ``dataset.order()``.
        epochs: other than those of :data:`HEADS`.
        seed: of the initialisation, the order, the views and dropout.
    """
    one_of("head", head, HEADS)
    if (limit is not None and limit < 20) or (epochs is not None and epochs < 1):
        raise ValueError("Training needs 20 images and one epoch at the least.")
    name, settings, parts = f"voc_{head}", HEADS[head], VOC_NETS[f"voc_{head}"]
    if epochs is not None:
        lengths = (epochs, *(min(epochs, stage.epochs) for stage in settings.stages[1:]))
        stages = zip(settings.stages, lengths, strict=True)
        settings = replace(settings, stages=tuple(stage.model_copy(update={"epochs": n}) for stage, n in stages))
    data = open_dataset("voc2007", split="train")
    indices = sorted(data.order()[:limit])
    clock = Clock()
    net = load_trunk(name, device)
    maps = features(net, data, indices, settings.views, device, settings.layer, settings.precision)
    trunk = net.weights
    minutes_of_maps = clock.minutes()["minutes"]
    place = unfinished(name, {"head": asdict(settings), "seed": seed, "data": data.card, "limit": limit, **trunk})
    targets = torch.stack([target_of(data.objects(i)) for i in indices])
    net = train_head(name, settings, maps, targets, seed, device, place)
    state = {key: value for key, value in net.state_dict().items() if key.startswith(parts.head)}
    facts: dict[str, object] = {
        "name": name,
        "head": settings.about,
        "parameters": sum(v.numel() for v in state.values()),
        "target_layer": parts.layer,
        "trunk": {**trunk, "network": "VGG16" if head == "vgg16" else "ResNet-18", "trained": False},
        "ranks": RANKS,
        "classes": CLASS_NAMES,
        "data": {"name": "voc2007", "train": f"{data.card}; {len(indices):,} of them used"},
        "seed": seed,
        "dropout": settings.dropout,
        "views": settings.views,
        "precision": settings.precision,
        "stages": [stage.as_dict() for stage in settings.stages],
        **clock.minutes(2),
        "minutes_of_maps": minutes_of_maps,
        "device": device_name(device),
        "made_again": f"Made again by `python -m campanion train {name}`.",
    }

    def measured(path: Path) -> dict[str, object]:
        return {"accuracy": measure(load_model(name, weights=path, device=device), limit, device)}

    path, about = (folder or checkpoints_dir()) / f"{name}.safetensors", {"trunk_sha256": trunk["sha256"]}
    facts = write_checkpoint(path, halved(state, dimensions=0), facts, measured, about)
    shutil.rmtree(place)
    return facts


def measure(model: nn.Module, limit: int | None, device: str) -> dict[str, dict[str, object]]:
    """Mean average precisions on VOC's val images and, where they are there, on COCO's of the same classes."""
    sets = [open_dataset("voc2007", split="val")]
    with suppress(MissingData):
        sets.append(open_dataset("coco-voc"))
    return {data.card.partition(":")[0]: evaluate(model, data, sorted(data.order()[:limit]), device) for data in sets}
