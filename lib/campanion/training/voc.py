"""Train a multi-label head on Pascal VOC 2007: ``python -m campanion train voc_mlp`` (or ``linear``).

The trunk, ResNet-18 with ImageNet weights, stays frozen, so its maps of the training pictures are computed once and
kept in ``out/features``; the head is then trained on them in minutes on one thread of a CPU. Writes
``voc_HEAD.safetensors``, its facts ``.json`` and its card ``.md``; the mean average precisions are measured on
pictures that were never trained on, with the network as read back from the written file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from campanion.models.load import load_model
from campanion.models.voc_nets import HEAD, HIDDEN, TARGET_LAYER, TRUNK, build_voc_net
from campanion.paths import checkpoints_dir
from campanion.progress import track
from campanion.training.checkpoints import Clock, write_facts, write_weights
from campanion.training.features import batches_of, features

IGNORED = -1  # in place of 0 or 1: the class shows in the picture, but only in objects marked difficult
VIEWS = ("whole", "mirrored", "crop 1")


@dataclass(frozen=True)
class Recipe:
    """How a head is trained; the values were chosen on a held-out fifth of the training pictures (:func:`hold_out`).

    The head first learns on maps averaged over their positions. ``voc_mlp`` then starts from the same function, each
    channel's weight spread evenly over the positions, and learns ``fine_epochs`` more on the maps themselves: from
    random weights its 25,088 inputs overfit so few pictures.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    dropout: float = 0.0
    fine_epochs: int = 0
    fine_learning_rate: float = 0.0
    batch: int = 64


RECIPES = {
    "mlp": Recipe(80, 1e-3, weight_decay=0.1, dropout=0.3, fine_epochs=10, fine_learning_rate=1e-4),
    "linear": Recipe(40, 3e-3, weight_decay=0.01),
}


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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build_voc_net(f"voc_{head}", recipe.dropout)
        channels = nn.Linear(maps[0].shape[1], HIDDEN)
    averaged = [view.mean((2, 3), keepdims=True, dtype=np.float32) for view in maps]
    layers = net.fc if head == "linear" else nn.Sequential(channels, *net.fc[1:])
    train(nn.Sequential(nn.Flatten(1), layers), averaged, targets, recipe, seed, device)
    if head == "mlp":
        positions = maps[0][0, 0].size
        with torch.no_grad():
            net.fc[0].weight.copy_(channels.weight.repeat_interleave(positions, 1) / positions)
            net.fc[0].bias.copy_(channels.bias)
        fine = replace(recipe, epochs=recipe.fine_epochs, learning_rate=recipe.fine_learning_rate)
        train(head_of(net), maps, targets, fine, seed, device)
    return net.eval()


def head_of(net: nn.Module) -> nn.Sequential:
    """What a VOC network does after its trunk."""
    return nn.Sequential(net.avgpool, nn.Flatten(1), net.fc)


def hold_out(head: str, seed: int = 0, device: str = "cpu", **changes: float) -> float:
    """mAP on a fixed fifth of the training pictures of a head trained on the others: for choosing a recipe.

    >>> hold_out("mlp", dropout=0.3)
    """
    data = open_dataset("voc2007", split="train")
    recipe = replace(RECIPES[head], **changes)
    maps = features(load_model(TRUNK, device=device), data, range(len(data)), VIEWS, device)
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
        head: ``"mlp"`` or ``"linear"``.
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
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, fine_epochs=min(epochs, recipe.fine_epochs))
    data = open_dataset("voc2007", split="train")
    trunk = load_model(TRUNK, device=device)
    indices = sorted(data.order()[:limit])
    clock = Clock()
    maps = features(trunk, data, indices, VIEWS, device)
    minutes_of_maps = clock.minutes()["minutes"]
    net = fit(head, maps, torch.stack([target_of(data.objects(i)) for i in indices]), recipe, seed, device)
    minutes = clock.minutes(2)
    state = {k: v.detach().half().cpu().contiguous() for k, v in net.state_dict().items() if k.startswith(HEAD)}
    path = (folder or checkpoints_dir()) / f"{name}.safetensors"
    write_weights(path, state, {"trunk_sha256": trunk.weights["sha256"]})
    facts: dict[str, object] = {
        "name": name,
        "parameters": sum(v.numel() for v in state.values()),
        "target_layer": TARGET_LAYER,
        "trunk": {**trunk.weights, "trained": False},
        "classes": CLASS_NAMES,
        "data": data.card,
        "n": len(indices),
        "views": VIEWS,
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


def card(facts: Mapping) -> str:
    """The model card, from the facts alone."""
    measured = facts["evaluation"]
    rows = "\n".join(f"| {where} | {found['mAP']:.3f} | {found['n']:,} |" for where, found in measured.items())
    columns = [found["classes"] for found in measured.values()]
    each = "\n".join(
        f"| {name} | " + " | ".join(f"{column[name]:.3f}" if name in column else "-" for column in columns) + " |"
        for name in facts["classes"]
    )
    kind = "two hidden layers on the flattened maps" if facts["name"] == "voc_mlp" else "mean over pixels, one layer"
    trunk, views = facts["trunk"], ", ".join(facts["views"])
    stages = f"{facts['epochs']} epochs at {facts['learning_rate']} on maps averaged over their positions"
    if facts["fine_epochs"]:
        stages += f",\n  then {facts['fine_epochs']} at {facts['fine_learning_rate']} with each position's own weights"
    spent = facts["minutes_of_maps"]
    kept = f"took {spent} of them" if spent else "were kept from an earlier run"
    made = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    return f"""# {facts["name"]}

A multi-label classifier of Pascal VOC's 20 classes: torchvision's ResNet-18 with ImageNet weights, frozen, and a head
trained by this project ({kind}; {facts["parameters"]:,} parameters). Only the head
is in `{facts["name"]}.safetensors`; the trunk is `resnet18` of the data folder. Maps are explained at
`{facts["target_layer"]}`.

| pictures | mAP | N |
|---|---|---|
{rows}

- mAP: mean over the classes of the average precision (scikit-learn); a picture does not count for a class all of whose
  objects in it are marked difficult (VOC) or are crowds (COCO). Measured with the head as read back from the file.
- None of these pictures was used in training, nor for choosing the settings: a fifth of the training pictures was held
  out for that.
- Data: {facts["data"]};
  {facts["n"]:,} of them used.
- Training: binary cross-entropy of each class, seed {facts["seed"]}, batches of {facts["batch"]}, AdamW with a cosine
  schedule, weight decay {facts["weight_decay"]}, dropout {facts["dropout"]}, in each epoch one view of each picture
  ({views}):
  {stages}.
- Trunk: `{trunk["origin"]}`, sha256 `{trunk["sha256"]}`;
  with other weights of ResNet-18 the mAP is another.
- Training took {facts["minutes"]} minutes ({facts["cpu_minutes"]} of processor time) on {facts["device"]}, with
  {made}; the trunk's maps {kept}.
- Made again by `python -m campanion train {facts["name"]}`.
- File: {facts["bytes"]:,} bytes, sha256 `{facts["sha256"]}`.
  Licence of the head: MIT, as the code.

| average precision | {" | ".join(measured)} |
|---|{"---|" * len(measured)}
{each}
"""
