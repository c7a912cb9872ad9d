"""Notebook 22, the pointing game (FD-CAM Table II): does a map's highest point lie on the class, for every class?

An image gives rows for every class in it and every method, so that beside the hits it can be seen how well the maps of
two classes in one image are told apart: the energy of each on the other's boxes, and how much they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from campanion import metrics
from campanion.cams.explain import explain_game
from campanion.cams.maps import min_max_map, upsample
from campanion.cams.methods import parse
from campanion.data import Dataset, Sample, open_dataset
from campanion.experiments.protocols import MASKED
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject, in_order, input_boxes
from campanion.game.game import ChannelGame
from campanion.outputs import probabilities
from campanion.results.statistics import means_and_differences, paired, summarise

#: Baselines without a map, which the paper lacks: the middle of the image, and a point drawn uniformly.
CENTRE, RANDOM = "centre point", "random point"
METHODS = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam", "score_cam", "ablation_cam", "fd_cam", "lift_cam",
    "group_cam", CENTRE, RANDOM,
)  # fmt: skip
#: Those that cost little more than one forward pass an image; the others forward hundreds of masked images.
CHEAP = tuple(method for method in METHODS if method not in MASKED)

TOLERANCE = 15  # pixels of an image whose longer side has LONG_SIDE
LONG_SIDE = 500  # as nearly all of VOC's have: copies of another size are judged as the originals
TOP = 0.2  # share of the pixels in a map's mask, where maps are compared

ACCURACIES = ["pointing_accuracy", "pointing_accuracy_15"]
#: Over images with several classes only.
DISCRIMINABILITY = ("own_energy", "other_energy", "overlap", "correlation")

#: Which (image, class) pairs an accuracy is over. Classes whose objects are all marked difficult are in the last alone.
SUBSETS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "table": lambda rows: ~rows["difficult"],
    # "difficult" of Zhang et al. (excitation backprop) and TorchRay: small objects beside another class
    "small with distractors": lambda rows: ~rows["difficult"] & (rows["area"] < 0.25) & (rows["n_classes"] > 1),
    "one class in the picture": lambda rows: ~rows["difficult"] & (rows["n_classes"] == 1),
    "several classes": lambda rows: ~rows["difficult"] & (rows["n_classes"] > 1),
    "predicted present": lambda rows: ~rows["difficult"] & rows["predicted"],
    "not predicted": lambda rows: ~rows["difficult"] & ~rows["predicted"],
    "with classes marked difficult": lambda rows: pd.Series(True, rows.index),
}


def measure(subject: Subject, sample: Sample, methods: Sequence[str]) -> list[dict[str, object]]:
    """The rows of one image, one for each class in it and method; one forward pass serves all of them.

    Columns: difficult (all of the class's objects are marked so); n_classes in the image; area of the class's boxes
    (share of the image); score (logit), probability, predicted (present by the network: probability above 1/2, or the
    highest class of a softmax). In per cent: pointing_accuracy (100 where the highest pixel of the map at the input's
    size is in a box of the class, eq. 12), pointing_accuracy_15 (:func:`tolerant_size`; for the random point both are
    the expected value), own_energy (of the map in the class's boxes), other_energy (in the other classes' boxes outside
    its own), overlap with the maps of the other classes. And correlation with these (:func:`likeness`), degenerate (a
    constant map).
    """
    image = subject.image(sample)
    game = ChannelGame.of(subject.parts, image)
    game.use_network(subject.network)
    classes, size, wide = sample.labels, tuple(image.shape[-2:]), tolerant_size(sample.image.size)
    boxes, far = ([input_boxes(sample, c, s) for c in classes] for s in (size, wide))
    chances = probabilities(subject.model, game.logits)[0]
    highest = torch.arange(len(chances), device=chances.device) == chances.argmax()
    present = chances > 0.5 if subject.activation == "sigmoid" else highest
    areas = metrics.box_masks(boxes, *size).double().mean((1, 2)).tolist()
    facts = [
        {
            "image": sample.id, "target": c, "n_classes": len(classes), "area": area,
            "difficult": all(o.difficult for o in sample.objects if o.label == c),
            "score": float(game.logits[0, c]), "probability": float(chances[c]), "predicted": bool(present[c]),
        }
        for c, area in zip(classes, areas, strict=True)
    ]  # fmt: skip
    rows = []
    for name in methods:
        if name == CENTRE:
            columns = _centre(boxes, far, size, wide)
        elif name == RANDOM:
            columns = _random(boxes, far, size, wide)
        else:
            columns = _mapped(game, name, classes, boxes, far, wide)
        values = {c: (100 * v.double() if c in _PERCENT else v).tolist() for c, v in columns.items()}
        for j, fact in enumerate(facts):
            numbers = {column: of_classes[j] for column, of_classes in values.items() if not math.isnan(of_classes[j])}
            rows.append({**fact, "method": name, **numbers})
    return rows


_PERCENT = (*ACCURACIES, *DISCRIMINABILITY[:3])


def tolerant_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) at which the tolerance of 15 pixels is measured, for an image of ``size`` (width, height): as TorchRay in
    the original image, of which VOC's have 500 pixels on their longer side.
    """
    width, height = size
    scale = LONG_SIDE / max(size)
    return max(1, round(height * scale)), max(1, round(width * scale))


def likeness(maps: Tensor) -> tuple[Tensor, Tensor]:
    """How alike the maps [T, H, W] of T classes in one image are, [T]: each one's mean over the T - 1 others.

    IoU of the highest fifth of the pixels (zeros do not count), and Pearson's correlation. Constant maps are left out;
    NaN where nothing is left, as for a single class.
    """
    flat = maps.flatten(1).double()
    top = ((flat >= flat.quantile(1 - TOP, 1, keepdim=True)) & (flat > 0)).double()
    shared, count = top @ top.T, top.sum(1)
    pairs = torch.stack([shared / (count + count[:, None] - shared), torch.corrcoef(flat).reshape(shared.shape)])
    varying = (flat.amax(1) > flat.amin(1)) & ~torch.eye(len(flat), dtype=torch.bool, device=maps.device)
    overlap, correlation = pairs.masked_fill(~(varying & varying.T), math.nan).nanmean(2)
    return overlap, correlation


def _mapped(
    game: ChannelGame, name: str, classes: Sequence[int], boxes: list[Tensor], far: list[Tensor], wide: tuple[int, int]
) -> dict[str, Tensor]:
    """Columns [T] of a method's maps of T classes."""
    of_classes = [explain_game(game, c, [name]) for c in classes]
    maps, raw, degenerate = (
        torch.cat([getattr(e, part)[name] for e in of_classes]) for part in ("maps", "raw", "degenerate")
    )
    energy, large = metrics.energy_pointing_game(maps, boxes), min_max_map(upsample(raw, wide))[0]
    overlap, correlation = likeness(maps)
    return {
        "pointing_accuracy": metrics.pointing_game(maps, boxes).double(),
        "pointing_accuracy_15": metrics.pointing_game(large, far, tolerance=TOLERANCE).double(),
        "degenerate": degenerate,
        "own_energy": energy,
        "other_energy": _others(metrics.energy_pointing_game(maps, [torch.cat(boxes)] * len(boxes)), energy),
        "overlap": overlap,
        "correlation": correlation,
    }


def _others(all_classes: Tensor, energy: Tensor) -> Tensor:
    """Energy on the other classes alone; NaN where there is no other."""
    return all_classes - energy if len(energy) > 1 else torch.full_like(energy, math.nan)


def _centre(boxes: list[Tensor], far: list[Tensor], size: tuple[int, int], wide: tuple[int, int]) -> dict[str, Tensor]:
    hits = []
    for rectangles, (height, width), tolerance in ((boxes, size, 0), (far, wide, TOLERANCE)):
        point = torch.zeros(len(rectangles), height, width)
        point[:, height // 2, width // 2] = 1
        hits.append(metrics.pointing_game(point, rectangles, tolerance=tolerance).double())
    return {"pointing_accuracy": hits[0], "pointing_accuracy_15": hits[1]}


def _random(boxes: list[Tensor], far: list[Tensor], size: tuple[int, int], wide: tuple[int, int]) -> dict[str, Tensor]:
    """The expected hits of a point drawn uniformly, which are also the energies of an even map."""
    share = metrics.box_masks(boxes, *size).double().mean((1, 2))
    anywhere = metrics.box_masks([torch.cat(boxes)] * len(boxes), *size).double().mean((1, 2))
    near = [within(mask, TOLERANCE) for mask in metrics.box_masks(far, *wide).numpy()]
    return {
        "pointing_accuracy": share, "pointing_accuracy_15": torch.tensor(near, dtype=torch.float64),
        "own_energy": share, "other_energy": _others(anywhere, share),
    }  # fmt: skip


def within(mask: np.ndarray, distance: float) -> float:
    """Share of the pixels of ``mask`` [H, W] that lie nearer than ``distance`` to one that is True."""
    return float((distance_transform_edt(~mask) < distance).mean()) if mask.any() else 0.0


def summary(rows: pd.DataFrame, subject: Subject, *masked: pd.DataFrame) -> Answer:
    """Means, paired differences and the rest of a result, from the rows of the cheap methods and of any masked ones.

    The means are micro (FD-CAM eq. 12: over all pairs of an image and a class in it); the intervals resample images,
    with all their pairs, since pairs of an image are not independent. Beside :data:`ACCURACIES` there are the accuracy
    for classes that the network does not predict (``pointing_not_predicted``) and :data:`DISCRIMINABILITY`.
    ``extra`` has, by method, ``images`` and ``pairs``; ``degenerate``: constant maps, in per
    cent; ``macro`` and ``macro_15``: mean over the classes of each one's accuracy, without and with the tolerance;
    ``per_class`` and ``pairs_per_class``; and ``subsets``: pointing accuracy over each of :data:`SUBSETS`.
    """
    pairs = rows[~rows["difficult"]].drop_duplicates(["image", "target"])
    known = f"finds {100 * pairs['predicted'].mean():.1f} % of the {len(pairs):,} classes in these pictures"
    all_rows = pd.concat([part for part in (rows, *masked) if len(part)], ignore_index=True)
    rows, class_names = in_order(all_rows, METHODS), subject.model.class_names
    table = rows[SUBSETS["table"](rows)]
    table = table.assign(degenerate=table["degenerate"].fillna(False).astype(bool))
    missed = rows[SUBSETS["not predicted"](rows)].rename(columns={"pointing_accuracy": "pointing_not_predicted"})
    beside = rows[SUBSETS["several classes"](rows)]  # the points have no map to compare
    parts = [
        (summarise(table, ACCURACIES), paired(table, "pointing_accuracy")),
        means_and_differences(missed, ["pointing_not_predicted"] if missed["method"].nunique() > 1 else []),
        means_and_differences(beside, DISCRIMINABILITY),
    ]
    methods, by_method = table["method"].unique(), table.groupby("method", sort=False)
    by_class = table.groupby(["target", "method"])[ACCURACIES]
    per_class = by_class.mean().unstack("method").reindex(range(len(class_names)))
    counts = by_class.size().unstack("method").reindex(range(len(class_names)))[methods].fillna(0).astype(int)
    extra = {
        "class_names": list(class_names),
        "images": by_method["image"].nunique().to_dict(),
        "pairs": by_method.size().to_dict(),
        "degenerate": (100 * by_method["degenerate"].mean()).to_dict(),
        "macro": per_class["pointing_accuracy"][methods].mean().to_dict(),
        "macro_15": per_class["pointing_accuracy_15"][methods].mean().to_dict(),
        "per_class": per_class["pointing_accuracy"][methods].to_dict("list"),
        "pairs_per_class": counts.to_dict("list"),
        "subsets": {name: _subset(rows[chosen(rows)]) for name, chosen in SUBSETS.items()},
    }
    tables = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    return Answer(*tables, extra, known, all_rows)


def _subset(rows: pd.DataFrame) -> list[dict]:
    if rows.empty:
        return []
    means = summarise(rows, "pointing_accuracy").drop(columns="metric")
    return means.assign(pairs=means["method"].map(rows["method"].value_counts())).to_dict("records")


def facts_of(subject: Subject, methods: Sequence[str]) -> dict[str, object]:
    """The images' card, and ``methods``; ValueError for an unknown method, or classes other than the network's."""
    for name in methods:
        if name not in (CENTRE, RANDOM):
            parse(name)
    if tuple(subject.model.class_names) != tuple(subject.data.class_names):
        named = f"{subject.model.weights['name']} does not tell the classes of {subject.data.name}"
        raise ValueError(f"{named}: choose a network of them.")
    return {"methods": tuple(methods), "pictures": subject.data.card}


def open_images(name: str) -> Dataset:
    """The data set ``name``; of Pascal VOC 2007 the validation part, which the paper plays on."""
    return open_dataset(name, split="val" if name == "voc2007" else None)


def rows_question(
    name: str,
    methods: Sequence[str],
    precision: str = "float32",
    limit: int | None = None,
    conclude: Callable[..., Answer] | None = None,
    beside: tuple[Question, ...] = (),
    layer: str | None = None,
) -> Question:
    """The rows ``name`` of ``methods``; methods of very different cost have rows of their own, over fewer images."""
    settings = {"seed": 0, "precision": precision, "tolerance": TOLERANCE, "long_side": LONG_SIDE, "top": TOP}
    return Question(
        name, partial(measure, methods=methods), conclude, settings, ("image", "target", "method"),
        layer, partial(facts_of, methods=methods), beside, limit, data="voc2007", open=open_images,
    )  # fmt: skip


def question(precision: str = "float32", masked_limit: int | None = None) -> Question:
    """The pointing game of :data:`METHODS`.

    Args:
        precision: of the masked images' forwards, which only :data:`MASKED` need (quick: float32).
        masked_limit: images for these in a full run; 0 takes only the kept rows.
    """
    masked = rows_question("pointing_masked", MASKED, precision, masked_limit)
    return rows_question("pointing", CHEAP, conclude=summary, beside=(masked,))
