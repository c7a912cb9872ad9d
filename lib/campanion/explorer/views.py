"""What the knobs of the notebooks turn: each function draws one image of a :class:`~campanion.explorer.bench.Bench`.

They are the ``draw`` of :class:`campanion.explorer.Knobs`; the bench stands first, the controls follow.
"""

from __future__ import annotations

from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from campanion.cams.explain import enlarged, explain_game, weighted
from campanion.cams.fd import cosines, similarity_groups
from campanion.cams.maps import min_max_map, upsample
from campanion.cams.methods import label
from campanion.explorer.bench import Bench
from campanion.game.game import ChannelGame
from campanion.metrics.randomisation import randomised, rank_correlation
from campanion.metrics.stability import independent_iou, stability_iou
from campanion.pictures import percent
from campanion.report.figures import STYLE, heatmap
from campanion.report.words import counted

_SIDE = 1.9  # inches of one image
_styled = plt.rc_context({**STYLE, "axes.titlesize": 6.5, "font.size": 6.5})


@_styled
def bias(bench: Bench, b: float = 0.5, theta: float = 5.0) -> Figure:
    """FD-CAM's map for a bias b and a group of theta per cent, the weights' histogram and how many are negative."""
    answer = bench.explain(f"fd_cam:bias={b:g},percentile={theta:g}")
    fig, axes = _row(3, bench)
    _map(axes[1], bench, answer.map, f"FD-CAM, b = {b:g},\ntheta = {theta:g} %")
    weights = answer.weights.cpu().numpy()
    axes[2].hist(weights, bins=40, color="0.6")
    axes[2].axvline(0, color="black", lw=0.8)
    axes[2].set_title(f"{100 * float((weights < 0).mean()):.0f} % of {len(weights)}\nweights are negative")
    axes[2].set(yticks=[], xlabel="weight of a channel")
    return fig


@_styled
def group(bench: Bench, channel: int = 0, theta: float = 5.0, rule: str = "channel") -> Figure:
    """A channel of FD-CAM's target layer over the image, with the members of its group that are most like it."""
    activations = bench.game.activations
    alike = cosines(activations)[0, channel]
    members = similarity_groups(activations, theta, rule)[0, channel].nonzero().flatten()
    inside = set(members.tolist()) - {channel}
    others = [k for k in alike.argsort(descending=True).tolist() if k in inside][:4]
    maps = min_max_map(upsample(activations[0], bench.image.shape[-2:]))[0]
    fig, axes = _row(6, bench)
    _map(axes[1], bench, maps[channel], f"channel {channel}:\na group of {len(members)}")
    for ax, k in zip(axes[2:], others, strict=False):
        _map(ax, bench, maps[k], f"channel {k}:\ncosine {float(alike[k]):.2f}")
    for ax in axes[2 + len(others) :]:
        ax.set_axis_off()
    return fig


@_styled
def classes(bench: Bench, target: str, other: str, method: str = "fd_cam", against: str = "grad_cam") -> Figure:
    """The maps of two classes by two methods, and how much the hottest fifths of the two maps overlap."""
    classes = {name: list(bench.model.class_names).index(name) for name in (target, other)}
    fig, axes = _row(5, bench)
    for pair, name in ((axes[1:3], method), (axes[3:], against)):
        maps = [bench.explain(name, index).map for index in classes.values()]
        hot = [m >= torch.quantile(m.flatten(), 0.8) for m in maps]
        overlap = float((hot[0] & hot[1]).sum() / (hot[0] | hot[1]).sum())
        for ax, map, (kind, index) in zip(pair, maps, classes.items(), strict=True):
            chance = percent(float(bench.probabilities[index]))
            _map(ax, bench, map, f"{label(name)}: {kind} {chance}\noverlap {100 * overlap:.0f} %")
    return fig


@_styled
def orderings(bench: Bench, count: int = 10, seed: int = 0) -> Figure:
    """SHAP-CAM's map from so many orderings, beside LIFT-CAM's, and how alike the two rows of weights are."""
    shap = bench.game.shapley(bench.predicted, count, torch.Generator().manual_seed(seed)).values[0]
    lift = bench.explain("lift_cam")
    fig, axes = _row(3, bench)
    _map(axes[1], bench, _weighted(bench, shap), f"SHAP-CAM,\n{counted(count, 'ordering')}")
    cosine = float(torch.nn.functional.cosine_similarity(shap, lift.weights.to(shap), dim=0))
    _map(axes[2], bench, lift.map, f"LIFT-CAM,\ncosine {cosine:.3f}")
    return fig


