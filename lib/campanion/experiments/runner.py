"""The one place that knows modes, ``NAME@DATA``, resuming, precision, provenance and files.

A study is two functions, ``measure`` (the rows of one image) and ``summary`` (all rows -> the result), in a
:class:`Question`; :func:`ask` does the rest. In mode ``cached`` a result is read; ``quick`` measures this project's
small networks on generated scenes, anew each time; ``full`` measures real data and resumes finished images.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from torch import nn

from campanion.data import Dataset, Sample, open_dataset
from campanion.errors import MissingResult, unknown
from campanion.experiments.subject import Subject
from campanion.models import load_model
from campanion.paths import locked
from campanion.progress import track
from campanion.results import provenance
from campanion.results.rows import RowStore, read_rows, rows_path, running_path, with_rows, write_rows
from campanion.results.store import load_result, make_run, save_result

MODES = ("cached", "quick", "full")
QUICK = ("scenes_vgg@scenes", "scenes_resnet@scenes")


@dataclass(frozen=True)
class Answer:
    """What a study concludes from its rows: means, paired differences, and what else its figures need.

    ``accuracy`` says in words how good the network is on these images, ``counted`` are the rows whose images and
    seconds the provenance counts, where not all.
    """

    means: pd.DataFrame | Sequence[Mapping]
    differences: pd.DataFrame | Sequence[Mapping] = ()
    extra: Mapping[str, object] | None = None
    accuracy: str | None = None
    counted: pd.DataFrame | None = None


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
        beside: further questions whose rows the summary gets too; of a tuple the first that there are rows of.
        limit: images of a full run where not those asked for; 0 takes the committed rows, whatever their settings.
        quick: what a quick run asks instead; ``quick_images``: of how many images at most.
        older: what was asked under the same name before; committed rows of it are continued as they were begun.
        anew: measured anew in every run: seconds depend on the machine.
        data: of a network that is named without one.
        small: data sets whose runs are called ``quick`` whatever the mode, since they answer nothing about a paper.
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

    @property
    def seed(self) -> int:
        """Of the order of the images and of what is drawn."""
        return int(self.settings.get("seed", 0))


def ask(
    notebook: str,
    mode: str,
    question: Question | Sequence[Question],
    models: Sequence[str],
    limit: int | None = None,
    device: str = "auto",
    quick: Sequence[str] = QUICK,
) -> dict:
    """The result of ``notebook``; see :mod:`campanion.results` for its form.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` measures ``quick``; ``"full"`` measures ``models``.
        question: what is asked; of several each network is asked the first that it has rows of, committed before
            begun, and without any the first.
        models: names, with their data set: ``"voc_mlp@voc2007"``; without one it is ``question.data``.
        limit: images of each data set (None: all; quick: ``question.quick_images``, which is also the most).
        device: ``"auto"`` is a GPU where there is one.

    Raises:
        MissingResult: cached, and there is no result; the sentence names the command that makes it.
        ValueError: unknown mode, or kept rows were made with other settings (it names the difference).

    >>> ask("33_lift_table3_faithfulness", "quick", faithfulness.question("lift", ["lift_cam"], ["ad"]), [], limit=8)
    """
    questions = (question,) if isinstance(question, Question) else tuple(question)
    names = quick if mode == "quick" else models
    return result_of(notebook, mode, lambda: [_run(notebook, mode, questions, n, limit, device) for n in names])


def result_of(notebook: str, mode: str, measure: Callable[[], Sequence[Mapping]]) -> dict:
    """The committed result in mode ``cached``; in the others the runs that ``measure`` makes, saved.

    Raises:
        MissingResult: cached, and there is no result; the sentence names the command that makes it.
        ValueError: unknown mode.
    """
    check_mode(mode)
    return load_result(notebook) if mode == "cached" else save_result(notebook, measure())


def check_mode(mode: str) -> None:
    """ValueError unless ``mode`` is one of :data:`MODES`."""
    if mode not in MODES:
        raise ValueError(unknown("mode", mode, MODES))


def pick_device(device: str) -> str:
    """``"auto"`` is a GPU where there is one; any other name stays."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def measured(question: Question, model: str, limit: int | None = None, device: str = "auto") -> pd.DataFrame:
    """The rows of ``"NAME@DATA"`` in a full run, kept in ``data/results/rows``: a question without a result.

    >>> measured(convergence.question(), "squeezenet1_1@imagenet-val", limit=50)
    """
    name, _, data = model.partition("@")
    network, images = question.load(name, device=pick_device(device)), question.open(data or question.data)
    question = _asked((question,), "full", images.name, name)
    return _kept(question, question.subject(network, images), question.name, limit)[0]


def per_image(
    question: Question, subject: Subject, limit: int | None = None, name: str | None = None, fresh: bool = False
) -> tuple[pd.DataFrame, dict]:
    """Rows of at least the first ``limit`` images of ``data.order(seed)``, and their settings; resumable.

    Finished images are kept in ``out/rows`` or committed in ``data/results/rows`` under ``name`` (the question's), and
    not measured again; ``fresh`` forgets them. Every row gets seconds (of the whole image), device and torch.

    Raises:
        ValueError: the rows' file was made with other settings (it names the difference).
    """
    data, name = subject.data, name or question.name
    settings = question.settings_of(subject)
    committed = rows_path(data.name, settings["model"], name)
    if limit == 0:
        return read_rows(committed) if committed.exists() else (pd.DataFrame(columns=list(question.key)), settings)
    path = running_path(data.name, settings["model"], name)
    if fresh:
        for file in (path, path.with_name(f"{path.name}-journal")):
            file.unlink(missing_ok=True)
    made_on = {"device": provenance.device_name(subject.device), "torch": provenance.versions()["torch"]}
    unit = question.key[0]
    with RowStore(path, question.key, settings=settings) as store:
        if not len(store) and not fresh and committed.exists():
            _take(store, *read_rows(committed))
        todo = [i for i in data.order(question.seed)[:limit] if data.ids[i] not in store.done]
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


def _run(notebook: str, mode: str, questions: tuple[Question, ...], named: str, limit: int | None, device: str) -> dict:
    """The run of one network."""
    name, _, data = named.partition("@")
    data = data or questions[0].data
    model, images = questions[0].load(name, device=pick_device(device)), questions[0].open(data)
    question = _asked(questions, mode, data, name)
    subject = question.subject(model, images)
    kept = f"quick_{notebook}" if mode == "quick" else question.name  # notebooks may run side by side
    rows, settings = _rows(question, subject, mode, limit, kept)
    if rows.empty:
        raise MissingResult(f"There are no rows {kept} of {name} on {data}: a notebook that measures them comes first.")
    told, others = {**settings, "protocol": question.name}, []
    if kept != question.name:
        told["rows"] = kept
    for alternatives in question.beside:
        other = _asked(alternatives if isinstance(alternatives, tuple) else (alternatives,), mode, data, name)
        own = f"{kept}_{other.name}" if mode == "quick" else other.name
        more, its = _rows(other, other.subject(model, images), mode, limit, own)
        if len(more) and its["weights"] != settings["weights"]:
            raise ValueError(f"The rows {kept} and {own} of {name} are of different weights: measure both anew.")
        if len(more):
            told.setdefault("beside", {})[own] = its
        others.append(more)
    answer = question.summary(rows, subject, *others)
    weights = model.weights if answer.accuracy is None else {**model.weights, "accuracy": answer.accuracy}
    counted = rows if answer.counted is None else answer.counted
    shown = "quick" if data in question.small else mode
    record = provenance.of_rows(counted, shown, data, weights, question.seed, told, question.key[0])
    return make_run(answer.means, answer.differences, record, name, answer.extra)


def _rows(question: Question, subject: Subject, mode: str, limit: int | None, name: str) -> tuple[pd.DataFrame, dict]:
    """Rows and settings, kept under ``name``; a quick run measures them anew, few images."""
    if mode == "quick":
        return _kept(question, subject, name, min(limit or question.quick_images, question.quick_images), True)
    return _kept(question, subject, name, limit if question.limit is None else question.limit, question.anew)


def _asked(questions: tuple[Question, ...], mode: str, data: str, model: str) -> Question:
    """The question that is put to a network: the first that it has rows of; in a quick run its quick form."""
    if mode == "quick":
        question = questions[0].quick or questions[0]
        if "precision" not in question.settings:
            return question
        return replace(question, settings={**question.settings, "precision": "float32"})
    name = with_rows([q.name for q in questions], data, model)
    question, committed = next(q for q in questions if q.name == name), rows_path(data, model, name)
    if question.older is not None and committed.exists():
        begun = read_rows(committed)[1]
        new, old = (json.loads(json.dumps(dict(q.settings))) for q in (question, question.older))
        if not _within(new, begun) and _within(old, begun):
            return replace(question.older, limit=question.limit)
    return question


def _within(settings: Mapping[str, object], kept: Mapping[str, object]) -> bool:
    """Whether kept settings have all these; the layer is known by its name only there."""
    return all(name in kept and kept[name] == value for name, value in settings.items() if name != "layer")


def _kept(
    question: Question, subject: Subject, name: str, limit: int | None, fresh: bool = False
) -> tuple[pd.DataFrame, dict]:
    """:func:`per_image`, and the rows written where they are committed; a second run of the same rows waits."""
    data, model = subject.data.name, subject.model.weights["name"]
    lock = running_path(data, model, name).with_suffix(".lock")
    with locked(lock, f"Another run is measuring {lock.stem}; this one waits, and takes what is done."):
        rows, settings = per_image(question, subject, limit, name, fresh)
        if len(rows) and limit != 0:
            write_rows(rows, rows_path(data, model, name), settings)
    return rows, settings


def _take(store: RowStore, rows: pd.DataFrame, settings: Mapping[str, object]) -> None:
    """Start from committed rows, where they were made with the same settings."""
    if settings != store.settings:
        return
    for _, group in rows.groupby(store.key[0], sort=False):
        store.append({k: v for k, v in row.items() if not _missing(v)} for row in group.to_dict("records"))


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
