"""The runner of questions about training runs: what the runner of images is to images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from torch import nn

from campanion.data import Dataset
from campanion.errors import MissingData
from campanion.experiments.runner import Answer, Question, per_image, pick_device
from campanion.models.load import read_card
from campanion.paths import locked
from campanion.results import provenance
from campanion.results.rows import read_rows, rows_path, running_path, write_rows
from campanion.results.store import make_run
from campanion.training.grid import STANDS_IN, Cell, cells, default_scale, longest, train_cells


@dataclass(frozen=True)
class TrainedQuestion:
    """What is asked of the training runs of one network on one data set.

    Attributes:
        name: of the rows; ``table``: of the grid, whose command trains what is missing.
        answer: makes an :class:`Answer` of :class:`TrainingRuns`, one of them finished; None where they are too few.
        lacking: what is said where there is no answer at all.
        takes: whether a training run of the grid is asked.
        of_training: minutes, device and torch are those of the training, which may have been elsewhere and before.
        untrained: answers that need no training run, by the network's name.
    """

    name: str
    table: str
    answer: Callable[[TrainingRuns], Answer | None]
    lacking: str
    takes: Callable[[Cell], bool]
    of_training: bool = False
    untrained: Callable[[], Mapping[str, Answer]] = lambda: {}  # noqa: PIE807 - the documentation takes a class for another one

    def runs(self, mode: str, chosen: Sequence[Cell], limit: int | None, device: str) -> list[dict]:
        """A run of a result for each data set and network of the ``chosen`` training runs, of the longest that can
        answer; ``limit``: test images (None: all; quick: 3, which is also the most). MissingData: none can answer.
        """
        images = min(limit or Question.quick_images, Question.quick_images) if mode == "quick" else limit
        made = [
            make_run(a.means, (), provenance.collect(mode, "imagenet", 1, a.weights, "cpu", 0, 0, a.settings), name)
            for name, a in self.untrained().items()
        ]
        for group in longest(cell for cell in chosen if self.takes(cell)):
            runs = TrainingRuns(group, images, pick_device(device), mode == "quick")
            made += _run(mode, self, runs) if runs.done else []
        if not made:
            scale = f"--scale {chosen[-1].scale} " if chosen else ""
            command = f"`python -m campanion grid {scale}--table {self.table} --run` trains"
            raise MissingData(f"{self.lacking}: {command}.")
        return made


@dataclass(frozen=True)
class TrainingRuns:
    """The training runs of one network on one data set. ``limit``: test images that are asked about (None: all);
    ``fresh``: what was measured of an image before does not count.
    """

    cells: Sequence[Cell]
    limit: int | None = None
    device: str = "cpu"
    fresh: bool = False

    @property
    def done(self) -> list[Cell]:
        """Those that are finished."""
        return [cell for cell in self.cells if cell.done]

    @property
    def place(self) -> tuple[str, str]:
        """Names of the data set and the network in results."""
        config = self.cells[0].config
        return set_name(config.data_name, config.pixels), config.network.removesuffix("_8x64d")

    def images(self, question: Question, network: nn.Module, data: Dataset) -> pd.DataFrame:
        """What a question has of each image by one of the networks."""
        return per_image(question, question.subject(network, data), self.limit, fresh=self.fresh)[0]

    def kept(self, name: str, measure: Callable[[Cell], pd.DataFrame], **settings: object) -> pd.DataFrame:
        """The rows ``name`` of the finished training runs, with columns cell and image; only those are measured whose
        weights (SHA-256) have none in ``data/results/rows``.
        """
        path, done = rows_path(*self.place, name), self.done
        wanted = {cell.name: read_card(cell.card)["sha256"] for cell in done}
        with locked(running_path(*self.place, name).with_suffix(".lock")):
            rows, about = read_rows(path) if path.exists() else (pd.DataFrame(columns=["cell"]), {"checkpoints": {}})
            known = about["checkpoints"]
            for cell in [cell for cell in done if known.get(cell.name) != wanted[cell.name]]:
                parts = [old for old in [rows[rows["cell"] != cell.name]] if len(old)] + [measure(cell)]
                rows = pd.concat(parts).sort_values(["cell", "image"], kind="stable", ignore_index=True)
                known[cell.name] = wanted[cell.name]
                write_rows(rows, path, {"checkpoints": known, **settings})  # a stopped run goes on from here
        return rows[rows["cell"].isin(list(wanted))]


def set_name(data: str, size: int) -> str:
    """Name of a data set in results: Imagenette goes with the size at which it is given, as in ``imagenette96``."""
    return {"imagenette": f"imagenette{size}", "ILSVRC2012": "imagenet"}.get(data, data)


def training_runs(mode: str, table: str, scale: str | None = None) -> list[Cell]:
    """The grid's training runs that a page chooses from, of a scale (None:
    :func:`~campanion.training.grid.default_scale`); a quick run trains its own, which are small, first.
    """
    if mode == "quick":
        train_cells(quick := cells("quick", table))
        return quick
    scale = scale or default_scale()
    scales = filter(None, (STANDS_IN.get(scale), scale)) if mode == "full" else ()
    return [cell for name in scales for cell in cells(name, table)]


def _run(mode: str, question: TrainedQuestion, runs: TrainingRuns) -> list[dict]:
    """The run of a result; none where the training runs are too few."""
    start, (data, network) = time.monotonic(), runs.place
    if (answer := question.answer(runs)) is None:
        return []
    minutes, n = (time.monotonic() - start) / 60, answer.counted["image"].nunique()
    record = provenance.collect(mode, data, n, answer.weights, runs.device, minutes, 0, answer.settings)
    if question.of_training:
        cards = [read_card(cell.card) for cell in runs.done]
        record["minutes"] = round(sum(card["minutes"] for card in cards), 1)
        record = provenance.measured_on(record, [c["device"] for c in cards], [c["versions"]["torch"] for c in cards])
    else:
        path = rows_path(data, network, question.name)
        if mode == "full" and path.exists() and n < (kept := read_rows(path)[0]["image"].nunique()):
            raise ValueError(f"{path} has {kept:,} images: measure as many, move it, or set CAMPANION_RESULTS.")
        write_rows(answer.counted, path, answer.settings)
    return [make_run(answer.means, answer.differences, record, network, answer.extra)]
