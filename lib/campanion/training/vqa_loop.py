"""How a network learns to answer questions: pairs of pictures and questions, the loop, and its accuracies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campanion.data.questions import Pictures, QuestionSet
from campanion.data.vqa import vqa_accuracy
from campanion.files import replacing
from campanion.models.load import load_model
from campanion.models.small import SIZE
from campanion.models.vqa import VQA, last_linear
from campanion.progress import track
from campanion.training.features import features
from campanion.training.scenes import normalise

WARM_UP = 0.1  # of the steps, to the highest learning rate


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; ``batch`` counts pictures, each with at most ``per_picture`` questions a step."""

    epochs: int
    learning_rate: float
    weight_decay: float
    batch: int = 64
    per_picture: int = 10


@dataclass(frozen=True)
class Pairs:
    """Questions as numbers: ``texts`` are the distinct ones, ``rows`` [N, 3] hold picture, text and answer (or -1)."""

    texts: list[str]
    rows: Tensor
    pictures: Pictures

    @classmethod
    def of(cls, data: QuestionSet) -> Pairs:
        """The pairs of ``data``, sorted by picture as :class:`Pictures` lists them."""
        pictures = Pictures(data)
        texts = sorted({q.text for q in data.questions})
        place = {name: i for i, name in enumerate(pictures.ids)}
        at = {text: i for i, text in enumerate(texts)}
        rows = [
            (place[q.picture], at[q.text], -1 if label is None else label)
            for q, label in zip(data.questions, data.labels, strict=True)
        ]
        return cls(texts, torch.tensor(rows), pictures)


def train(model: VQA, see: Callable[[Tensor], Tensor], pairs: Pairs, recipe: Recipe, seed: int, state: Path) -> None:
    """Cross-entropy on the commonest answer: AdamW and a one-cycle learning rate over all that asks for gradients.

    Args:
        model: on its device; its parameters are changed.
        see: from indices of pictures to their vectors u' [B, joint], with gradients.
        pairs: questions; those whose answer is no class are left out.
        recipe: epochs, rates, batch.
        seed: of the order and of dropout.
        state: file of the unfinished training, written after each epoch; where it is there, it is continued.
    """
    device = next(model.parameters()).device
    rows = pairs.rows[pairs.rows[:, 2] >= 0]
    rows = rows[rows[:, 0].argsort(stable=True)]
    asked, counts = rows[:, 0].unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    tokens = model.encode(pairs.texts)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = -(-len(asked) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=steps * recipe.epochs, pct_start=WARM_UP
    )
    generator = torch.Generator().manual_seed(seed)
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
    settings = {**asdict(recipe), **asdict(model.design), "seed": seed, "data": pairs.pictures.card}
    with torch.random.fork_rng():  # dropout draws from the global generator
        torch.manual_seed(seed)
        done = _resume(state, parts, generator, settings)
        for epoch in range(done, recipe.epochs):
            model.train()
            total = 0.0
            batches = torch.randperm(len(asked), generator=generator).split(recipe.batch)
            for batch in track(batches, f"epoch {epoch + 1} of {recipe.epochs}", unit="batch"):
                chosen, picture = [], []
                for i, at in enumerate(batch.tolist()):
                    some = torch.randperm(int(counts[at]), generator=generator)[: recipe.per_picture]
                    chosen.append(ends[at] - counts[at] + some)
                    picture.append(torch.full((len(some),), i))
                here = rows[torch.cat(chosen)]
                text, which = here[:, 1].unique(return_inverse=True)
                seen, read = see(asked[batch]), model.question(tokens[text.to(device)])
                logits = model.classifier(seen[torch.cat(picture).to(device)] * read[which.to(device)])
                loss = F.cross_entropy(logits, here[:, 2].to(device))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                total += loss.item()
            _keep(state, parts, generator, settings, epoch + 1)
            print(f"epoch {epoch + 1}: mean loss {total / len(batches):.3f}", flush=True)
    model.eval()


