"""Notebook 31, SHAP-CAM with few orderings (LIFT-CAM Table 1): how faithful are its maps, and how much is luck?

SHAP-CAM_n is the map of the Shapley values that n random orderings of the channels give (Algorithm 1). The paper takes
n = 1, 10 and 100 and averages ten simulations, each with orderings of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch

from campanion import metrics
from campanion.cams.explain import enlarged, weighted
from campanion.data import Sample
from campanion.experiments import faithfulness
from campanion.experiments.protocols import LIFT_METHODS, LIFT_ROWS
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject, confidence_columns, image_generator
from campanion.results.statistics import paired, summarise

METRICS = ["iic", "ad", "add"]
COUNTS = (1, 10, 100)


def measure(
    subject: Subject, sample: Sample, counts: Sequence[int], simulations: int, seed: int
) -> list[dict[str, object]]:
    """The rows of one image, one for each number of orderings and simulation: iic, ad and add in per cent."""
    game, target, facts = subject.play(sample)
    generator = image_generator(seed, sample.id)
    runs = [(n, s) for n in counts for s in range(simulations)]
    weights = torch.cat([game.shapley(target, n, generator).values for n, _ in runs])
    # Simulations that agree (with a linear head all do) share one map.
    distinct, place = torch.unique(weights, dim=0, return_inverse=True)
    maps = torch.cat([enlarged(game, weighted(game, w[None]))[0] for w in distinct])
    confidence = metrics.confidence(subject.network, game.images, maps.unsqueeze(0), target, score=subject.activation)
    columns = confidence_columns(confidence)
    return [
        {**facts, "method": f"shap_cam_{n}", "simulation": s, **columns[j]}
        for (n, s), j in zip(runs, place.tolist(), strict=True)
    ]


def by_simulation(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over the images of each simulation: method, simulation, iic, ad, add (per cent)."""
    return rows.groupby(["method", "simulation"], sort=False, as_index=False)[METRICS].mean()


def summary(rows: pd.DataFrame, subject: Subject, cams: pd.DataFrame) -> Answer:
    """SHAP-CAM_1, _10, _100 averaged over simulations, and six CAMs on the same images.

    The interval of a mean is the bootstrap's over images of their means over simulations; ``sd`` is the spread of the
    simulations' own means, kept in ``extra["simulations"]``: the part of a single simulation's number that is luck.
    """
    frame = rows.groupby(["image", "method"], sort=False, as_index=False)[METRICS].mean()
    if len(cams):
        shared = cams[cams["method"].isin(LIFT_METHODS) & cams["image"].isin(frame["image"])]
        frame = pd.concat([frame, shared[["image", "method", *METRICS]]], ignore_index=True)
    simulations = by_simulation(rows)
    spread = simulations.groupby("method")[METRICS].std(ddof=1)
    means = summarise(frame, METRICS).to_dict("records")
    for row in means:
        if row["method"] in spread.index:
            row["sd"] = spread.loc[row["method"], row["metric"]]
    by_method = simulations.sort_values("simulation").groupby("method", sort=False)[METRICS]
    extra = {"simulations": {method: part.to_dict("list") for method, part in by_method}}
    return Answer(means, paired(frame, METRICS), extra, faithfulness.accuracy(rows, subject))


def question(precision: str = "float32", counts: Sequence[int] = COUNTS, simulations: int = 10) -> Question:
    """Notebook 31's question.

    Args:
        precision: of the masked images' forwards; committed rows in bfloat16, as the first were, go on so.
        counts: numbers of orderings n.
        simulations: independent sets of orderings for each n.
    """
    if simulations < 1 or not counts or min(counts) < 1:
        raise ValueError(f"counts and simulations must be at least 1; got {tuple(counts)} and {simulations}.")
    settings = {"counts": tuple(counts), "simulations": simulations, "seed": 0}
    names = (*LIFT_ROWS, "lift_weights")  # the last is that of networks whose forward passes are dear
    beside = tuple(faithfulness.question(name, LIFT_METHODS, METRICS, precision, limit=0) for name in names)
    return Question(
        "orderings", partial(measure, **settings), summary, settings | {"precision": precision},
        ("image", "method", "simulation"), beside=(beside,),
        older=None if precision == "bfloat16" else question("bfloat16", counts, simulations),
    )  # fmt: skip
