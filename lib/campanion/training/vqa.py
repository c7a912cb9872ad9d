"""Train the network that answers questions about images: ``python -m campanion train vqa_scenes``.

On generated scenes (default) this takes minutes on one thread of a CPU; the first half of the CNN is that of
``scenes_resnet``, frozen. With ``vqa_v2`` it is trained on VQA v2's train questions as Antol et al. did: a
torchvision CNN with ImageNet weights stays frozen. What is frozen looks at each image once; its features of VQA v2's
images are kept in ``out/features``. The accuracies are measured on held-out questions with the network as read back
from the written file.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campanion.data import open_dataset
from campanion.data.questions import (
    ANSWERS,
    HELD_OUT_SEED,
    QuestionImages,
    QuestionSet,
    SceneQuestions,
    commonest,
    words,
)
from campanion.data.vqa import vqa_accuracy
from campanion.errors import one_of
from campanion.models.load import load_model
from campanion.models.small import MEAN, SIZE, STD
from campanion.models.vqa import VQA, Design, build_vqa, last_linear, load_vqa, stored
from campanion.paths import checkpoints_dir, data_dir
from campanion.results.provenance import device_name
from campanion.training.batches import MemoryImages, normalise
from campanion.training.checkpoint import Clock, write_checkpoint
from campanion.training.features import features
from campanion.training.fit import fit, unfinished
from campanion.training.recipe import Recipe

DATA = ("scenes", "vqa-v2")
_SHARED = {"batch": 64, "schedule": "one_cycle", "warm_up": 0.1, "optimiser": "adamw", "augment": "none"}
#: ``batch`` counts images, each with at most :data:`PER_IMAGE` questions in a step.
RECIPES = {
    "scenes": Recipe(epochs=12, lr=3e-3, weight_decay=1e-2, **_SHARED),
    "vqa-v2": Recipe(epochs=20, lr=1e-3, weight_decay=1e-4, **_SHARED),
}
PER_IMAGE = 10


def run(
    data: str = "scenes", folder: Path | None = None, cnn: str = "resnet18", scenes: int = 12_000, tests: int = 1_000,
    limit: int | None = None, seed: int = 0, epochs: int | None = None, device: str = "cpu",
    recipe: Recipe | None = None,
) -> dict[str, object]:  # fmt: skip
    """Train on ``"scenes"`` or ``"vqa-v2"``, write the three files to ``folder`` and return the facts; resumable.

    Args:
        folder: where the files go: by default the project's checkpoints (scenes) or ``CAMPANION_DATA/weights``.
        cnn: the frozen torchvision network of VQA v2.
        scenes, tests: numbers of scenes to train and to test on.
        limit: only so many questions of each split of VQA v2, the first of ``dataset.order()``.
        seed: of the initialisation, the scenes, the order and dropout.
        epochs, recipe: other than those of :data:`RECIPES`.
    """
    one_of("data to train on", data, DATA)
    recipe = recipe or RECIPES[data]
    recipe = recipe if epochs is None else recipe.model_copy(update={"epochs": epochs})
    if min(scenes, tests) < 10 or recipe.epochs < 1 or (limit is not None and limit < 10):
        raise ValueError("Training needs 10 scenes or questions of each kind and one epoch at the least.")
    clock = Clock()
    if data == "scenes":
        name, vectors_of, folder = "vqa_scenes", scene_vectors, folder or checkpoints_dir()
        learnt = SceneQuestions(scenes, seed, SIZE, "train", per_type=3)
        held = SceneQuestions(tests, HELD_OUT_SEED, SIZE, "test")
        design = Design(
            "scenes", _vocabulary(learnt, 1), ANSWERS, joint=256, embedding=32, hidden=64, classifier=256, dropout=0.0
        )
    else:
        name, vectors_of, folder = "vqa_v2", feature_vectors, folder or data_dir() / "weights"
        learnt = _first(open_dataset(data, split="train"), limit)
        held = _first(open_dataset(data, split="val", answers=learnt.class_names), limit)
        design = Design(cnn, _vocabulary(learnt, 3), learnt.class_names)
    model = _initial(design, seed, device)
    place = unfinished(
        name, {"design": asdict(design), "recipe": recipe.as_dict(), "seed": seed, "data": [learnt.card, limit]}
    )
    pairs = Pairs.of(learnt)
    train(model, vectors_of(model, pairs.images), pairs, recipe, seed, place)
    state, about = stored(model)
    facts: dict[str, object] = {
        "name": name,
        "parameters": sum(v.numel() for v in state.values()),
        "target_layer": model.target_layer,
        "design": asdict(design),
        "data": {"name": data, "train": learnt.card, "test": held.card},
        "questions": len(learnt),
        "seed": seed,
        "recipe": recipe.as_dict(),
        "per_image": PER_IMAGE,
        **clock.minutes(),
        "device": device_name(device),
        "made_again": f"Made again by `python -m campanion train {name}`.",
    }

    def measured(path: Path) -> dict[str, object]:
        network, held_pairs = load_vqa(name, weights=path, device=device), Pairs.of(held)
        return {"accuracy": accuracy(held, predict(network, vectors_of(network, held_pairs.images), held_pairs))}

    facts = write_checkpoint(folder / f"{name}.safetensors", state, facts, measured, about)
    shutil.rmtree(place)
    return facts


def train(
    model: VQA, vectors: Callable[[Tensor], Tensor], pairs: Pairs, recipe: Recipe, seed: int, place: Path
) -> None:
    """Cross-entropy on the commonest answer; questions whose answer is no class are left out.

    ``vectors`` makes the vectors u' [B, joint], with gradients, of indices of images.
    """
    device = next(model.parameters()).device
    rows = pairs.rows[pairs.rows[:, 2] >= 0]
    rows = rows[rows[:, 0].argsort(stable=True)]
    images, counts = rows[:, 0].unique_consecutive(return_counts=True)
    ends, tokens = counts.cumsum(0), model.encode(pairs.texts)

    def loss_of(batch: Tensor, generator: torch.Generator) -> Tensor:
        chosen, image = [], []
        for i, at in enumerate(batch.tolist()):
            subset = torch.randperm(int(counts[at]), generator=generator)[:PER_IMAGE]
            chosen.append(ends[at] - counts[at] + subset)
            image.append(torch.full((len(subset),), i))
        questions = rows[torch.cat(chosen)]
        text, which = questions[:, 1].unique(return_inverse=True)
        seen, read = vectors(images[batch]), model.question(tokens[text.to(device)])
        logits = model.classifier(seen[torch.cat(image).to(device)] * read[which.to(device)])
        return F.cross_entropy(logits, questions[:, 2].to(device))

    fit(model, loss_of, len(images), recipe, seed, place)


def _initial(design: Design, seed: int, device: str) -> VQA:
    """A network to be trained, its first part frozen."""
    model = build_vqa(design, seed=seed, device=device)
    cnn = model.picture.cnn
    if design.cnn == "scenes":
        start = load_model("scenes_resnet", device=device)
        parts = nn.Sequential(start.conv1, start.bn1, start.relu, start.layer1, start.layer2)
        cnn.stem.load_state_dict(parts.state_dict())
        cnn.shape.load_state_dict(start.layer3.state_dict())
        cnn.stem.requires_grad_(False)
    else:
        cnn.requires_grad_(False)
        cnn.get_submodule(last_linear(cnn)).requires_grad_(True)
    return model


def _vocabulary(data: QuestionSet, minimum: int) -> tuple[str, ...]:
    """The words that occur ``minimum`` times or more, the commonest first."""
    counts = Counter(word for q in data.questions for word in words(q.text))
    return tuple(word for word in commonest(counts.elements()) if counts[word] >= minimum)


def _first(data: QuestionSet, limit: int | None) -> QuestionSet:
    """``data`` with the first ``limit`` questions of its order alone."""
    return data if limit is None else data.only(sorted(data.order()[:limit]))


@dataclass(frozen=True)
class Pairs:
    """Questions as numbers: ``texts`` are the distinct ones, ``rows`` [N, 3] hold image, text and answer (or -1)."""

    texts: list[str]
    rows: Tensor
    images: QuestionImages

    @classmethod
    def of(cls, data: QuestionSet) -> Pairs:
        """The pairs of ``data``, sorted by image as :class:`QuestionImages` lists them."""
        images = QuestionImages(data)
        texts = sorted({q.text for q in data.questions})
        image_of = {name: i for i, name in enumerate(images.ids)}
        text_of = {text: i for i, text in enumerate(texts)}
        rows = [
            (image_of[q.picture], text_of[q.text], -1 if label is None else label)
            for q, label in zip(data.questions, data.labels, strict=True)
        ]
        return cls(texts, torch.tensor(rows), images)


@torch.no_grad()
def predict(model: VQA, vectors: Callable[[Tensor], Tensor], pairs: Pairs) -> Tensor:
    """The class [N] that the network in eval mode answers to each pair."""
    device = next(model.parameters()).device
    seen = torch.cat([vectors(i) for i in torch.arange(len(pairs.images)).split(250)])
    read = torch.cat([model.question(part) for part in model.encode(pairs.texts).split(1000)])
    parts = [part.to(device).T for part in pairs.rows.split(1000)]
    return torch.cat([model.classifier(seen[image] * read[text]).argmax(1).cpu() for image, text, _ in parts])


def accuracy(data: QuestionSet, predicted: Tensor) -> dict[str, dict[str, float | int]]:
    """Of all questions and by type: the share answered with the commonest answer, VQA accuracy, and their number."""
    rows = pd.DataFrame({"type": [q.type for q in data.questions], "top1": predicted.numpy() == data.labels})
    if data.name != "scenes":
        pairs = zip(predicted.tolist(), data.questions, strict=True)
        rows["vqa_accuracy"] = [vqa_accuracy(data.class_names[label], q.answers) for label, q in pairs]
    groups = {"all": rows, **dict(list(rows.groupby("type")))}
    return {name: {**part.drop(columns="type").mean().to_dict(), "n": len(part)} for name, part in groups.items()}


def scene_vectors(model: VQA, images: QuestionImages) -> Callable[[Tensor], Tensor]:
    """From indices of scenes to the network's vectors of them: all are drawn once, and the frozen stem is run once."""
    cnn, pixels = model.picture.cnn, MemoryImages(images, SIZE).pixels
    device = next(model.parameters()).device

    def normalised(indices: Tensor) -> Tensor:
        return normalise(pixels[indices].to(device), MEAN, STD)

    with torch.no_grad():
        stem = torch.cat([cnn.stem(normalised(part)).half() for part in torch.arange(len(pixels)).split(250)])
    return lambda i: F.normalize(cnn.read(stem[i].float(), normalised(i)), dim=1)


def feature_vectors(model: VQA, images: QuestionImages) -> Callable[[Tensor], Tensor]:
    """From indices to the vectors of images, by the last layer alone: the frozen rest was run once, features kept."""
    device = next(model.parameters()).device
    trunk = load_model(model.design.cnn, device=str(device))
    name = last_linear(trunk)
    trunk.set_submodule(name, nn.Identity())
    trunk.target_layer = name
    (maps,) = features(trunk, images, range(len(images)), ("whole",), str(device))
    last = model.picture.cnn.get_submodule(name)
    return lambda i: F.normalize(last(torch.from_numpy(maps[i.numpy()]).to(device).float()), dim=1)