@_styled
def switched(bench: Bench, kept: int = 100, order: str = "largest first") -> Figure:
    """The network with only ``kept`` per cent of the channels on: v(S), its linear model g(S), and the map of S."""
    weights = bench.explain("lift_cam").weights
    ranked = weights.argsort(descending=order == "largest first")
    count = round(kept / 100 * len(weights))
    on = torch.zeros(1, len(weights), dtype=torch.bool, device=weights.device)
    on[0, ranked[:count]] = True
    value = float(bench.game.value(on, bench.predicted))
    empty = float(bench.game.value(torch.zeros_like(on), bench.predicted))
    linear = empty + float(weights[on[0]].sum())
    fig, axes = _row(3, bench)
    _map(axes[1], bench, _weighted(bench, weights * on[0]), f"{count} of {len(weights)} channels on")
    axes[2].barh(["v(S)", "g(S)"], [value, linear], color=["0.4", "#0072B2"])
    axes[2].set_title(f"v(S) = {value:.2f}\ng(S) = {linear:.2f}")
    axes[2].set_xlabel("logit")
    return fig


@_styled
def pixels(bench: Bench, share: int = 20, method: str = "grad_cam", remove: bool = True) -> Figure:
    """The image without (or with only) the pixels that a map ranks first, and where that lies on the method's curve."""
    map, curve = bench.explain(method).map, bench.curves(method)
    first = torch.zeros(map.numel(), dtype=torch.bool)
    first[map.flatten().argsort(descending=True, stable=True)[: round(share / 100 * map.numel())].cpu()] = True
    first = first.reshape(map.shape)
    shown = np.asarray(bench.shown.resize(map.shape[::-1])) / 255
    masked = np.where((first if remove else ~first).numpy()[..., None], shown.mean((0, 1)), shown)
    fig, axes = _row(3)
    _map(axes[0], bench, map, label(method))
    title, shape = f"first {share} % {'removed' if remove else 'alone'}", bench.shown.height / bench.shown.width
    _image(axes[1], masked, title, aspect=shape)
    line = (curve.deletion_curve if remove else curve.insertion_curve)[0].cpu().numpy()
    places = 100 * curve.fractions.cpu().numpy()
    axes[2].plot(places, line, color="0.4")
    axes[2].plot([share], [np.interp(share, places, line)], "o", color="#D55E00")
    axes[2].set(xlabel="pixels (%)", ylim=(0, 1.02), title=f"probability, {'deletion' if remove else 'insertion'}")
    return fig


@_styled
def overlap(image: object, first: Tensor, second: Tensor, threshold: int = 127) -> Figure:
    """Masks of two maps of one image at a threshold of 0..255, their IoU, and that of unrelated masks as large."""
    masks = [m >= threshold / 255 for m in (first, second)]
    iou = float(stability_iou(first[None], second[None], threshold=threshold / 255))
    chance = float(independent_iou(*(m.double().mean() for m in masks)))
    fig, axes = _row(3)
    for ax, map, mask, name in zip(axes, (first, second), masks, ("network 1", "network 2"), strict=False):
        extent = heatmap(ax, image, map, contour=False).get_extent()
        ax.contour(mask, [0.5], colors="white", linewidths=0.8, extent=extent, origin="upper")
        ax.set_title(name)
    colours = ListedColormap(["0.93", "#0072B2", "#D55E00", "black"])  # black: both
    title = f"blue: 1, orange: 2, black: both\nIoU {100 * iou:.0f} %, by chance {100 * chance:.0f} %"
    _image(axes[2], masks[0].int() + 2 * masks[1].int(), title, cmap=colours, vmin=0, vmax=3)
    return fig


@_styled
def random_layers(bench: Bench, depth: int = 1, method: str = "grad_cam") -> Figure:
    """The map after the weights of the last ``depth`` layers were re-initialised, and its rank correlation."""
    before = bench.explain(method)
    reached, network = [("none", bench.model), *islice(randomised(bench.model, seed=0), depth)][-1]
    game = ChannelGame.of(network, bench.image, bench.layer) if depth else bench.game
    after = explain_game(game, before.target, [method]).maps[method]
    fig, axes = _row(3, bench)
    _map(axes[1], bench, before.map, f"{label(method)},\ntrained")
    correlation = float(rank_correlation(before.map[None], after))
    _map(axes[2], bench, after[0], f"random down to {reached}:\nrank correlation {correlation:.2f}")
    return fig


def _row(count: int, bench: Bench | None = None) -> tuple[Figure, np.ndarray]:
    """``count`` axes in a row; in the first the image with its likeliest class, where a bench is given."""
    side = min(_SIDE, 8.5 / count)
    fig = Figure(figsize=(count * side, side + 0.5), layout="constrained")
    axes = fig.subplots(1, count, squeeze=False)[0]
    if bench is not None:
        likeliest, chance = bench.model.class_names[bench.predicted], bench.probabilities[bench.predicted]
        _image(axes[0], bench.shown, f"{likeliest} {percent(float(chance))}")
    return fig, axes


def _image(ax: plt.Axes, image: object, title: str, **look: object) -> None:
    ax.imshow(image, **look)
    ax.set_axis_off()
    ax.set_title(title)


def _map(ax: plt.Axes, bench: Bench, map: Tensor, title: str) -> None:
    heatmap(ax, bench.shown, map)
    ax.set_title(title)


def _weighted(bench: Bench, weights: Tensor) -> Tensor:
    """The map [H, W] of the channels' weighted sum."""
    return enlarged(bench.game, weighted(bench.game, weights[None]))[0][0]
