"""Sanity checks by randomisation over many pictures: the result behind notebook 42."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from campanion.cams import explain_game
from campanion.cams.methods import parse
from campanion.data import Dataset, Sample, open_dataset
from campanion.experiments.evaluation import settings_of
from campanion.experiments.modes import QUICK_MODELS, committed, pick_device
from campanion.experiments.resumed import per_image
from campanion.game.game import ChannelGame
from campanion.metrics.randomisation import ORDERS, randomised, rank_correlation, structure
from campanion.models import load_model
from campanion.report import figures
from campanion.report.tables import label
from campanion.results import provenance
from campanion.results.rows import rows_path, write_rows
from campanion.results.statistics import summarise
from campanion.results.store import load_result, make_run, save_result

ROWS, MIRROR = "sanity", "mirror"
METHODS = ("grad_cam", "grad_cam_pp", "layer_cam", "xgrad_cam", "ablation_cam", "lift_cam", "fd_cam")
METRICS = ("rank_output", "rank_all", "rank_mirror", "ssim_output", "ssim_all", "ssim_mirror")
QUICK_IMAGES = 8


@dataclass(frozen=True)
class Sanity:
    """What is measured; all of it decides numbers and is kept in the rows' file.

    Attributes:
        methods: maps that are compared, as :func:`campanion.cams.methods.parse` reads them.
        orders: of :data:`campanion.metrics.randomisation.ORDERS`.
        seed: of the new weights and of the order of the images.
        layer: the target layer, by default the model's own.
    """

    methods: tuple[str, ...] = METHODS
    orders: tuple[str, ...] = ORDERS
    seed: int = 0
    layer: str | None = None


def evaluate_sanity(
    model: nn.Module, data: Dataset, protocol: Sanity, limit: int | None = None, name: str = ROWS, fresh: bool = False
) -> pd.DataFrame:
    """Rows (image x method x order x depth): the trained network's map against that of a network drawn anew.

    The class explained is the one that the trained network predicts. Maps are compared by ``rank`` (Spearman's, at the
    target layer's resolution) and ``ssim`` (at the picture's). Rows of ``order`` ``"mirror"`` compare a map with its
    own mirror image: what two maps have in common that only share their blobs' sizes and a liking for the middle.

    Columns: image, method, order, depth (layers randomised or passed, from the output), layer, rank, ssim, seconds ...
    """
    # Layers above the target layer first: every network is made once, and used for all pictures.
    networks = [
        (order, depth, layer, network)
        for order in protocol.orders
        for depth, (layer, network) in enumerate(randomised(model, order, protocol.seed), start=1)
    ]

    def rows_of(sample: Sample) -> list[dict[str, object]]:
        return measure(model, networks, sample, protocol)

    settings = settings_of(model, data, protocol)
    return per_image(rows_of, model, data, settings, name, limit, ("image", "method", "order", "depth"), fresh)


def measure(
    model: nn.Module, networks: Sequence[tuple[str, int, str, nn.Module]], sample: Sample, protocol: Sanity
) -> list[dict[str, object]]:
    """The rows of one picture."""
    image = model.preprocess(sample.image).unsqueeze(0).to(next(model.parameters()).device)
    game = ChannelGame.of(model, image, protocol.layer)
    target, size = game.target(None), game.activations.shape[2:]
    trained = _maps(game, target, protocol.methods)
    rows = []
    for method, own in trained.items():
        rows.append(_row(sample, method, MIRROR, 0, "", own, own.flip(2), size))
    for order, depth, layer, network in networks:
        drawn = _maps(ChannelGame.of(network, image, protocol.layer or model.target_layer), target, protocol.methods)
        rows += [_row(sample, m, order, depth, layer, trained[m], drawn[m], size) for m in protocol.methods]
    return rows


def _maps(game: ChannelGame, target: Tensor, methods: Sequence[str]) -> dict[str, Tensor]:
    found = {}
    for name in methods:
        method, options = parse(name)
        found[name] = explain_game(game, target, [method], {method: options}).maps[method]
    return found


def _row(
    sample: Sample, method: str, order: str, depth: int, layer: str, a: Tensor, b: Tensor, size: Sequence[int]
) -> dict[str, object]:
    small = [F.adaptive_avg_pool2d(x.unsqueeze(1), tuple(size)).squeeze(1) for x in (a, b)]
    return {
        "image": sample.id, "method": method, "order": order, "depth": depth, "layer": layer,
        "rank": float(rank_correlation(*small)), "ssim": float(structure(a, b)),
    }  # fmt: skip


def at_ends(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each (image, method) with :data:`METRICS`.

    ``_output``: only the output layer drawn anew; ``_all``: every layer; ``_mirror``: the trained map mirrored.
    """
    cascade = rows[rows["order"] == "cascading"]
    parts = {
        "output": cascade[cascade["depth"] == 1],
        "all": cascade[cascade["depth"] == cascade["depth"].max()],
        "mirror": rows[rows["order"] == MIRROR],
    }
    keyed = [p.set_index(["image", "method"])[["rank", "ssim"]].add_suffix(f"_{name}") for name, p in parts.items()]
    return pd.concat(keyed, axis=1).reset_index()


