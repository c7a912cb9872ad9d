"""Train the network that answers questions about images: ``python -m campanion train vqa_scenes``.

On generated scenes (default) this takes minutes on one thread of a CPU; the first half of the CNN is that of
``scenes_resnet``, frozen. With ``vqa_v2`` it is trained on VQA v2's train questions as Antol et al. did: a
torchvision CNN with ImageNet weights stays frozen. What is frozen looks at each image once; its features of VQA v2's
images are kept in ``out/features``. The accuracies are measured on held-out questions with the network as read back
from the written file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campanion.data import open_dataset
from campanion.data.questions import ANSWERS, HELD_OUT_SEED, QuestionSet, SceneQuestions, commonest, words
from campanion.errors import unknown
from campanion.models.load import load_model
from campanion.models.small import SIZE
from campanion.models.vqa import VQA, Design, build_vqa, last_linear, load_vqa, stored
from campanion.paths import checkpoints_dir, data_dir
from campanion.results.provenance import device_name
from campanion.training.checkpoint import Clock, write_checkpoint
from campanion.training.fit import fit, unfinished
from campanion.training.recipe import Recipe
from campanion.training.vqa_pairs import Pairs, accuracy, predict, see_features, see_scenes

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
    """Train, write the three files to ``folder`` and return the facts; a run that was stopped resumes.

    Args:
        data: ``"scenes"`` or ``"vqa-v2"``.
        folder: where the files go: by default the project's checkpoints (scenes) or ``CAMPANION_DATA/weights``.
        cnn: the frozen torchvision network of VQA v2.
        scenes, tests: numbers of scenes to train and to test on.
        limit: only so many questions of each split of VQA v2, the first of ``dataset.order()``.
        seed: of the initialisation, the scenes, the order and dropout.
        epochs: other than the recipe's.
        recipe: other than that of :data:`RECIPES`.

    Raises:
        ValueError: unknown data, or too little of them; raised before any work.
        MissingData: VQA v2, its images or the CNN's weights are not there.
    """
    if data not in DATA:
        raise ValueError(unknown("data to train on", data, DATA))
    recipe = recipe or RECIPES[data]
    recipe = recipe if epochs is None else recipe.model_copy(update={"epochs": epochs})
    if min(scenes, tests) < 10 or recipe.epochs < 1 or (limit is not None and limit < 10):
        raise ValueError("Training needs 10 scenes or questions of each kind and one epoch at the least.")
    clock = Clock()
    if data == "scenes":
        name, see, folder = "vqa_scenes", see_scenes, folder or checkpoints_dir()
        learnt = SceneQuestions(scenes, seed, SIZE, "train", per_type=3)
        held = SceneQuestions(tests, HELD_OUT_SEED, SIZE, "test")
        design = Design(
            "scenes", _vocabulary(learnt, 1), ANSWERS, joint=256, embedding=32, hidden=64, classifier=256, dropout=0.0
        )
    else:
        name, see, folder = "vqa_v2", see_features, folder or data_dir() / "weights"
        learnt = _first(open_dataset(data, split="train"), limit)
        held = _first(open_dataset(data, split="val", answers=learnt.class_names), limit)
        design = Design(cnn, _vocabulary(learnt, 3), learnt.class_names)
    model = _initial(design, seed, device)
    place = unfinished(
        name, {"design": asdict(design), "recipe": recipe.as_dict(), "seed": seed, "data": [learnt.card, limit]}
    )
    pairs = Pairs.of(learnt)
    train(model, see(model, pairs.images), pairs, recipe, seed, place)
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
        network, asked = load_vqa(name, weights=path, device=device), Pairs.of(held)
        return {"accuracy": accuracy(held, predict(network, see(network, asked.images), asked))}

    facts = write_checkpoint(folder / f"{name}.safetensors", state, facts, measured, about)
    shutil.rmtree(place)
    return facts


def train(model: VQA, see: Callable[[Tensor], Tensor], pairs: Pairs, recipe: Recipe, seed: int, place: Path) -> None:
    """Cross-entropy on the commonest answer; questions whose answer is no class are left out.

    Args:
        model: on its device; its parameters are changed.
        see: from indices of images to their vectors u' [B, joint], with gradients.
        pairs: images and questions.
        recipe, seed, place: see :func:`campanion.training.fit.fit`.
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
        asked = rows[torch.cat(chosen)]
        text, which = asked[:, 1].unique(return_inverse=True)
        seen, read = see(images[batch]), model.question(tokens[text.to(device)])
        logits = model.classifier(seen[torch.cat(image).to(device)] * read[which.to(device)])
        return F.cross_entropy(logits, asked[:, 2].to(device))

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


def _vocabulary(data: QuestionSet, least: int) -> tuple[str, ...]:
    """The words that occur ``least`` times or more, the commonest first."""
    spoken = [word for q in data.questions for word in words(q.text)]
    unique, counts = np.unique(spoken, return_counts=True)
    rare = set(unique[counts < least].tolist())
    return tuple(word for word in commonest(spoken) if word not in rare)


def _first(data: QuestionSet, limit: int | None) -> QuestionSet:
    """``data`` with the first ``limit`` questions of its order alone."""
    return data if limit is None else data.only(sorted(data.order()[:limit]))
