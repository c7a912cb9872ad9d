"""Notebook 24: what the bias b of FD-CAM does in networks with few and with many channels.

FD-CAM's weight is w_k = a_k e^{s_k} - b (eq. 10) with a and s stretched to 0..1 over the K channels of an image, so
that b is a point on a scale that the two most extreme channels set. A channel whose gradient is zero has

    a_0 = -min(a) / (max(a) - min(a))

on that scale, not a fixed number: where one channel's gradient is far above all others', most of them lie below b = 0.5
and count against the class, whatever their gradient's sign. Measured here for fixed b and for two that follow the
image: ``mean``, the mean of a_k e^{s_k} (half of the channels or so count against the class, for every K), and
``zero``, a_0 times the mean of e^{s_k} (the weight of a channel without influence).
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from campanion import metrics
from campanion.cams.explain import enlarged, explain_game, weighted
from campanion.data import Sample
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject, confidence_columns, in_order, input_boxes
from campanion.game.game import ChannelGame
from campanion.results.statistics import means_and_differences, summarise

FIXED = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
RULES = ("mean", "zero")
METHODS = (*(f"b={b:g}" for b in FIXED), *(f"b={rule}" for rule in RULES), "grad_cam")
METRICS = ("negative", "pointing_accuracy", "energy_proportion", "iic", "ad", "add")


def biases(game: ChannelGame, target: Tensor, strengths: Tensor) -> dict[str, Tensor]:
    """b [B, 1] by name, for ``strengths`` a_k e^{s_k} [B, K] (the module's head has the formulas)."""
    gradient = game.gradient(target).mean((2, 3))
    low, high = gradient.amin(1, keepdim=True), gradient.amax(1, keepdim=True)
    span = torch.where(high > low, high - low, 1.0)
    stretched = (gradient - low) / span
    factor = torch.where(stretched > 0, strengths / stretched.clamp_min(1e-12), torch.nan)  # e^{s_k}
    fixed = {f"b={b:g}": strengths.new_full((len(strengths), 1), b) for b in FIXED}
    return fixed | {
        "b=mean": strengths.mean(1, keepdim=True),
        "b=zero": (-low / span).clamp(0, 1) * factor.nanmean(1, keepdim=True),
    }


def measure(subject: Subject, sample: Sample) -> list[dict[str, object]]:
    """The rows of one image, one for each bias, and Grad-CAM's.

    Columns: negative (per cent of the live channels with a weight below 0), pointing_accuracy and energy_proportion
    (where the predicted class has a box), iic, ad, add (per cent), degenerate (a constant map); channels, live; b.
    """
    game, target, facts = subject.play(sample)
    explained = explain_game(game, target, ("fd_cam:bias=0", "grad_cam")).weights
    strengths = explained["fd_cam:bias=0"]
    bias = biases(game, target, strengths)
    weights = {name: strengths - b for name, b in bias.items()} | {"grad_cam": explained["grad_cam"]}
    maps, degenerate = map(torch.cat, zip(*(enlarged(game, weighted(game, w)) for w in weights.values()), strict=True))
    exact = subject.network_in("float32")
    confidence = metrics.confidence(exact, game.images, maps.unsqueeze(0), target, score=subject.activation)
    boxes = input_boxes(sample, int(target), game.images.shape[-2:])
    live = game.activations[0].flatten(1).any(1)
    rows = []
    for i, (name, columns) in enumerate(zip(weights, confidence_columns(confidence), strict=True)):
        row: dict[str, object] = {
            **facts, "method": name, "channels": len(live), "live": int(live.sum()), **columns,
            "negative": 100 * float((weights[name][0, live] < 0).double().mean()), "degenerate": bool(degenerate[i]),
        }  # fmt: skip
        if name in bias:
            row["b"] = float(bias[name])
        if len(boxes):
            row["pointing_accuracy"] = 100 * float(metrics.pointing_game(maps[i : i + 1], [boxes])[0])
            row["energy_proportion"] = 100 * float(metrics.energy_pointing_game(maps[i : i + 1], [boxes])[0])
        rows.append(row)
    return rows


def summary(rows: pd.DataFrame, _subject: Subject) -> Answer:
    """Means of :data:`METRICS` for each bias, differences to the paper's b = 0.5, and the number of channels."""
    rows = in_order(rows, METHODS)
    metrics = [metric for metric in METRICS if metric in rows]
    by_method = rows.groupby("method", sort=False)
    extra = {
        "channels": int(rows["channels"].iloc[0]),
        "b": by_method["b"].mean().dropna().to_dict(),
        "degenerate": (100 * by_method["degenerate"].mean()).to_dict(),
    }
    return Answer(summarise(rows, metrics), means_and_differences(rows, metrics, "b=0.5")[1], extra)


def question() -> Question:
    """Share of negative weights, pointing and confidence of FD-CAM over b."""
    return Question("fd_bias", measure, summary, {"fixed": list(FIXED), "rules": list(RULES), "precision": "float32"})