def sanity_study(
    notebook: str,
    mode: str,
    models: Sequence[str],
    limit: int | None = None,
    device: str = "auto",
    methods: Sequence[str] = METHODS,
) -> dict:
    """The result of ``notebook``; ``extra["curves"]`` holds the mean similarity at every depth.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` measures this project's networks on generated scenes;
            ``"full"`` measures ``models``, resuming finished images.
        models: names, with their data set: ``"voc_mlp@voc2007"``; without one it is ``imagenet-val``.
        limit: images of each data set (None: all; quick: 8).
        methods: maps that are compared.

    Raises:
        MissingResult: cached, and there is no result.
        ValueError: unknown mode.
    """
    if (result := committed(notebook, mode)) is not None:
        return result
    quick, protocol, device, runs = mode == "quick", Sanity(methods=tuple(methods)), pick_device(device), []
    for one in [f"{name}@scenes" for name in QUICK_MODELS] if quick else models:
        name, _, data = one.partition("@")
        model, pictures = load_model(name, device=device), open_dataset(data or "imagenet-val")
        kept = {"name": f"quick_{notebook}", "fresh": True} if quick else {}
        rows = evaluate_sanity(model, pictures, protocol, limit or (QUICK_IMAGES if quick else None), **kept)
        settings = settings_of(model, pictures, protocol)
        write_rows(rows, rows_path(pictures.name, name, ROWS), settings)
        each = rows.drop_duplicates("image")
        record = provenance.collect(
            mode, pictures.name, len(each), model.weights, device, each["seconds"].sum() / 60, protocol.seed, settings
        )
        record["device"] = " and ".join(sorted(each["device"].unique()))
        runs.append(make_run(summarise(at_ends(rows), list(METRICS)), [], record, name, {"curves": curves(rows)}))
    save_result(notebook, runs)
    return load_result(notebook)


def curves(rows: pd.DataFrame) -> dict[str, object]:
    """``layers`` from the output down, and by order, similarity and method its mean over the images at every depth."""
    drawn = rows[rows["order"] != MIRROR]
    layers = drawn.drop_duplicates("depth").sort_values("depth")["layer"].tolist()
    found: dict[str, object] = {"layers": layers}
    for order, part in drawn.groupby("order", sort=False):
        means = part.groupby(["method", "depth"])[["rank", "ssim"]].mean()
        found[str(order)] = {
            s: {m: means.loc[m, s].round(4).tolist() for m in part["method"].unique()} for s in ("rank", "ssim")
        }
    return found


def figure(run: Mapping, methods: Sequence[str] | None = None, similarity: str = "rank", width: float = 7.16) -> Figure:
    """Mean similarity against the layer reached: cascading on the left, independent on the right; grey: the mirror."""
    found = run["extra"]["curves"]
    layers, methods = found["layers"], methods or list(found[ORDERS[0]][similarity])
    mirror = [r["mean"] for r in run["rows"] if r["metric"] == f"{similarity}_mirror" and r["method"] in methods]
    with plt.rc_context(figures.STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(width, 3.1), sharey=True)
        for ax, order in zip(axes, ORDERS, strict=True):
            for i, method in enumerate(methods):
                line = {"color": figures.PALETTE[i % len(figures.PALETTE)], "ls": "-" if i < 4 else "--"}
                values = [1.0, *found[order][similarity][method]]
                ax.plot(range(len(values)), values, marker="o", ms=2, lw=1, label=label(method), **line)
            ax.axhspan(min(mirror), max(mirror), color="0.85", zorder=0, label="a map and its mirror image")
            ax.set_xticks(range(len(layers) + 1), ["trained", *layers], rotation=90, fontsize=4.5)
            ax.set_title(
                {"cascading": "output down to this layer", "independent": "this layer alone"}[order], fontsize=8
            )
        axes[0].set_ylabel({"rank": "Spearman's rank correlation", "ssim": "SSIM"}[similarity])
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=6)
    return fig
