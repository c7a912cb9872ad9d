"""Notebook 32: how many orderings do Shapley values of channels need, and is SHAP-CAM_10k near enough as a reference?

Sampled values converge like one over the square root of the orderings. Measured here image by image: the cosine of
growing sums of orderings, plain and antithetic (each ordering also reversed), with a reference of other orderings; and
the cosine of two halves of that reference, which bounds what may be asked of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from campanion.data import Sample
from campanion.experiments.runner import Question
from campanion.experiments.subject import Subject, image_generator
from campanion.game.game import ChannelGame
from campanion.game.heads import GenericHead
from campanion.game.shapley import Shapley
from campanion.metrics import shap_cosine

ENOUGH = 0.999  # the cosine that is asked for
ESTIMATORS = ("plain", "antithetic")
CHECKPOINTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def measure(
    subject: Subject, sample: Sample, reference: int, checkpoints: Sequence[int], by_forwards: Sequence[int], seed: int
) -> list[dict[str, object]]:
    """The rows of one image: estimator, orderings and how near that estimate of the predicted class's values is.

    Columns: cosine with the reference, distance (|a - reference| / |reference|), error (relative standard error that
    the estimate itself reports). Estimators are ``plain``, ``antithetic`` and ``split_half``, the first half of the
    reference against the second. For a linear head the reference is the closed form, and there are no halves.
    """
    game = ChannelGame.of(subject.parts, subject.image(sample))
    target = game.target(None)
    generator = image_generator(seed, sample.id)
    rows = []

    def add(estimator: str, orderings: int, estimate: Shapley, truth: Tensor) -> None:
        distance = (estimate.values - truth).norm() / truth.norm()
        error = estimate.standard_error.norm() / estimate.values.norm()
        row = {"image": sample.id, "target": int(target), "estimator": estimator, "orderings": orderings}
        row |= {"cosine": float(shap_cosine(estimate.values, truth)[0]), "distance": float(distance)}
        rows.append({**row, "error": float(error) if error.isfinite() else None})

    if game.head.kind == "linear":
        truth, points = game.shapley(target).values, by_forwards
        game = as_black_box(game)
    else:
        first, second = (game.shapley(target, reference // 2, generator) for _ in range(2))
        truth, points = (first.values + second.values) / 2, checkpoints
        add("split_half", reference // 2, first, second.values)
    for estimator in ESTIMATORS:
        antithetic = estimator == "antithetic"
        even = [n for n in points if not (antithetic and n % 2)]
        for orderings, estimate in growing(game, target, even, generator, antithetic):
            add(estimator, orderings, estimate, truth)
    return rows


def growing(
    game: ChannelGame, target: Tensor, checkpoints: list[int], generator: torch.Generator, antithetic: bool = False
) -> Iterator[tuple[int, Shapley]]:
    """The estimate after each of ``checkpoints`` orderings of one stream, as one call for each would give it."""
    unit = 2 if antithetic else 1  # a pair of orderings is one draw
    mean = total = 0.0
    for before, upto in pairwise([0, *checkpoints]):
        part = game.shapley(target, upto - before, generator, antithetic)
        n, m = before // unit, (upto - before) // unit
        values, error = part.values.double(), part.standard_error.double().nan_to_num(posinf=0)
        # Sums of squares about the mean of the two parts together (Chan, Golub and LeVeque).
        total = total + error.square() * m * (m - 1) + (values - mean).square() * n * m / (n + m)
        mean = mean + (values - mean) * m / (n + m)
        count = n + m
        spread = (total / (count * (count - 1))).sqrt() if count > 1 else torch.full_like(mean, torch.inf)
        yield upto, Shapley(mean.to(part.values.dtype), spread.to(part.values.dtype), upto)


def as_black_box(game: ChannelGame) -> ChannelGame:
    """The same game, but each coalition is forwarded through the head: neither closed form nor matrix product."""
    return game.fresh(GenericHead(lambda activations, image: game.head(activations, image), game.head.module))


def question(
    reference: int = 10_000, checkpoints: Sequence[int] = CHECKPOINTS, by_forwards: Sequence[int] = (1, 2, 5)
) -> Question:
    """Rows for :func:`campanion.experiments.runner.measured`: the figure is made of them, they have no summary.

    Args:
        reference: orderings of the reference, divisible by 4 (two halves of pairs).
        checkpoints: rising numbers of orderings to compare at; antithetic estimates skip odd ones.
        by_forwards: checkpoints for a linear head, whose values are known in closed form: there the sampler runs on
            forward passes of the head, as if nothing were known of it.
    """
    if reference < 4 or reference % 4:
        raise ValueError(f"reference must be divisible by 4 (two halves of pairs); got {reference}.")
    for points in (checkpoints, by_forwards):
        if not points or points[0] < 1 or any(a >= b for a, b in pairwise(points)):
            raise ValueError(f"checkpoints must be rising numbers of at least 1; got {tuple(points)}.")
    settings = {"reference": reference, "checkpoints": tuple(checkpoints), "by_forwards": tuple(by_forwards), "seed": 0}
    return Question("convergence", partial(measure, **settings), None, settings, ("image", "estimator", "orderings"))


def needed(rows: pd.DataFrame, cosine: float = ENOUGH) -> pd.DataFrame:
    """Orderings from which on the cosine stays at ``cosine`` or above, for each estimator: ``images``, ``reached``
    (images that get there), and ``median``, ``p95``, ``largest`` over the images, infinite where so many do not get
    there.
    """
    table = []
    for estimator in ESTIMATORS:
        part = rows[rows["estimator"] == estimator]
        below = part[part["cosine"] < cosine].groupby("image")["orderings"].max()
        above = part[part["orderings"] > part["image"].map(below).fillna(0)]
        first = above.groupby("image")["orderings"].min().reindex(part["image"].unique()).fillna(np.inf)
        quantiles = np.quantile(first, [0.5, 0.95, 1], method="higher")
        table.append((estimator, len(first), int(np.isfinite(first).sum()), *quantiles))
    return pd.DataFrame(table, columns=["estimator", "images", "reached", "median", "p95", "largest"])
