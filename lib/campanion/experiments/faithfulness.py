"""Notebooks 15, 21, 23, 24, 27 and 32-35: every method on every image, one pass, many tables.

An image is explained once; from its maps come the insertion and deletion areas (FD-CAM Table I), the confidence terms
(LIFT-CAM Table 3), the energy in the box (Table 5), and from its weights the cosine with the Shapley values (Table 2).
A table of a paper is a choice of columns of these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
import torch

from campanion import metrics
from campanion.cams.explain import enlarged, explain_game, weighted
from campanion.cams.methods import parse
from campanion.data import Sample
from campanion.errors import one_of
from campanion.experiments.protocols import PROTOCOLS, Protocol, named
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import (
    AREAS,
    CURVES,
    Subject,
    confidence_columns,
    curve_columns,
    image_generator,
    in_order,
    input_boxes,
)
from campanion.experiments.timing import IMAGES, seconds_per_image
from campanion.results.statistics import paired, summarise


def measure(subject: Subject, sample: Sample, protocol: Protocol) -> list[dict[str, object]]:
    """The rows of one image, one for each method; shap_cam stands for the Shapley values themselves.

    Columns: target, label, correct, probability; insertion, deletion, overall and the two curves; iic, ad, add (per
    cent); energy_proportion (where the predicted class has a box); shap_cosine, shap_error (relative standard error of
    the reference).
    """
    game, target, facts = subject.play(sample)
    image, network, score = game.images, subject.network, subject.activation
    explanation = explain_game(game, target, protocol.curves + protocol.compared)
    maps, shapley = {}, None
    if protocol.orderings:
        generator = image_generator(protocol.seed, sample.id)
        shapley = game.shapley(target, protocol.orderings, generator, protocol.antithetic)
        maps["shap_cam"] = enlarged(game, weighted(game, shapley.values))[0]
    maps |= explanation.maps
    exact = subject.network_in(protocol.confidence or protocol.precision)
    confidence = metrics.confidence(exact, image, torch.stack(list(maps.values()), 1), target, score=score)
    boxes = input_boxes(sample, int(target), image.shape[-2:])
    rows: dict[str, dict[str, object]] = {}
    for name, columns in zip(maps, confidence_columns(confidence), strict=True):
        rows[name] = {**facts, "method": name, **columns}
        if len(boxes):
            rows[name]["energy_proportion"] = 100 * float(metrics.energy_pointing_game(maps[name], [boxes])[0])
        if shapley is not None and name in protocol.compared:
            rows[name]["shap_cosine"] = float(metrics.shap_cosine(explanation.weights[name], shapley.values)[0])
    if shapley is not None:
        error = shapley.standard_error.norm() / shapley.values.norm().clamp_min(1e-12)
        rows["shap_cam"]["shap_error"] = float(error)
    if protocol.curves:
        drawn = torch.stack([maps[name] for name in protocol.curves], 1)
        curves = metrics.insertion_deletion(
            network, image, drawn, target, step=protocol.step, baseline=protocol.baseline, score=score
        )
        for name, columns in zip(protocol.curves, curve_columns(curves), strict=True):
            rows[name] |= columns | {"overall": columns["insertion"] - columns["deletion"]}
    return list(rows.values())


def summary(
    rows: pd.DataFrame,
    subject: Subject,
    *beside: pd.DataFrame,
    methods: Sequence[str],
    metrics: Sequence[str],
    timed: int = IMAGES,
) -> Answer:
    """Means and paired differences of ``metrics``, and the mean curves; seconds_per_image is always measured anew.

    Methods that only the rows ``beside`` have were measured on fewer images: a mean is over a method's own, a
    difference over those that both methods share.
    """
    rows = with_others(rows, beside)
    chosen = in_order(rows, methods)
    if "seconds_per_image" in metrics:
        seconds = seconds_per_image(subject, list(chosen["method"].unique()), min(timed, chosen["image"].nunique()))
        chosen = chosen.merge(seconds, on=["image", "method"], how="left", validate="one_to_one")
    metrics = [metric for metric in metrics if metric in chosen]  # there is energy only where there are boxes
    curves = mean_curves(chosen) if {"insertion", "deletion"} & set(metrics) else None
    return Answer(summarise(chosen, metrics), paired(chosen, metrics), curves, accuracy(rows, subject), rows)


def with_others(rows: pd.DataFrame, beside: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """``rows`` and, of those ``beside``, the methods that they lack."""
    for others in beside:
        if len(others):
            rows = pd.concat([rows, others[~others["method"].isin(rows["method"].unique())]], ignore_index=True)
    return rows


def question(
    protocol: str,
    methods: Sequence[str],
    metrics: Sequence[str],
    precision: str = "float32",
    conclude: Callable[..., Answer] | None = None,
    limit: int | None = None,
    beside: Sequence[str] = (),
) -> Question:
    """``methods`` measured by a protocol of :data:`~campanion.experiments.protocols.PROTOCOLS`.

    Tables of one protocol share their rows, whatever methods and metrics they show. A quick run leaves out what it can
    spare: other methods, curves where no metric needs them, most orderings.

    Args:
        metrics: in the papers' names (:data:`campanion.results.measures.DIRECTION`).
        precision: of the masked images' forwards, see :func:`campanion.inference.fast` (quick: float32).
        conclude: in place of :func:`summary`.
        limit: 0 takes the kept rows.
        beside: protocols whose kept rows have the methods that this one's rows lack, where there are any.

    >>> ask("33_lift_table3_faithfulness", mode, question("lift", LIFT_METHODS, ["iic", "ad", "add"]), models)
    """
    one_of("protocol", protocol, PROTOCOLS)
    for name in methods:
        parse(name)
    whole = replace(PROTOCOLS[protocol], precision=precision)
    needs_curves = {*AREAS, *CURVES} & set(metrics)
    compared = tuple(m for m in whole.compared if m in methods)
    curves = tuple(m for m in whole.curves if m in methods and (needs_curves or m not in compared))
    orderings = min(whole.orderings, 500)
    short = replace(whole, curves=curves, compared=compared, orderings=orderings, precision="float32")
    table, quick_table = (conclude or partial(summary, methods=methods, metrics=metrics, timed=n) for n in (IMAGES, 2))
    others = tuple(replace(of_protocol(replace(PROTOCOLS[p], precision=precision), p), limit=0) for p in beside)
    # Rows that were begun with every forward in one precision, or in bfloat16, go on so.
    old = None if precision == "bfloat16" else question(protocol, methods, metrics, "bfloat16", conclude, limit, beside)
    older = replace(of_protocol(replace(whole, confidence=None), protocol, table), beside=others, older=old)
    quick = of_protocol(short, protocol, quick_table)
    return replace(of_protocol(whole, protocol, table), quick=quick, older=older, limit=limit, beside=others)


def of_protocol(protocol: Protocol, name: str = "cams", conclude: Callable[..., Answer] | None = None) -> Question:
    """The rows of any protocol."""
    return Question(name, partial(measure, protocol=protocol), conclude, named(protocol), layer=protocol.layer)


def accuracy(rows: pd.DataFrame, subject: Subject) -> str:
    """How often the network is right on the images of the rows, in words."""
    per_image = rows.drop_duplicates("image")
    right = f"{100 * per_image['correct'].mean():.1f} % on these {len(per_image):,} images"
    return f"top-1 {right}" if subject.activation == "softmax" else f"the highest class is present in {right}"


def mean_curves(rows: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
    """The mean of each of :data:`CURVES` for every method."""
    return {
        curve: {
            method: [float(v) for v in pd.DataFrame(part[curve].tolist()).mean()]
            for method, part in rows.groupby("method", sort=False)
        }
        for curve in CURVES
    }
