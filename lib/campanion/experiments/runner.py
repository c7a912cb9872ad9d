"""The one place that knows modes, ``NAME@DATA``, resuming, precision, provenance and files.

A study is two functions, ``measure`` (the rows of one image) and ``summary`` (all rows -> the result), in a
:class:`Question`; :func:`ask` does the rest. In mode ``cached`` a result is read; ``quick`` measures this project's
small networks on generated scenes, anew each time; ``full`` measures real data and resumes finished images.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import nn

from campanion.data import Dataset, Sample, open_dataset
from campanion.errors import MissingResult, one_of
from campanion.experiments.subject import Subject
from campanion.models import load_model
from campanion.paths import locked
from campanion.progress import track
from campanion.results import provenance
from campanion.results.rows import RowStore, read_rows, rows_path, running_path, with_rows, write_rows
from campanion.results.store import load_result, make_run, save_result

if TYPE_CHECKING:
    from campanion.experiments.training_runs import TrainedQuestion

MODES = ("cached", "quick", "full")
QUICK = ("scenes_vgg@scenes", "scenes_resnet@scenes")


@dataclass(frozen=True)
class Answer:
    """What a study concludes from its rows: means, paired differences, and what else its figures need.

    ``accuracy`` says in words how good the network is on these images; the provenance counts images and seconds of
    ``counted``, where not of all rows. Of training runs these are kept; ``weights``, ``settings``: of the provenance.
    """

    means: pd.DataFrame | Sequence[Mapping]
    differences: pd.DataFrame | Sequence[Mapping] = ()
    extra: Mapping[str, object] | None = None
    accuracy: str | None = None
    counted: pd.DataFrame | None = None
    weights: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What is measured of every image, and what is concluded.

    Attributes:
        name: of the rows; rows of one name and network are measured once, whoever asks.
        measure: gives the rows of one image, each with the columns of ``key``.
        summary: makes an :class:`Answer` of the rows, the subject and the rows of ``beside``.
        settings: all that decides the numbers beside the network, its layer and the data.
        key: columns that name a row; the first one is the unit of resuming.
        layer: the target layer, by default the model's own; ``"pool5"`` is the last max pooling.
        facts: settings that depend on the subject; may refuse it.
        beside: further questions whose rows the summary gets too; of a tuple the first that has rows.
        limit: images of a full run, whatever is requested; 0 takes the committed rows, whatever their settings.
        quick: the question of a quick run in its place; ``quick_images``: the most images of a quick run.
        older: an earlier form under the same name, whose committed rows are continued with its settings; its own next.
        anew: measured anew in every run: seconds depend on the machine.
        data: of a network that is named without one.
        small: data sets whose runs are called ``quick`` in any mode, since they answer nothing about a paper.
        load, open: what opens a network and a data set by name.
    """

    name: str
    measure: Callable[[Subject, Sample], Sequence[Mapping[str, object]]]
    summary: Callable[..., Answer] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    key: tuple[str, ...] = ("image", "method")
    layer: str | None = None
    facts: Callable[[Subject], Mapping[str, object]] = lambda subject: {}
    beside: tuple[Question | tuple[Question, ...], ...] = ()
    limit: int | None = None
    quick: Question | None = None
    quick_images: int = 3
    older: Question | None = None
    anew: bool = False
    data: str = "imagenet-val"
    small: tuple[str, ...] = ()
    load: Callable[..., nn.Module] = load_model
    open: Callable[[str], Dataset] = open_dataset

    def subject(self, model: nn.Module, data: Dataset) -> Subject:
        """The network as this question sees it."""
        return Subject(model, data, self.layer, str(self.settings.get("precision", "float32")))

    def settings_of(self, subject: Subject) -> dict[str, object]:
        """Everything that decides the numbers: kept with the rows, compared before adding to them."""
        weights = subject.model.weights
        named = {"model": weights["name"], "weights": weights["sha256"], "layer": subject.layer}
        return {**self.settings, **named, "data": subject.data.name, **self.facts(subject)}


