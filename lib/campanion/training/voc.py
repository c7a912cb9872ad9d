"""Train a multi-label head on Pascal VOC 2007: ``python -m campanion train voc_vgg16`` (``voc_mlp``, ``voc_linear``).

The trunk, VGG16's or ResNet-18's with ImageNet weights, stays frozen, so its maps of the training pictures are computed
once and kept in ``out/features``; the head is then trained on them in minutes on one thread of a CPU. Writes
``voc_HEAD.safetensors``, its facts ``.json`` and its card ``.md``; the mean average precisions are measured on
pictures that were never trained on, with the network as read back from the written file.
"""

from __future__ import annotations

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
from campanion.errors import MissingData, unknown
from campanion.models.load import load_model, load_trunk
from campanion.models.voc_nets import HIDDEN, VOC_NETS, build_voc_net
from campanion.paths import checkpoints_dir
from campanion.progress import track
from campanion.training.checkpoints import Clock, write_facts, write_weights
from campanion.training.features import batches_of, features
from campanion.training.voc_card import card

IGNORED = -1  # in place of 0 or 1: the class shows in the picture, but only in objects marked difficult
VIEWS = ("whole", "mirrored", "crop 1")


@dataclass(frozen=True)
class Recipe:
    """How a head is trained; the values were chosen on a held-out fifth of the training pictures (:func:`hold_out`).

    The head first learns on maps averaged over their positions. ``voc_mlp`` and ``voc_vgg16`` then start from the same
    function, each channel's weight spread evenly over the positions, and learn ``fine_epochs`` more on the maps
    themselves: from random weights their 25,088 inputs overfit so few pictures. Before that, ``voc_vgg16``'s two large
    layers are replaced by their truncated singular value decompositions (``models/voc_nets.py``), whose factors are
    what learns on.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    dropout: float = 0.0
    fine_epochs: int = 0
    fine_learning_rate: float = 0.0
    batch: int = 64
    views: tuple[str, ...] = VIEWS
    layer: str | None = None  # whose maps the head takes, where it is not the target layer
    precision: str = "float32"  # of the trunk's forward passes


RECIPES = {
    "vgg16": Recipe(
        12, 3e-4, weight_decay=0.1, dropout=0.5, fine_epochs=10, fine_learning_rate=3e-5, layer="features.30",
        precision="bfloat16",
    ),
    "mlp": Recipe(80, 1e-3, weight_decay=0.1, dropout=0.3, fine_epochs=10, fine_learning_rate=1e-4),
    "linear": Recipe(40, 3e-3, weight_decay=0.01),
}  # fmt: skip


def target_of(objects: Sequence[Object]) -> Tensor:
    """[20]: 1 for a class in the picture, 0 for one that is not, -1 where all its objects are difficult.

    VOC's own class lists leave the last kind out of training and evaluation.
    """
    target = torch.zeros(len(CLASS_NAMES), dtype=torch.long)
    target[[o.label for o in objects]] = IGNORED
    target[[o.label for o in objects if not o.difficult]] = 1
    return target


def train(head: nn.Module, maps: Sequence[np.ndarray], targets: Tensor, recipe: Recipe, seed: int, device: str) -> None:
    """Binary cross-entropy of each class, without ignored ones: AdamW, a cosine schedule, a random view each time.

    Args:
        head: from maps [N, K, h, w] to logits [N, C].
        maps: for each view, [N, K, h, w].
        targets: [N, C] of 1, 0 and -1 (ignored).
        recipe: epochs, rates, batch.
        seed: of the order, the views and dropout.
        device: where the head is trained.
    """
    head.to(device).train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    loss_of = nn.BCEWithLogitsLoss(reduction="none")
    steps = -(-len(targets) // recipe.batch) * recipe.epochs
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():  # dropout draws from the global generator
        torch.manual_seed(seed)
        for epoch in range(recipe.epochs):
            batches = torch.randperm(len(targets), generator=generator).split(recipe.batch)
            total = 0.0
            for batch in track(batches, f"epoch {epoch + 1} of {recipe.epochs}", unit="batch"):
                view = torch.randint(len(maps), (len(batch),), generator=generator)
                rows = np.stack([maps[v][i] for v, i in zip(view.tolist(), batch.tolist(), strict=True)])
                target = targets[batch].to(device)
                counted = (target != IGNORED).float()
                losses = loss_of(head(torch.from_numpy(rows).to(device).float()), target.clamp(min=0).float())
                loss = (losses * counted).sum() / counted.sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                total += loss.item()
            print(f"epoch {epoch + 1}: mean loss {total / len(batches):.4f}", flush=True)


def average_precision(logits: Tensor, targets: Tensor) -> Tensor:
    """Average precision of each class [C]; ignored images do not count, NaN where none is positive."""
    per_class = []
    for scores, truth in zip(logits.double().sigmoid().T, targets.T, strict=True):
        counted = truth != IGNORED
        found = average_precision_score(truth[counted], scores[counted]) if (truth == 1).any() else torch.nan
        per_class.append(found)
    return torch.tensor(per_class, dtype=torch.float64)


def evaluate(model: nn.Module, data: Dataset, indices: Sequence[int], device: str) -> dict[str, object]:
    """Mean average precision over the classes that occur, and that of each class, of a network on pictures."""
    logits, targets = [], []
    with torch.no_grad():
        for batch in track(batches_of(indices), f"evaluate on {data.name}", unit="batch"):
            samples = [data[i] for i in batch]
            logits.append(model(torch.stack([model.preprocess(s.image) for s in samples]).to(device)).cpu())
            targets += [target_of(s.objects) for s in samples]
    found = average_precision(torch.cat(logits), torch.stack(targets))
    each = {name: round(float(v), 4) for name, v in zip(CLASS_NAMES, found, strict=True) if not v.isnan()}
    return {"mAP": round(float(found.nanmean()), 4), "n": len(indices), "classes": each}


def fit(head: str, maps: Sequence[np.ndarray], targets: Tensor, recipe: Recipe, seed: int, device: str) -> nn.Module:
    """A trained VOC network, whose trunk has random weights; see :class:`Recipe` and :func:`train`."""
    name = f"voc_{head}"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build_voc_net(name, recipe.dropout)
        layers = classifier_of(net)
        start = layers if head == "linear" else nn.Sequential(*_on_averages(layers, maps[0].shape[1], HIDDEN[name]))
    averaged = [view.mean((2, 3), keepdims=True, dtype=np.float32) for view in maps]
    train(nn.Sequential(nn.Flatten(1), start), averaged, targets, recipe, seed, device)
    if head != "linear":
        positions = maps[0][0, 0].size
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)  # of the decompositions, which are sketched
            for to, learned in zip(layers, start, strict=True):
                if to is not learned:
                    _take(to.to(device), learned, positions if learned is start[0] else 1)
        fine = replace(recipe, epochs=recipe.fine_epochs, learning_rate=recipe.fine_learning_rate)
        train(head_of(net), maps, targets, fine, seed, device)
    return net.eval()


def _on_averages(layers: nn.Sequential, channels: int, hidden: int) -> list[nn.Module]:
    """``layers`` for maps of one position: the first takes ``channels`` numbers, and factors are one matrix."""
    first = nn.Linear(channels, hidden)
    return [first, *(nn.Linear(hidden, hidden) if isinstance(s, nn.Sequential) else s for s in layers[1:])]


def _take(to: nn.Module, learned: nn.Linear, positions: int) -> None:
    """Give ``to`` the function of ``learned`` [D, K], its inputs spread over ``positions``: [D, K x positions].

    Where ``to`` is a pair of factors, they are the truncated singular value decomposition, each with the square roots
    of the singular values.
    """
    pair = isinstance(to, nn.Sequential)
    if pair:
        left, values, right = torch.svd_lowrank(learned.weight, len(to[0].weight), niter=8)
        roots = values.sqrt()
        first, last = (roots[:, None] * right.T).contiguous(), left * roots
        to[1].weight.copy_(last)
    else:
        first = learned.weight
    (to[0] if pair else to).weight.copy_(first.repeat_interleave(positions, 1) / positions)
    (to[1] if pair else to).bias.copy_(learned.bias)


def classifier_of(net: nn.Module) -> nn.Module:
    """The part of a VOC network that this project trained."""
    return net.classifier if hasattr(net, "classifier") else net.fc


def head_of(net: nn.Module) -> nn.Sequential:
    """What a VOC network does after the maps that its head is trained on."""
    return nn.Sequential(net.avgpool, nn.Flatten(1), classifier_of(net))


def maps_for(head: str, data: Dataset, indices: Sequence[int], device: str) -> tuple[list[np.ndarray], dict]:
    """For each view of a recipe its maps [N, K, h, w], and the facts of the trunk that made them."""
    recipe, trunk = RECIPES[head], load_trunk(f"voc_{head}", device)
    return features(trunk, data, indices, recipe.views, device, recipe.layer, recipe.precision), trunk.weights


def hold_out(head: str, seed: int = 0, device: str = "cpu", **changes: float) -> float:
    """mAP on a fixed fifth of the training pictures of a head trained on the others: for choosing a recipe.

    >>> hold_out("mlp", dropout=0.3)
    """
    data = open_dataset("voc2007", split="train")
    recipe = replace(RECIPES[head], **changes)
    maps, _ = maps_for(head, data, range(len(data)), device)
    targets = torch.stack([target_of(data.objects(i)) for i in range(len(data))])
    order, count = data.order(), len(data) // 5
    held, rest = sorted(order[:count]), sorted(order[count:])
    module = head_of(fit(head, [view[rest] for view in maps], targets[rest], recipe, seed, device))
    with torch.no_grad():
        logits = module(torch.from_numpy(maps[0][held]).to(device).float()).cpu()
    return float(average_precision(logits, targets[held]).nanmean())


def run(
    head: str,
    folder: Path | None = None,
    limit: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, object]:
    """Train ``head`` on VOC's train pictures, write its three files to ``folder`` and return the facts.

    Args:
        head: ``"vgg16"``, ``"mlp"`` or ``"linear"``.
        folder: where the files go; by default the project's checkpoints.
        limit: only so many pictures of each set, the first of ``dataset.order()``.
        epochs: other than the recipe's.
        seed: of the initialisation, the order, the views and dropout.
        device: such as ``"cuda"``.

    Raises:
        ValueError: unknown head, or too few pictures or epochs; raised before any work.
        MissingData: no VOC pictures, or no weights of the trunk.
    """
    if head not in RECIPES:
        raise ValueError(unknown("head", head, RECIPES))
    if (limit is not None and limit < 20) or (epochs is not None and epochs < 1):
        raise ValueError("Training needs 20 pictures and one epoch at the least.")
    name, recipe = f"voc_{head}", RECIPES[head]
    parts = VOC_NETS[name]
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, fine_epochs=min(epochs, recipe.fine_epochs))
    data = open_dataset("voc2007", split="train")
    indices = sorted(data.order()[:limit])
    clock = Clock()
    maps, trunk = maps_for(head, data, indices, device)
    minutes_of_maps = clock.minutes()["minutes"]
    net = fit(head, maps, torch.stack([target_of(data.objects(i)) for i in indices]), recipe, seed, device)
    minutes = clock.minutes(2)
    state = {k: v.detach().half().cpu().contiguous() for k, v in net.state_dict().items() if k.startswith(parts.head)}
    path = (folder or checkpoints_dir()) / f"{name}.safetensors"
    write_weights(path, state, {"trunk_sha256": trunk["sha256"]})
    facts: dict[str, object] = {
        "name": name,
        "parameters": sum(v.numel() for v in state.values()),
        "target_layer": parts.layer,
        "trunk": {**trunk, "trained": False},
        "classes": CLASS_NAMES,
        "data": data.card,
        "n": len(indices),
        "seed": seed,
        **asdict(recipe),
        "evaluation": measure(load_model(name, weights=path, device=device), limit, device),
        **minutes,
        "minutes_of_maps": minutes_of_maps,
    }
    return write_facts(path, facts, card, device)


def measure(model: nn.Module, limit: int | None, device: str) -> dict[str, dict[str, object]]:
    """Mean average precisions on VOC's val pictures and, where they are there, on COCO's of the same classes."""
    sets = [open_dataset("voc2007", split="val")]
    with suppress(MissingData):
        sets.append(open_dataset("coco-voc"))
    return {data.card.partition(":")[0]: evaluate(model, data, sorted(data.order()[:limit]), device) for data in sets}
