"""LIFT-CAM's Table 6: IIC, AD and ADD of the methods over pairs of a picture and a question, the answer explained.

Two data sets: questions about generated scenes with the committed network ``vqa_scenes``, which check the machinery
and answer nothing about the paper, and VQA v2 with ``vqa_v2``, a network that the user trains. Per-pair rows are kept
and resumed as those of :mod:`campanion.experiments.evaluation`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

from campanion import metrics, paths
from campanion.cams.explain import explain_game
from campanion.cams.methods import parse
from campanion.data.questions import HELD_OUT_SEED, Asked, QuestionSet, SceneQuestions
from campanion.data.vqa import open_vqa, vqa_layout
from campanion.errors import MissingData
from campanion.experiments.modes import MODES, committed, pick_device
from campanion.experiments.resumed import per_image
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models.vqa import VQA, find_vqa, load_vqa, with_question
from campanion.results import provenance
from campanion.results.measures import as_published
from campanion.results.rows import rows_path, write_rows
from campanion.results.statistics import paired, summarise
from campanion.results.store import load_result, make_run, save_result

#: The paper's two first, then what needs one backward pass too; for the small network also what asks the channel game.
METHODS = {
    "scenes": (
        "grad_cam", "lift_cam", "grad_cam_pp", "xgrad_cam:lift", "ablation_cam", "shap_cam:orderings=10", "fd_cam",
    ),
    "vqa-v2": ("grad_cam", "lift_cam", "grad_cam_pp", "xgrad_cam:lift"),
}  # fmt: skip
METRICS = ("iic", "ad", "add")
SCENES = 1000
QUICK_QUESTIONS = 60
SEED = 0


def vqa_study(notebook: str, mode: str, limit: int | None = None, device: str = "auto") -> dict:
    """The result of ``notebook``; see :mod:`campanion.results` for its form. Runs on scenes have the mode ``quick``.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` measures questions about scenes; ``"full"`` measures
            all held-out questions about 1,000 scenes and, where :func:`not_there` has nothing to say, VQA v2.
        limit: questions of each data set (None: all; quick: 60).

    Raises:
        MissingResult: cached, and there is no result.
        ValueError: unknown mode.
    """
    if (result := committed(notebook, mode)) is not None:
        return result
    device = pick_device(device)
    limit = limit or (QUICK_QUESTIONS if mode == "quick" else None)
    fresh = {"name": f"quick_{notebook}", "fresh": True} if mode == "quick" else {}
    runs = [
        _run(
            load_vqa("vqa_scenes", device=device),
            SceneQuestions(SCENES, HELD_OUT_SEED),
            "quick",
            limit,
            device,
            **fresh,
        )
    ]
    if mode == "full" and not not_there():
        model = load_vqa("vqa_v2", device=device)
        runs.append(_run(model, open_vqa(paths.data_dir(), answers=model.class_names), "full", limit, device))
    save_result(notebook, runs)
    return load_result(notebook)


def not_there() -> str:
    """What a run on VQA v2 lacks, in one sentence; empty where it lacks nothing."""
    lacks = []
    try:
        found = vqa_layout(paths.data_dir(), "val")
    except MissingData as missing:
        found = ""
        lacks.append(str(missing).rstrip("."))
    if find_vqa("vqa_v2") is None:
        there = "the sample's questions are there, but " if found == "sample" else ""
        lacks.append(f"{there}no network trained on VQA v2 is: `python -m campanion train vqa_v2` makes it")
    return f"VQA v2 was not run: {'; and '.join(lacks)}." if lacks else ""


def evaluate(
    model: VQA, data: QuestionSet, limit: int | None = None, name: str = "vqa", fresh: bool = False
) -> pd.DataFrame:
    """Rows (pair x method) of at least the first ``limit`` pairs of ``data.order()``, the predicted answer explained.

    Finished pairs are kept in ``out/rows`` and are not measured again, unless ``fresh``.

    Columns: question (id), image, type, text, target, label, correct, probability, increase, drop, drop_in_deletion
    (fractions), seconds (the pair's share of the run's time), device and torch.
    """
    see = fast(model.picture)

    def rows_of(sample: Asked) -> list[dict[str, object]]:
        return measure(model, see, sample, METHODS[data.name])

    return per_image(
        rows_of, model, data, settings_of(model, data), name, limit, ("question", "method"), fresh, unit="question"
    )


def settings_of(model: VQA, data: QuestionSet) -> dict[str, object]:
    """Everything that decides the numbers of :func:`evaluate`."""
    return {
        "methods": METHODS[data.name], "seed": SEED, "model": model.weights["name"], "weights": model.weights["sha256"],
        "layer": model.target_layer, "data": data.name, "card": data.card,
    }  # fmt: skip


def measure(
    model: VQA, see: Callable[[Tensor], Tensor], sample: Asked, methods: Sequence[str]
) -> list[dict[str, object]]:
    """The rows of one pair, one for each method; ``see`` is an inference copy of ``model.picture``."""
    asked = with_question(model, sample.question.text)
    image = model.preprocess(sample.image).unsqueeze(0).to(next(model.parameters()).device)
    game = ChannelGame.of(asked, image)
    target = game.target(None)
    maps = {}
    for name in methods:
        method, options = parse(name)
        maps[name] = explain_game(game, target, [method], {method: options}).maps[method]
    scores = metrics.confidence(
        lambda images: asked.answer(see(images)), image, torch.stack(list(maps.values()), 1), target
    )
    shared = {
        "question": sample.id, "image": sample.question.picture, "type": sample.question.type,
        "text": sample.question.text, "target": int(target), "label": sample.label,
        "correct": int(target) == sample.label, "probability": float(scores.original[0, 0]),
    }  # fmt: skip
    return [
        {
            **shared,
            "method": name,
            "increase": float(scores.iic[0, i]),
            "drop": float(scores.average_drop[0, i]),
            "drop_in_deletion": float(scores.add[0, i]),
        }
        for i, name in enumerate(maps)
    ]


def by_type(rows: pd.DataFrame) -> pd.DataFrame:
    """Right answers in per cent and questions of every type, from the rows of :func:`evaluate`."""
    one = rows.drop_duplicates("question")
    found = one.groupby("type", sort=False)["correct"].agg(["mean", "size"])
    return pd.DataFrame({"accuracy": 100 * found["mean"], "questions": found["size"]}).sort_index()


def _run(
    model: VQA, data: QuestionSet, mode: str, limit: int | None, device: str, name: str = "vqa", fresh: bool = False
) -> dict:
    rows = evaluate(model, data, limit, name, fresh)
    settings = settings_of(model, data)
    write_rows(rows, rows_path(data.name, model.weights["name"], name), settings)
    one = rows.drop_duplicates("question")
    pictures = one["image"].nunique()
    right = f"{100 * one['correct'].mean():.1f} % of {len(one):,} questions answered right"
    record = provenance.collect(
        mode,
        data.name,
        pictures,
        {**model.weights, "accuracy": right},
        device,
        one["seconds"].sum() / 60,
        SEED,
        settings,
    )
    record["device"] = " and ".join(sorted(one["device"].unique()))
    record["versions"]["torch"] = " and ".join(sorted(one["torch"].unique()))
    chosen = as_published(rows).sort_values(
        "method", key=lambda names: names.map({m: i for i, m in enumerate(METHODS[data.name])}), kind="stable"
    )
    extra = {"questions": len(one), "types": by_type(rows).reset_index().to_dict("list")}
    return make_run(
        summarise(chosen, list(METRICS)), paired(chosen, list(METRICS)), record, model.weights["name"], extra
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m campanion.experiments.vqa --mode full --limit 1000`` writes the result of notebook 37."""
    parser = argparse.ArgumentParser(prog="python -m campanion.experiments.vqa", description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=MODES[1:], default="full", help="default: %(default)s")
    parser.add_argument("--limit", type=int, help="questions of each data set (default: all)")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    result = vqa_study("37_lift_table6_fig4_vqa", given.mode, given.limit, given.device)
    for run in result["runs"]:
        print(provenance.line(run["provenance"]))
    print(not_there())


if __name__ == "__main__":
    main()