def ask(
    notebook: str,
    mode: str,
    question: Question | Sequence[Question] | TrainedQuestion,
    models: Sequence,
    limit: int | None = None,
    device: str = "auto",
    quick: Sequence[str] = QUICK,
) -> dict:
    """The result of ``notebook``; see :mod:`campanion.results` for its form.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` measures ``quick``; ``"full"`` measures ``models``.
        question: one, or several, of which each network is asked the first that it has rows of, else the first; or a
            :class:`~campanion.experiments.training_runs.TrainedQuestion`.
        models: names, with their data set: ``"voc_mlp@voc2007"``; without one it is ``question.data``. Of a question
            about training runs these are its ``models``, in a quick run too.
        limit: images of each data set (None: all; quick: ``question.quick_images``, which is also the most).
        device: ``"auto"`` is a GPU where there is one.

    Raises:
        MissingResult: cached, and there is no result; the sentence names the command that makes it.
        ValueError: unknown mode, or kept rows were made with other settings (it names the difference).

    >>> ask("33_lift_table3_faithfulness", "quick", faithfulness.question("lift", ["lift_cam"], ["ad"]), [], limit=8)
    """
    if not isinstance(question, Question | Sequence):
        return result_of(notebook, mode, lambda: question.runs(mode, models, limit, device))
    questions = (question,) if isinstance(question, Question) else tuple(question)
    names = quick if mode == "quick" else models
    return result_of(notebook, mode, lambda: [_run(notebook, mode, questions, n, limit, device) for n in names])


def result_of(notebook: str, mode: str, measure: Callable[[], Sequence[Mapping]]) -> dict:
    """The committed result in mode ``cached``; in the others the runs that ``measure`` makes, saved."""
    one_of("mode", mode, MODES)
    return load_result(notebook) if mode == "cached" else save_result(notebook, measure())


