"""Train the network that answers questions about pictures: ``python -m campanion train vqa_scenes``.

On generated scenes (default) this takes minutes on one thread of a CPU; the first half of the CNN is that of
``scenes_resnet``, frozen. With ``vqa_v2`` it is trained on VQA v2's train questions as Antol et al. did: a
torchvision CNN with ImageNet weights stays frozen. What is frozen looks at each picture once; its features of VQA v2's
pictures are kept in ``out/features``. Writes ``NAME.safetensors``, its facts ``NAME.json`` and its card ``NAME.md``;
the accuracies are measured on held-out questions with the network as read back from the written file. A run that was
stopped goes on after the last whole epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from torch import nn

from campanion.data import open_dataset
from campanion.data.questions import ANSWERS, HELD_OUT_SEED, QuestionSet, SceneQuestions, commonest, words
from campanion.errors import unknown
from campanion.models.load import load_model
from campanion.models.small import SIZE
from campanion.models.vqa import COMMANDS, VQA, Design, build_vqa, last_linear, load_vqa, stored
from campanion.paths import checkpoints_dir, data_dir, out_dir
from campanion.training.checkpoints import Clock, write_facts, write_weights
from campanion.training.vqa_loop import Pairs, Recipe, accuracy, predict, see_features, see_scenes, train

DATA = ("scenes", "vqa-v2")
RECIPES = {
    "scenes": Recipe(epochs=12, learning_rate=3e-3, weight_decay=1e-2),
    "vqa-v2": Recipe(epochs=20, learning_rate=1e-3, weight_decay=1e-4),
}


def run(
    data: str = "scenes", folder: Path | None = None, cnn: str = "resnet18", scenes: int = 12_000, tests: int = 1_000,
    limit: int | None = None, seed: int = 0, epochs: int | None = None, device: str = "cpu",
    recipe: Recipe | None = None,
) -> dict[str, object]:  # fmt: skip
    """Train, write the three files to ``folder`` and return the facts.

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
        MissingData: VQA v2, its pictures or the CNN's weights are not there.
    """
    if data not in DATA:
        raise ValueError(unknown("data to train on", data, DATA))
    recipe = recipe or RECIPES[data]
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
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
    pairs = Pairs.of(learnt)
    unfinished = out_dir() / "train" / f"{name}.state"
    train(model, see(model, pairs.pictures), pairs, recipe, seed, unfinished)
    minutes = clock.minutes()
    state, about = stored(model)
    path = folder / f"{name}.safetensors"
    write_weights(path, state, about)
    unfinished.unlink(missing_ok=True)
    model = load_vqa(name, weights=path, device=device)
    pairs = Pairs.of(held)
    facts: dict[str, object] = {
        "name": name,
        "parameters": sum(v.numel() for v in state.values()),
        "target_layer": model.target_layer,
        "design": asdict(design),
        "data": learnt.card,
        "questions": len(learnt),
        "held_out": held.card,
        "seed": seed,
        **asdict(recipe),
        "accuracy": accuracy(held, predict(model, see(model, pairs.pictures), pairs)),
        **minutes,
    }
    return write_facts(path, facts, card, device)


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


def card(facts: Mapping) -> str:
    """The model card, from the facts alone."""
    measured, design = facts["accuracy"], facts["design"]
    both = "vqa_accuracy" in measured["all"]
    rows = "\n".join(
        f"| {name} | {100 * a['top1']:.2f} % |"
        + (f" {100 * a['vqa_accuracy']:.2f} % |" if both else "")
        + f" {a['n']:,} |"
        for name, a in measured.items()
    )
    heads = "| questions | commonest answer |" + (" VQA accuracy |" if both else "") + " N |"
    scenes = design["cnn"] == "scenes"
    kind = (
        "the shape path of `scenes_resnet`, its first two stages frozen, beside a small colour path"
        if scenes
        else f"torchvision's {design['cnn']} with ImageNet weights, frozen; only its new last layer is in the file"
    )
    aim = (
        "checking the machinery and quick runs of the notebooks. It knows drawn shapes and nothing else; no claim of\n"
        "  a paper is drawn from it."
        if scenes
        else "notebook 37, which measures LIFT-CAM's Table 6 with it."
    )
    made = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    return f"""# {facts["name"]}

Visual question answering: a CNN ({kind}) and an LSTM, multiplied (`campanion.models.vqa`).
{facts["parameters"]:,} numbers in the file; maps are explained at `{facts["target_layer"]}`. It answers with one of
{len(design["answers"])} answers and knows {len(design["words"])} words.

{heads}
|---|{"---|" * (heads.count("|") - 2)}
{rows}

- Trained on {facts["data"]}
- Held out: {facts["held_out"]}
- Training: seed {facts["seed"]}, {facts["epochs"]} epochs, batches of {facts["batch"]} pictures with up to
  {facts["per_picture"]} questions each, AdamW, one cycle to {facts["learning_rate"]}, weight decay
  {facts["weight_decay"]}, dropout {design["dropout"]}. Accuracies are of the network as read back from the file, whose
  numbers have half precision.
- It took {facts["minutes"]} minutes ({facts["cpu_minutes"]} of processor time) on {facts["device"]}, with {made}.
- Made again by `{COMMANDS[facts["name"]]}`.
- For: {aim}
- File: `{facts["name"]}.safetensors`, {facts["bytes"]:,} bytes, sha256 `{facts["sha256"]}`. Licence: MIT, as the code.
"""
