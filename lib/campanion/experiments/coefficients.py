"""Notebook 30: what LIFT-CAM's section 3 says of coefficients, on real networks.

Do they add up to the score's rise over the empty map (local accuracy, eq. 8)? Is eq. (10) the relevance of LRP? How
much does one channel change the score (FD-CAM section III-A)? And what do K forward passes of the head cost beside one
backward pass? How near orderings come to the SHAP values is concluded from the rows of ``convergence``.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import torch

from campanion.cams.explain import explain_game
from campanion.cams.methods import get_method
from campanion.data import Sample
from campanion.experiments import convergence
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject
from campanion.experiments.timing import median_seconds
from campanion.game.game import ChannelGame
from campanion.results.statistics import means_and_differences

SUMS = ("lift_cam", "ablation_cam", "xgrad_cam:lift")  # whose coefficients are in the score's unit
ORDERINGS = (1, 10, 100)
METRICS = ("local_accuracy_gap", "lrp_gap", "score_change", "shap_cosine", "seconds_per_image")
#: timed: a backward pass of the head, and a forward pass of it for every channel, as published code does
FORWARD = "ablation_cam:forward"


def measure(subject: Subject, sample: Sample) -> list[dict[str, object]]:
    """The rows of one image, one for each method.

    Columns: local_accuracy_gap, of the coefficients' sum to v(all) - v(none), in per cent of it; lrp_gap,
    |a - a_LRP| / |a_LRP| in per cent; score_change, the mean over channels of |v(all) - v(all but k)| / |v(all)| in per
    cent; seconds_per_image, without the trunk's pass.
    """
    game = ChannelGame.of(subject.parts, subject.image(sample))
    target = game.target(None)
    weights = explain_game(game, target, (*SUMS, "lrp_cam")).weights
    everything = torch.ones(1, game.channels, dtype=torch.bool)
    full, empty = (game.value(c, target)[0, 0] for c in (everything, ~everything))
    rise = full - empty
    rows = {name: {"image": sample.id, "method": name} for name in (*SUMS, "fd_cam_ng_off", FORWARD)}
    for name in SUMS:
        rows[name]["local_accuracy_gap"] = 100 * float((weights[name][0].sum() - rise).abs() / rise.abs())
    eq10, relevance = weights["xgrad_cam:lift"][0], weights["lrp_cam"][0]
    rows["xgrad_cam:lift"]["lrp_gap"] = 100 * float((eq10 - relevance).norm() / relevance.norm())
    changes = weights["ablation_cam"][0].abs()  # v(all) - v(all but k) of every channel
    rows["fd_cam_ng_off"]["score_change"] = 100 * float((changes / full.abs()).mean())
    lift, ablation = (get_method(name).function for name in ("lift_cam", "ablation_cam"))
    timed = {
        "lift_cam": lambda: lift(game.fresh(), target),
        "ablation_cam": lambda: ablation(game.fresh(), target),
        FORWARD: lambda: ablation(convergence.as_black_box(game), target),
    }
    subject.once("warm", lambda: [function() for function in timed.values()])
    for name, function in timed.items():
        rows[name]["seconds_per_image"] = median_seconds(function)
    return list(rows.values())


def summary(rows: pd.DataFrame, subject: Subject, sampled: pd.DataFrame) -> Answer:
    """Means and paired differences; the cosines of SHAP-CAM_n come from the rows of :mod:`convergence`."""
    if len(sampled):
        plain = sampled[(sampled["estimator"] == "plain") & sampled["orderings"].isin(ORDERINGS)]
        named = plain.assign(method="shap_cam_" + plain["orderings"].astype(str), shap_cosine=plain["cosine"])
        rows = pd.concat([rows, named[["image", "method", "shap_cosine"]]], ignore_index=True)
    return Answer(*means_and_differences(rows, METRICS))


def question() -> Question:
    """What section 3 of LIFT-CAM says of coefficients; seconds are measured anew in every run."""
    sampled = replace(convergence.question(1000, ORDERINGS, ORDERINGS), limit=0)  # measured in a quick run alone
    return Question("coefficients", measure, summary, {"seed": 0}, anew=True, beside=(sampled,))
