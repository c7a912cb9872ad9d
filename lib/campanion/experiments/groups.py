"""Notebook 25, FD-CAM's groups of channels (Fig. 3): how large, how alike, and what dead channels do to them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from campanion.cams.fd import cosines, similarity_groups, switching_score
from campanion.data import Sample
from campanion.data.photographs import photograph
from campanion.experiments.gallery import of_photographs
from campanion.experiments.mapfiles import packed
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject, in_order
from campanion.game.game import ChannelGame
from campanion.results.statistics import summarise

#: The pooling after the target layer, where there is one: the layer that the authors' code takes.
POOLING = {"vgg16": "features.30", "scenes_vgg": "features.15"}
METRICS = (
    "dead", "size_mean", "size_min", "size_median", "size_max", "small", "empty", "distinct", "within", "between",
    "dead_is_lowest", "layer_overlap",
)  # fmt: skip
#: Ways to read the paper's sentence on the percentile, see :func:`campanion.cams.fd.similarity_groups`.
RULES = ("channel", "all")
PERCENTILES = (1.0, 2.5, 5.0, 10.0, 20.0)
BINS = 50  # of a histogram of cosines, over 0..1


def nominal_size(channels: int, percentile: float) -> int:
    """How many of ``channels`` lie strictly above the (100 - percentile)th percentile when no two cosines are equal."""
    return channels - 1 - int((1 - percentile / 100) * (channels - 1))


def group_statistics(activations: Tensor, percentile: float = 5.0, rule: str = "channel") -> dict[str, float]:
    """What the groups of one image look like, from the activations [1, K, h, w] of the target layer; NaN is undefined.

    ``dead``: channels that are zero everywhere. Of the live ones: ``size_mean, size_min, size_median, size_max`` of
    their groups, ``small`` (share of groups below :func:`nominal_size`, as ties make them), ``empty`` (share of groups
    without a member), ``distinct`` (different non-empty groups over live channels), ``within`` (mean cosine of a
    channel with the other members of its group) and ``between`` (with all other live channels).
    """
    if activations.ndim != 4 or len(activations) != 1:
        raise ValueError(f"activations must be those of one image, [1, K, h, w], not {list(activations.shape)}.")
    groups = similarity_groups(activations, percentile, rule)[0]
    live = activations[0].flatten(1).any(1)
    count, channels = int(live.sum()), len(live)
    result = {"channels": channels, "dead": channels - count}
    if not count:
        return result | dict.fromkeys(METRICS[1:-2], math.nan)  # those of the groups
    matrix = cosines(activations)[0]
    itself = torch.eye(channels, dtype=torch.bool, device=groups.device)
    sizes = groups[live].sum(1).double()
    filled = groups[live][sizes > 0]
    return result | {
        "size_mean": float(sizes.mean()),
        "size_min": float(sizes.min()),
        "size_median": float(sizes.quantile(0.5)),
        "size_max": float(sizes.max()),
        "small": float((sizes < nominal_size(channels, percentile)).double().mean()),
        "empty": float((sizes == 0).double().mean()),
        "distinct": len(torch.unique(filled, dim=0)) / count if len(filled) else math.nan,
        "within": float(matrix[groups & ~itself].double().mean()),
        "between": float(matrix[live & live[:, None] & ~itself].double().mean()),
    }


def cosine_histogram(activations: Tensor) -> dict[str, list[float]]:
    """Shares by cosine, in :data:`BINS` bins of 0..1, of ordered pairs of live channels of one image: ``all`` of them,
    and a channel with another member of its ``group``.
    """
    matrix, groups = cosines(activations)[0], similarity_groups(activations)[0]
    live = activations[0].flatten(1).any(1)
    pairs = live & live[:, None] & ~torch.eye(len(live), dtype=torch.bool, device=live.device)
    shares = {}
    for name, chosen in (("all", pairs), ("group", pairs & groups)):
        values = matrix[chosen].clamp(0, 1)  # a cosine of 1 may round to just above it
        counts = torch.histc(values, bins=BINS, min=0, max=1)
        shares[name] = (counts / counts.sum().clamp_min(1)).tolist()
    return shares


def overlap(groups_a: Tensor, groups_b: Tensor) -> float:
    """Mean over channels of |G and G'| / |G or G'| for two groupings [K, K] of the same channels, such as those of the
    last ReLU and of the pooling after it, whose maps the authors' code takes; empty pairs are left out.
    """
    if groups_a.shape != groups_b.shape or groups_a.ndim != 2:
        shapes = f"{list(groups_a.shape)} and {list(groups_b.shape)}"
        raise ValueError(f"Two groupings of the same channels are both [K, K], not {shapes}.")
    shared, union = (groups_a & groups_b).sum(1).double(), (groups_a | groups_b).sum(1).double()
    return float((shared / union)[union > 0].mean())


def dead_is_lowest(game: ChannelGame) -> float:
    """1 where a dead channel has the lowest switching score of the predicted class, which squeezes the scores of the
    live ones in the min-max normalisation of eq. 10; 0 where not, NaN without dead channels.
    """
    dead = ~game.activations[0].flatten(1).any(1)
    if not dead.any() or dead.all():
        return math.nan
    scores = switching_score(game, game.target(None), similarity_groups(game.activations))[0]
    return float(scores[dead].min() < scores[~dead].min())


def measure(subject: Subject, sample: Sample) -> list[dict[str, object]]:
    """The rows of one image: :func:`group_statistics` for each rule and percentile.

    The row of the paper's percentile and the authors' rule also has ``dead_is_lowest``, the histograms of
    :func:`cosine_histogram` and, where a pooling follows the target layer, ``layer_overlap``: how much the groups of
    both layers agree; ValueError where the pooling has other channels.
    """
    image, pooling = subject.image(sample), POOLING.get(subject.model.weights["name"])
    game = ChannelGame.of(subject.parts, image)
    maps = game.activations
    pooled = ChannelGame.of(subject.model, image, pooling).activations if pooling else None
    if pooled is not None and pooled.shape[1] != maps.shape[1]:
        raise ValueError(f"{pooling} has {pooled.shape[1]} channels, the target layer {maps.shape[1]}.")
    rows = []
    for rule in RULES:
        for theta in PERCENTILES:
            row = {"image": sample.id, "method": _name(theta, rule), "percentile": theta, "rule": rule}
            row |= group_statistics(maps, theta, rule)
            if (theta, rule) == (5.0, "channel"):
                row["dead_is_lowest"] = dead_is_lowest(game)
                row |= {f"cosines_{pairs}": shares for pairs, shares in cosine_histogram(maps).items()}
                if pooled is not None:
                    row["layer_overlap"] = overlap(similarity_groups(maps)[0], similarity_groups(pooled)[0])
            rows.append(row)
    return rows


def _name(theta: float, rule: str) -> str:
    return f"fd_cam:percentile={theta:g},percentile_of={rule}"


def summary(rows: pd.DataFrame, subject: Subject) -> Answer:
    """Means over images, with intervals; ``extra["cosines"]`` is the mean histogram of cosines."""
    chosen = in_order(rows, [_name(theta, rule) for rule in RULES for theta in PERCENTILES])
    means = summarise(chosen, [metric for metric in METRICS if metric in chosen])
    drawn = rows.dropna(subset="cosines_all")
    mean = {pairs: list(np.mean(drawn[f"cosines_{pairs}"].tolist(), axis=0)) for pairs in ("all", "group")}
    return Answer(means[means["n"] > 0], extra={"cosines": mean})


def question() -> Question:
    """Notebook 25's question."""
    return Question(
        "groups", measure, summary, {"percentiles": PERCENTILES, "rules": RULES, "seed": 0},
        facts=lambda subject: {"pooling": POOLING.get(subject.model.weights["name"])},
    )  # fmt: skip


