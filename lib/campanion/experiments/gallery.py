"""Photographs explained by many methods, kept so small that a committed figure needs no weights to be drawn again.

The photographs are free (:mod:`campanion.data.photographs`), so that a figure may show them. The networks that explain
them may not be passed on, but their maps may: a row here is one map (image x class x method) with its score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

import pandas as pd
import torch
from PIL import Image
from torch import nn

from campanion import metrics
from campanion.cams.explain import check_images, explain_game
from campanion.cams.methods import parse
from campanion.data.photographs import PHOTOGRAPHS, photograph
from campanion.errors import MissingResult, one_of
from campanion.experiments.mapfiles import packed, stacked, unpacked  # noqa: F401 - figures read the maps of rows
from campanion.experiments.runner import Answer, result_of
from campanion.experiments.subject import curve_columns
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models import load_model
from campanion.outputs import class_indices, probabilities
from campanion.pictures import percent
from campanion.progress import track
from campanion.results import provenance
from campanion.results.rows import read_rows, rows_path, write_rows
from campanion.results.statistics import paired, summarise
from campanion.results.store import make_run

_KEY = ["image", "class_name", "method"]
STEP = 1 / 28  # of the curves: FD-CAM's 3.6 % of the pixels


def measure(
    model: nn.Module,
    images: Mapping[str, Image.Image],
    classes: Mapping[str, Sequence[str]],
    methods: Sequence[str],
    step: int | float | None = STEP,
    precision: str = "float32",
) -> pd.DataFrame:
    """Explain every class of every image by every method.

    Args:
        images: PIL images, by name.
        classes: names of the classes to explain, by the image's name; they and the methods are checked before any work.
        step: of insertion (from a blurred image) and deletion (to zeros); None leaves the curves out.
        precision: of the masked images' forward passes, see :func:`campanion.inference.fast`.

    Returns:
        Rows image, class_name, target, method, probability, rank (1 is the predicted class), variation (mean absolute
        difference between neighbouring pixels of the map in 0..1 at the input's size), height, width, pixels (of the
        map, see :func:`stacked`), insertion, deletion, overall, the two curves, and seconds (the method's share of the
        wall time of its image and class).

    >>> rows = measure(model, {"chelsea": photograph("chelsea")}, PHOTOGRAPHS, ["grad_cam", "fd_cam"])
    """
    for method in methods:
        parse(method)
    targets = {name: _indices(model, name, classes) for name in images}
    device, network = next(model.parameters()).device, fast(model, precision)
    rows = []
    for name, photo in images.items():
        image = model.preprocess(photo).unsqueeze(0).to(device)
        check_images(model, image)
        game = ChannelGame.of(model, image)
        game.use_network(network)
        chances = probabilities(model, game.logits)[0]
        for target in targets[name]:
            start = time.perf_counter()
            index = class_indices(target, 1, len(model.class_names), device)
            explained = explain_game(game, index, methods)
            maps = torch.stack([explained.maps[method] for method in methods], 1)
            shared = {
                "image": name, "class_name": model.class_names[target], "target": target,
                "probability": float(chances[target]), "rank": int((chances > chances[target]).sum()) + 1,
            }  # fmt: skip
            measured = [{}] * len(methods)
            if step is not None:
                steps = {"step": step, "score": getattr(model, "activation", "softmax")}
                measured = curve_columns(metrics.insertion_deletion(game.network, image, maps, index, **steps))
            shared["seconds"] = round((time.perf_counter() - start) / len(methods), 3)
            for j, method in enumerate(methods):
                across, down = (maps[0, j].diff(dim=d).abs() for d in (1, 0))
                variation = float((across.sum() + down.sum()) / (across.numel() + down.numel()))
                row = {**shared, "method": method, "variation": variation, **packed(explained.raw[method][0])}
                rows.append({**row, **measured[j]})
    return pd.DataFrame(rows)


def photographs(
    model: str,
    mode: str,
    methods: Sequence[str],
    classes: Mapping[str, Sequence[str]] = PHOTOGRAPHS,
    device: str = "cpu",
    curves: bool = True,
) -> pd.DataFrame:
    """:func:`measure` of photographs, kept in ``data/results/rows/gallery_photographs_<model>.parquet``.

    All figures share the file: what one of them has measured, with the same weights, is not measured again. Mode
    ``"cached"`` reads the kept rows (MissingResult where a map is not there), ``"full"`` measures what is missing,
    masked images in bfloat16; in a quick run scenes stand in for photographs.

    Args:
        methods: the rows' order too.
        classes: those to explain, by the photograph's name.
        curves: whether insertion and deletion are wanted too, dozens of forward passes for each map.
    """
    for method in methods:
        parse(method)
    places = [(name, shown, method) for name in classes for shown in classes[name] for method in methods]

    def lacking(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
        """The places without a map, or without curves where they are wanted."""
        rows = rows.reindex(columns=[*_KEY, "insertion"]).dropna(subset=["insertion"] if curves else _KEY)
        known = set(rows[_KEY].itertuples(index=False, name=None))
        return [place for place in places if place not in known]

    def missing(network: nn.Module, rows: pd.DataFrame, settings: Mapping[str, str]) -> Iterator[pd.DataFrame]:
        step, precision = STEP if curves else None, settings.get("precision", "float32")
        units = [(unit, [method for *_, method in part]) for unit, part in groupby(lacking(rows), lambda p: p[:2])]
        for (name, shown), wanted in track(units, f"{model} on photographs", unit="class"):
            new = measure(network, {name: photograph(name)}, {name: [shown]}, wanted, step, precision)
            parts = [rows] * (len(rows) > 0) + [new]
            rows = pd.concat(parts).drop_duplicates(_KEY, keep="last", ignore_index=True)
            yield rows

    about = {"model": model, "step": STEP, "precision": "bfloat16"}
    rows = of_photographs("gallery", model, mode, device, missing, about)
    for name, shown, method in lacking(rows):
        raise MissingResult(f"There is no map of {shown} in {name} by {method}: set mode = 'full' to make it.")
    return rows.set_index(_KEY, drop=False).loc[places].reset_index(drop=True)


def of_photographs(
    name: str, model: str, mode: str, device: str, missing: Callable[..., Iterator[pd.DataFrame]], settings: Mapping
) -> pd.DataFrame:
    """The kept rows ``NAME_photographs_MODEL``; mode ``full`` first adds what they lack: ``missing`` (network, rows,
    settings) gives them longer by a piece each time. Rows that were begun without a ``precision`` go on in float32.
    """
    if mode not in ("cached", "full"):
        raise ValueError(f"Photographs are measured in mode 'full' and read in mode 'cached', not {mode!r}.")
    path = rows_path("photographs", model, name)
    if mode == "full":
        network = load_model(model, device=device)
        rows, begun = read_rows(path) if path.exists() else (pd.DataFrame(), settings)
        settings = {key: value for key, value in settings.items() if key != "precision" or key in begun}
        settings |= {"weights_sha256": network.weights["sha256"]}
        for longer in missing(network, rows if begun == settings else pd.DataFrame(), settings):
            write_rows(longer, path, settings)
    return read_rows(path)[0]


def result_of_photographs(notebook: str, mode: str, answers: Mapping[str, Answer], **about: object) -> dict:
    """The result ``notebook`` of photographs (in a quick run of scenes), from the answers by the network's name."""

    def run(model: str, answer: Answer) -> dict:
        data, weights = "scenes" if mode == "quick" else "photographs", load_model(model).weights
        n, minutes = answer.counted["image"].nunique(), answer.counted["seconds"].sum() / 60
        record = provenance.collect(mode, data, n, weights, minutes=minutes, seed=0, **about)
        return make_run(answer.means, answer.differences, record, model)

    return result_of(notebook, mode, lambda: [run(*named) for named in answers.items()])


def summary(rows: pd.DataFrame, metrics: Sequence[str], reference: str) -> Answer:
    """Means of ``metrics`` over all images and classes, and differences from the method ``reference``."""
    return Answer(summarise(rows, metrics), paired(rows, metrics, reference), counted=rows)


def captions(rows: pd.DataFrame) -> list[str]:
    """``"tripod 88 %"`` for each image and class of ``rows``, in their order."""
    shown = rows.drop_duplicates(["image", "target"])
    return [f"{r.class_name} {percent(r.probability)}" for r in shown.itertuples()]


def _indices(model: nn.Module, name: str, classes: Mapping[str, Sequence[str]]) -> list[int]:
    """Indices of the classes of image ``name``; of two classes of one name (ImageNet's cranes) the first."""
    if not classes.get(name):
        raise ValueError(f"Say which classes of the image {name!r} are to be explained.")
    for class_name in classes[name]:
        one_of("class", class_name, model.class_names)
    return [list(model.class_names).index(c) for c in classes[name]]
