"""How many orderings do Shapley values of channels need, and is SHAP-CAM_10k, the reference of Table 2, near enough?

Sampled values converge like one over the square root of the orderings. Measured here image by image: the cosine of
growing sums of orderings, plain and antithetic (each ordering also reversed), with a reference of other orderings; and
the cosine of two halves of that reference, which bounds what may be asked of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn

from campanion import paths
from campanion.data import Dataset, Sample, open_dataset
from campanion.experiments.evaluation import image_generator, settings_of
from campanion.experiments.resumed import per_image
from campanion.game.game import ChannelGame
from campanion.game.heads import GenericHead
from campanion.game.shapley import Shapley
from campanion.metrics import shap_cosine
from campanion.models import load_model
from campanion.report import figures
from campanion.results.rows import read_rows, rows_path, write_rows

ENOUGH = 0.999  # the cosine that is asked for
ESTIMATORS = ("plain", "antithetic")
ROWS = "convergence"


@dataclass(frozen=True)
class Convergence:
    """What is measured; all of it decides numbers and is kept in the rows' file.

    Attributes:
        reference: orderings of the reference, even.
        checkpoints: numbers of orderings at which the running mean is compared, rising; an antithetic estimate
            starts at the first even one and skips odd ones.
        by_forwards: checkpoints for a linear head, whose values are known in closed form: there the sampler is run on
            forward passes of the head, as if nothing were known of it.
        seed: of the order of the images and of the orderings.
        layer: the target layer, by default the model's own.
    """

    reference: int = 10_000
    checkpoints: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
    by_forwards: tuple[int, ...] = (1, 2, 5)
    seed: int = 0
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.reference < 4 or self.reference % 4:
            raise ValueError(f"reference must be divisible by 4 (two halves of pairs); got {self.reference}.")
        for points in (self.checkpoints, self.by_forwards):
            if not points or points[0] < 1 or any(a >= b for a, b in pairwise(points)):
                raise ValueError(f"checkpoints must be rising numbers of at least 1; got {points}.")


def evaluate_convergence(
    model: nn.Module, data: Dataset, protocol: Convergence | None = None, limit: int | None = 50, **options: object
) -> pd.DataFrame:
    """Rows (image x estimator x orderings) of at least the first ``limit`` images, predicted classes; resumable.

    Columns: target, cosine with the reference, distance (|a - reference| / |reference|), error (relative standard
    error that the estimate itself reports). Estimators are ``plain``, ``antithetic`` and ``split_half``, the first half
    of the reference against the second. For a linear head the reference is the closed form, and there are no halves.
    ``options`` are those of :func:`campanion.experiments.resumed.per_image`.

    Example:
        >>> needed(evaluate_convergence(load_model("scenes_vgg"), open_dataset("scenes"), limit=10))
    """
    protocol = protocol or Convergence()
    options = {"name": ROWS, "key": ("image", "estimator", "orderings"), **options}
    return per_image(
        lambda sample: measure(model, sample, protocol), model, data, settings_of(model, data, protocol), limit=limit,
        **options,
    )  # fmt: skip


def measure(model: nn.Module, sample: Sample, protocol: Convergence) -> list[dict[str, object]]:
    """The rows of one image."""
    image = model.preprocess(sample.image).unsqueeze(0).to(next(model.parameters()).device)
    game = ChannelGame.of(model, image, protocol.layer)
    target = game.target(None)
    generator = image_generator(protocol.seed, sample.id)
    rows = []

    def add(estimator: str, orderings: int, estimate: Shapley, reference: Tensor) -> None:
        distance = (estimate.values - reference).norm() / reference.norm()
        error = estimate.standard_error.norm() / estimate.values.norm()
        rows.append(
            {
                "image": sample.id, "target": int(target), "estimator": estimator, "orderings": orderings,
                "cosine": float(shap_cosine(estimate.values, reference)[0]), "distance": float(distance),
                "error": float(error) if error.isfinite() else None,
            }
        )  # fmt: skip

    if game.head.kind == "linear":
        reference, points = game.shapley(target).values, protocol.by_forwards
        game = as_black_box(game)
    else:
        first, second = (game.shapley(target, protocol.reference // 2, generator) for _ in range(2))
        reference, points = (first.values + second.values) / 2, protocol.checkpoints
        add("split_half", protocol.reference // 2, first, second.values)
    for estimator in ESTIMATORS:
        antithetic = estimator == "antithetic"
        some = [n for n in points if not (antithetic and n % 2)]
        for orderings, estimate in growing(game, target, some, generator, antithetic):
            add(estimator, orderings, estimate, reference)
    return rows


def growing(
    game: ChannelGame, target: Tensor, checkpoints: list[int], generator: torch.Generator, antithetic: bool = False
) -> Iterator[tuple[int, Shapley]]:
    """The estimate after each of ``checkpoints`` orderings of one stream: as one call for each would give, once drawn.

    >>> for orderings, estimate in growing(game, target, [10, 100], generator): ...
    """
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


def committed() -> dict[str, pd.DataFrame]:
    """The rows that the repository holds, by ``"NAME on DATA"``.

    >>> figure(committed())
    """
    files = sorted((paths.root() / "data" / "results" / "rows").glob(f"{ROWS}_*.parquet"))
    kept = (read_rows(file) for file in files)
    return {f"{settings['model']} on {settings['data']}": rows for rows, settings in kept}


def needed(rows: pd.DataFrame, cosine: float = ENOUGH) -> pd.DataFrame:
    """Orderings from which on the cosine stays at ``cosine`` or above, for each estimator.

    Returns:
        Columns estimator, images, reached (images that get there), median, p95, largest: quantiles over the images of
        the first such checkpoint, infinite where so many images do not get there.
    """
    found = []
    for estimator in ESTIMATORS:
        part = rows[rows["estimator"] == estimator]
        first = np.array([_first_enough(one, cosine) for _, one in part.groupby("image")])
        quantiles = np.quantile(first, [0.5, 0.95, 1], method="higher")
        found.append((estimator, len(first), int(np.isfinite(first).sum()), *quantiles))
    return pd.DataFrame(found, columns=["estimator", "images", "reached", "median", "p95", "largest"])


def _first_enough(one: pd.DataFrame, cosine: float) -> float:
    one = one.sort_values("orderings")
    short = one[one["cosine"] < cosine]
    after = one[one["orderings"] > (short["orderings"].max() if len(short) else 0)]
    return float(after["orderings"].min()) if len(after) else float("inf")


def figure(rows: Mapping[str, pd.DataFrame], width: float = 7.16, cosine: float = ENOUGH) -> Figure:
    """1 - cosine with the reference against the orderings, median and 90 % of images; one axes for each of ``rows``.

    >>> figures.save(figure({"scenes_vgg": rows}), "32_shap_convergence")
    """
    with plt.rc_context(figures.STYLE):
        fig, axes = plt.subplots(1, len(rows), figsize=(width, 2.6), squeeze=False, sharey=True, sharex=True)
        for ax, (title, frame) in zip(axes[0], rows.items(), strict=True):
            _draw(ax, frame, cosine)
            name = title.replace(" on ", "\n")  # two lines: a name and its data are wider than an axes
            ax.set_title(f"{name}, {frame['image'].nunique()} images", fontsize=6.5)
            ax.set_xlabel("orderings")
        axes[0, 0].set_ylabel("1 - cosine with the reference")
        entries = {label: h for ax in axes[0] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        labels = list(entries)
        fig.legend(entries.values(), labels, loc="outside lower center", ncols=len(labels))
    return fig


def _draw(ax: plt.Axes, frame: pd.DataFrame, cosine: float) -> None:
    for estimator, colour, marker in zip(ESTIMATORS, figures.PALETTE, "os", strict=False):
        gap = 1 - frame[frame["estimator"] == estimator].set_index("orderings")["cosine"]
        low, middle, high = (gap.groupby(level=0).quantile(q) for q in (0.05, 0.5, 0.95))
        ax.fill_between(middle.index, low, high, color=colour, alpha=0.15, lw=0)
        ax.plot(middle.index, middle, color=colour, marker=marker, ms=3, ls="-", label=estimator)
    half = frame[frame["estimator"] == "split_half"]
    if len(half):  # a reference in closed form has no halves
        low, middle, high = ((1 - half["cosine"]).quantile(q) for q in (0.05, 0.5, 0.95))
        n = half["orderings"].iloc[0]
        ax.errorbar([n], [middle], yerr=[[middle - low], [high - middle]], fmt="*", ms=7, color="black", capsize=2,
                    label="half of the reference against the other", zorder=3)  # fmt: skip
    ax.axhline(1 - cosine, color="0.4", lw=0.8, ls=":", label=f"cosine {cosine:g}")
    ax.set(xscale="log", yscale="log")


def main(arguments: list[str] | None = None) -> None:
    """``python -m campanion.experiments.convergence --model squeezenet1_1 --data imagenet-val --limit 50``."""
    parser = argparse.ArgumentParser(
        prog="python -m campanion.experiments.convergence", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default="imagenet-val")
    parser.add_argument("--limit", type=int, default=50, help="images (default: 50)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    model, data, protocol = load_model(options.model, device=options.device), open_dataset(options.data), Convergence()
    rows = evaluate_convergence(model, data, protocol, options.limit)
    write_rows(rows, rows_path(data.name, options.model, ROWS), settings_of(model, data, protocol))
    print(needed(rows).to_string())


if __name__ == "__main__":
    main()
