"""Notebook 37, LIFT-CAM's Table 6: IIC, AD and ADD over pairs of an image and a question, the answer explained.

Two data sets: questions about generated scenes with the committed network ``vqa_scenes``, which check the machinery
and answer nothing about the paper, and VQA v2 with ``vqa_v2``, a network that the user trains.
"""

from __future__ import annotations

import pandas as pd
import torch

from campanion import metrics, paths
from campanion.cams.explain import explain_game
from campanion.data.questions import HELD_OUT_SEED, Asked, QuestionSet, SceneQuestions
from campanion.data.vqa import open_vqa, vqa_layout
from campanion.errors import MissingData
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject, confidence_columns, in_order
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models.vqa import find_vqa, load_vqa, with_question
from campanion.results.statistics import paired, summarise

#: The paper's two first, then what needs one backward pass too; for the small network also what asks the channel game.
METHODS = {
    "scenes": (
        "grad_cam", "lift_cam", "grad_cam_pp", "xgrad_cam:lift", "ablation_cam", "shap_cam:orderings=10", "fd_cam",
    ),
    "vqa-v2": ("grad_cam", "lift_cam", "grad_cam_pp", "xgrad_cam:lift"),
}  # fmt: skip
METRICS = ["iic", "ad", "add"]
SCENES = 1000


def measure(subject: Subject, sample: Asked) -> list[dict[str, object]]:
    """The rows of one pair, one for each method: iic, ad and add (per cent) of the predicted answer."""
    model, methods = subject.model, METHODS[subject.data.name]
    see = subject.once("see", lambda: fast(model.picture))
    answering = with_question(model, sample.question.text)
    game = ChannelGame.of(answering, subject.image(sample))
    target = game.target(None)
    maps = torch.stack(list(explain_game(game, target, methods).maps.values()), 1)
    scores = metrics.confidence(lambda images: answering.answer(see(images)), game.images, maps, target)
    shared = {
        "question": sample.id, "image": sample.question.picture, "type": sample.question.type,
        "text": sample.question.text, "target": int(target), "label": sample.label,
        "correct": int(target) == sample.label, "probability": float(scores.original[0, 0]),
    }  # fmt: skip
    columns = confidence_columns(scores)
    return [{**shared, "method": name, **terms} for name, terms in zip(methods, columns, strict=True)]


def summary(rows: pd.DataFrame, subject: Subject) -> Answer:
    """Means and paired differences; the right answers of each type of question beside them."""
    questions = rows.drop_duplicates("question")
    right = f"{100 * questions['correct'].mean():.1f} % of {len(questions):,} questions answered right"
    chosen = in_order(rows, METHODS[subject.data.name])
    types = questions.groupby("type")["correct"].agg(accuracy="mean", questions="size").reset_index()
    types["accuracy"] *= 100
    extra = {"questions": len(questions), "types": types.to_dict("list")}
    return Answer(summarise(chosen, METRICS), paired(chosen, METRICS), extra, right)


def open_questions(name: str) -> QuestionSet:
    """The held-out questions about generated scenes, or VQA v2 with the answers of its network as classes."""
    if name == "scenes":
        return SceneQuestions(SCENES, HELD_OUT_SEED)
    return open_vqa(paths.data_dir(), answers=tuple(load_vqa("vqa_v2").class_names))


def question() -> Question:
    """Pairs of an image and a question."""
    return Question(
        "vqa", measure, summary, {"seed": 0}, ("question", "method"), quick_images=40, small=("scenes",), load=load_vqa,
        facts=lambda subject: {"methods": METHODS[subject.data.name], "card": subject.data.card}, open=open_questions,
    )  # fmt: skip


def models() -> list[str]:
    """Those of a full run: of scenes, which has the mode ``quick`` there too, and of VQA v2 where that is there."""
    return ["vqa_scenes@scenes", *["vqa_v2@vqa-v2"] * (not not_there())]


def not_there() -> str:
    """What a run on VQA v2 lacks, in one sentence; empty where it lacks nothing."""
    lacks, layout = [], ""
    try:
        layout = vqa_layout(paths.data_dir(), "val")
    except MissingData as missing:
        lacks.append(str(missing).rstrip("."))
    if find_vqa("vqa_v2") is None:
        sample = "the sample's questions are there, but " if layout == "sample" else ""
        lacks.append(f"{sample}no network trained on VQA v2 is: `python -m campanion train vqa_v2` makes it")
    return f"VQA v2 was not run: {'; and '.join(lacks)}." if lacks else ""