@torch.no_grad()
def predict(model: VQA, see: Callable[[Tensor], Tensor], pairs: Pairs) -> Tensor:
    """The class [N] that the network in eval mode answers to each pair."""
    device = next(model.parameters()).device
    seen = torch.cat([see(i) for i in torch.arange(len(pairs.pictures)).split(250)])
    tokens = model.encode(pairs.texts)
    read = torch.cat([model.question(part) for part in tokens.split(1000)])
    found = [
        model.classifier(seen[picture.to(device)] * read[text.to(device)]).argmax(1).cpu()
        for picture, text, _ in (part.T for part in pairs.rows.split(1000))
    ]
    return torch.cat(found)


def accuracy(data: QuestionSet, predicted: Tensor) -> dict[str, dict[str, float | int]]:
    """Of all questions and by type: the share answered with the commonest answer, VQA accuracy, and their number."""
    found: dict[str, list[tuple[bool, float]]] = {"all": []}
    for question, label, said in zip(data.questions, data.labels, predicted.tolist(), strict=True):
        row = (said == label, vqa_accuracy(data.class_names[said], question.answers))
        found["all"].append(row)
        found.setdefault(question.type, []).append(row)
    return {
        name: {
            "top1": sum(right for right, _ in rows) / len(rows),
            **({"vqa_accuracy": sum(score for _, score in rows) / len(rows)} if data.name != "scenes" else {}),
            "n": len(rows),
        }
        for name, rows in sorted(found.items(), key=lambda item: (item[0] != "all", item[0]))
    }


def see_scenes(model: VQA, pictures: Pictures) -> Callable[[Tensor], Tensor]:
    """From indices of scenes to the network's vectors of them: all are drawn once, and the frozen stem is run once."""
    cnn, device = model.picture.cnn, str(next(model.parameters()).device)
    pixels = np.empty((len(pictures), SIZE, SIZE, 3), dtype=np.uint8)
    for i in track(range(len(pictures)), "draw scenes", unit="scene"):
        pixels[i] = np.asarray(pictures[i].image)
    drawn = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        stem = torch.cat([cnn.stem(normalise(some, device)).half() for some in drawn.split(250)])
    return lambda i: F.normalize(cnn.read(stem[i].float(), normalise(drawn[i], device)), dim=1)


def see_features(model: VQA, pictures: Pictures) -> Callable[[Tensor], Tensor]:
    """From indices to the vectors of pictures, by the last layer alone: the frozen rest was run once, features kept."""
    device = next(model.parameters()).device
    trunk = load_model(model.design.cnn, device=str(device))
    name = last_linear(trunk)
    parent, _, child = name.rpartition(".")
    setattr(trunk.get_submodule(parent), child, nn.Identity())
    trunk.target_layer = name
    (kept,) = features(trunk, pictures, range(len(pictures)), ("whole",), str(device))
    last = model.picture.cnn.get_submodule(name)
    return lambda i: F.normalize(last(torch.from_numpy(kept[i.numpy()]).to(device).float()), dim=1)


def _keep(path: Path, parts: Mapping, generator: torch.Generator, settings: Mapping, epoch: int) -> None:
    """Write all that the next epoch depends on."""
    state = {name: each.state_dict() for name, each in parts.items()}
    random = {"order": generator.get_state(), "dropout": torch.get_rng_state()}
    with replacing(path) as part:
        torch.save({**state, **random, "settings": json.dumps(settings), "epoch": epoch}, part)


def _resume(path: Path, parts: Mapping, generator: torch.Generator, settings: Mapping) -> int:
    """Take up a training that was stopped, if it had these settings; the number of its whole epochs."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["settings"] != json.dumps(settings):
        return 0
    for name, each in parts.items():
        each.load_state_dict(state[name])
    generator.set_state(state["order"])
    torch.set_rng_state(state["dropout"])
    return state["epoch"]