def pick_device(device: str) -> str:
    """``"auto"`` is a GPU where there is one; any other name stays."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def measured(question: Question, model: str, limit: int | None = None, device: str = "auto") -> pd.DataFrame:
    """The rows of ``"NAME@DATA"`` in a full run, kept in ``data/results/rows``: a question without a result."""
    name, network, images = _opened(question, model, device)
    question = _question_for((question,), "full", images.name, name)
    return _rows(question, question.subject(network, images), "full", limit, question.name)[0]


def per_image(
    question: Question, subject: Subject, limit: int | None = None, name: str | None = None, fresh: bool = False
) -> tuple[pd.DataFrame, dict]:
    """Rows of at least the first ``limit`` images of ``data.order(seed)``, and their settings; resumable.

    Images in ``out/rows`` or ``data/results/rows``, under ``name``, are not measured again, but with ``fresh``. Every
    row gets seconds (of the whole image), device and torch. ValueError: the kept rows have other settings (named).
    """
    data, name = subject.data, name or question.name
    settings = question.settings_of(subject)
    committed = rows_path(data.name, settings["model"], name)
    if limit == 0:
        return read_rows(committed) if committed.exists() else (pd.DataFrame(columns=list(question.key)), settings)
    path = running_path(data.name, settings["model"], name)
    for file in (path, path.with_name(f"{path.name}-journal")) if fresh else ():
        file.unlink(missing_ok=True)
    made_on = {"device": provenance.device_name(subject.device), "torch": provenance.versions()["torch"]}
    unit = question.key[0]
    with RowStore(path, question.key, settings=settings) as store:
        if not fresh and committed.exists():
            rows, committed_settings = read_rows(committed)
            if committed_settings == store.settings:
                store.append(
                    {k: v for k, v in row.items() if pd.api.types.is_list_like(v) or pd.notna(v)}
                    for row in rows[~rows[unit].isin(store.done)].to_dict("records")
                )
            elif limit is not None and limit < (count := rows[unit].nunique()):
                raise ValueError(f"{committed} has {count} {unit}s of other settings: measure as many, or move it.")
        done = store.done
        todo = [i for i in data.order(question.settings.get("seed", 0))[:limit] if data.ids[i] not in done]
        for i in track(todo, f"{settings['model']} on {data.name}", unit=unit):
            start = time.perf_counter()
            rows = question.measure(subject, data[i])
            seconds = round(time.perf_counter() - start, 3)
            store.append({**row, **made_on, "seconds": seconds} for row in rows)
        return store.frame(), settings


def rows_of(run: Mapping) -> pd.DataFrame:
    """Per-image rows behind a run of a result."""
    settings = run["provenance"]["settings"]
    return read_rows(rows_path(run["data"], run["model"], settings.get("rows", settings["protocol"])))[0]


def _opened(question: Question, model: str, device: str) -> tuple[str, nn.Module, Dataset]:
    """Name, network and data set of ``"NAME@DATA"``."""
    name, _, data = model.partition("@")
    return name, question.load(name, device=pick_device(device)), question.open(data or question.data)


def _run(notebook: str, mode: str, questions: tuple[Question, ...], model: str, limit: int | None, device: str) -> dict:
    """The run of one network, ``"NAME@DATA"``."""
    name, network, images = _opened(questions[0], model, device)
    data = images.name
    question = _question_for(questions, mode, data, name)
    subject = question.subject(network, images)
    rows_name = f"quick_{notebook}" if mode == "quick" else question.name  # notebooks may run side by side
    rows, settings = _rows(question, subject, mode, limit, rows_name)
    if rows.empty:
        raise MissingResult(f"There are no rows {rows_name} of {name} on {data}: another notebook measures them first.")
    record_settings = {**settings, "protocol": question.name} | ({"rows": rows_name} if mode == "quick" else {})
    rows_beside = []
    for alternatives in question.beside:
        beside = _question_for(alternatives if isinstance(alternatives, tuple) else (alternatives,), mode, data, name)
        beside_name = f"{rows_name}_{beside.name}" if mode == "quick" else beside.name
        more_rows, more_settings = _rows(beside, beside.subject(network, images), mode, limit, beside_name)
        rows_beside.append(more_rows)
        if len(more_rows):
            if more_settings["weights"] != settings["weights"]:
                raise ValueError(f"Rows {rows_name} and {beside_name} of {name} have other weights: measure both anew.")
            record_settings.setdefault("beside", {})[beside_name] = more_settings
    answer = question.summary(rows, subject, *rows_beside)
    record = provenance.of_rows(
        rows if answer.counted is None else answer.counted,
        mode="quick" if data in question.small else mode,
        data=data,
        unit=question.key[0],
        weights=network.weights | ({} if answer.accuracy is None else {"accuracy": answer.accuracy}),
        seed=question.settings.get("seed", 0),
        settings=record_settings,
    )
    return make_run(answer.means, answer.differences, record, name, answer.extra)


def _rows(question: Question, subject: Subject, mode: str, limit: int | None, name: str) -> tuple[pd.DataFrame, dict]:
    """Rows and settings, written where they are committed under ``name``; a second run of the same rows waits."""
    if mode == "quick":
        limit = min(limit or question.quick_images, question.quick_images)
    elif question.limit is not None:
        limit = question.limit
    data, model = subject.data.name, subject.model.weights["name"]
    lock = running_path(data, model, name).with_suffix(".lock")
    with locked(lock, f"Another run is measuring {lock.stem}; this one waits, and takes what is done."):
        rows, settings = per_image(question, subject, limit, name, fresh=mode == "quick" or question.anew)
        if len(rows) and limit != 0:
            write_rows(rows, rows_path(data, model, name), settings)
    return rows, settings


def _question_for(questions: tuple[Question, ...], mode: str, data: str, model: str) -> Question:
    """The question that is put to a network: the first that it has rows of; in a quick run its quick form."""
    if mode == "quick":
        question = questions[0].quick or questions[0]
        exact = {"precision": "float32"} if "precision" in question.settings else {}
        return replace(question, settings={**question.settings, **exact})
    name = with_rows([q.name for q in questions], data, model)
    question, committed = next(q for q in questions if q.name == name), rows_path(data, model, name)
    if question.older is not None and committed.exists():
        settings = read_rows(committed)[1]
        form: Question | None = question
        while form is not None and not _within(form.settings, settings):
            form = form.older
        return replace(form, limit=question.limit) if form else question
    return question


def _within(settings: Mapping[str, object], committed: Mapping[str, object]) -> bool:
    """Whether committed settings have all these, but the layer, which they know by the network's name for it."""
    settings = json.loads(json.dumps(dict(settings)))  # as they are kept: a tuple is a list there
    return all(name in committed and committed[name] == value for name, value in settings.items() if name != "layer")