def photograph_examples(model: str, mode: str, name: str = "chelsea", device: str = "cpu") -> pd.DataFrame:
    """:func:`examples` of a photograph, kept as rows ``groups_photographs_<model>``: mode ``"full"`` makes them,
    ``"cached"`` reads them (MissingResult where there are none).
    """

    def missing(network: nn.Module, rows: pd.DataFrame, _settings: object) -> Iterator[pd.DataFrame]:
        if rows.empty:
            game = ChannelGame.of(network, network.preprocess(photograph(name)).unsqueeze(0).to(device))
            yield examples(game).assign(predicted=network.class_names[int(game.logits.argmax())])

    return of_photographs("groups", model, mode, device, missing, {"picture": name})


def examples(game: ChannelGame, channels: int = 3, members: int = 4) -> pd.DataFrame:
    """Rows of the channels that add most to the predicted class by the switching score, each outside the groups of
    those before it (the paper does not say how it chose its three), with the most similar members of their groups:
    channel, member (the channel itself first), cosine, size (of the group), height, width and pixels (of its
    activations).
    """
    groups = similarity_groups(game.activations)[0]
    scores = switching_score(game, game.target(None), groups.unsqueeze(0))[0]
    matrix, taken, rows = cosines(game.activations)[0], torch.zeros(len(groups), dtype=torch.bool), []
    for k in scores.argsort(descending=True).tolist():
        if taken[k] or not groups[k, k]:
            continue
        taken |= groups[k].cpu()
        near = matrix[k].masked_fill(~groups[k], -1.0)
        near[k] = 2.0  # itself first, also where another has cosine 1
        size = int(groups[k].sum())
        for member in near.topk(min(members + 1, size)).indices.tolist():
            row = {"channel": k, "member": member, "cosine": float(matrix[k, member]), "size": size}
            rows.append({**row, **packed(game.activations[0, member])})
        if len({row["channel"] for row in rows}) == channels:
            break
    return pd.DataFrame(rows)
