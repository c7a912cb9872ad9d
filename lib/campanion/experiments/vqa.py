"""Notebook 37, LIFT-CAM's Table 6: IIC, AD and ADD over pairs of an image and a question, the answer explained.

Two data sets: questions about generated scenes with the committed network ``vqa_scenes``, which check the machinery
and answer nothing about the paper, and VQA v2 with ``vqa_v2``, a network that the user trains.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch

from campanion import metrics, paths
from campanion.cams.explain import explain_game
from campanion.data.questions import HELD_OUT_SEED, Asked, QuestionSet, SceneQuestions
from campanion.data.vqa import open_vqa, vqa_layout
from campanion.errors import MissingData
from campanion.experiments.runner import Answer, Question, ask, check_mode
from campanion.experiments.subject import Subject, in_order
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models.vqa import find_vqa, load_vqa, with_question
from campanion.results.statistics import paired, summarise
from campanion.results.store import load_result

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
    asked = with_question(model, sample.question.text)
    game = ChannelGame.of(asked, subject.image(sample))
    target = game.target(None)
    maps = torch.stack(list(explain_game(game, target, methods).maps.values()), 1)
    scores = metrics.confidence(lambda images: asked.answer(see(images)), game.images, maps, target)
    shared = {
        "question": sample.id, "image": sample.question.picture, "type": sample.question.type,
        "text": sample.question.text, "target": int(target), "label": sample.label,
        "correct": int(target) == sample.label, "probability": float(scores.original[0, 0]),
    }  # fmt: skip
    terms = {"iic": scores.iic, "ad": scores.average_drop, "add": scores.add}
    return [
        {**shared, "method": name} | {term: 100 * float(values[0, i]) for term, values in terms.items()}
        for i, name in enumerate(methods)
    ]


def summary(rows: pd.DataFrame, subject: Subject) -> Answer:
    """Means and paired differences; the right answers of each type of question beside them."""
    questions = rows.drop_duplicates("question")
    right = f"{100 * questions['correct'].mean():.1f} % of {len(questions):,} questions answered right"
    chosen = in_order(rows, METHODS[subject.data.name])
    found = questions.groupby("type", sort=False)["correct"].agg(["mean", "size"])
    types = pd.DataFrame({"accuracy": 100 * found["mean"], "questions": found["size"]}).sort_index().reset_index()
    extra = {"questions": len(questions), "types": types.to_dict("list")}
    return Answer(summarise(chosen, METRICS), paired(chosen, METRICS), extra, right)


def open_questions(name: str, answers: tuple[str, ...] | None = None) -> QuestionSet:
    """The held-out questions about generated scenes, or VQA v2 with these answers as classes."""
    return SceneQuestions(SCENES, HELD_OUT_SEED) if name == "scenes" else open_vqa(paths.data_dir(), answers=answers)


def question(answers: tuple[str, ...] | None = None) -> Question:
    """Pairs of an image and a question; ``answers`` are the classes of VQA v2's network."""
    return Question(
        "vqa", measure, summary, {"seed": 0}, ("question", "method"), quick_images=40, small=("scenes",), load=load_vqa,
        facts=lambda subject: {"methods": METHODS[subject.data.name], "card": subject.data.card},
        open=partial(open_questions, answers=answers),
    )  # fmt: skip


def ask_both(notebook: str, mode: str, limit: int | None = None, device: str = "auto") -> dict:
    """The result of ``notebook``: questions about scenes, which have the mode ``quick`` in a full run too, and VQA v2.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` measures questions about scenes; ``"full"`` measures
            all held-out questions about 1,000 scenes and, where :func:`not_there` has nothing to say, VQA v2.
        limit: questions of each data set (None: all; quick: 40).

    Raises:
        MissingResult: cached, and there is no result.
        ValueError: unknown mode.
    """
    check_mode(mode)
    scenes = ("vqa_scenes@scenes",)
    if mode != "full":
        return ask(notebook, mode, question(), (), limit, device, quick=scenes)
    ask(notebook, mode, question(), scenes, limit, device)
    if not not_there():
        answers = tuple(load_vqa("vqa_v2").class_names)
        ask(notebook, mode, question(answers), ("vqa_v2@vqa-v2",), limit, device)
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
