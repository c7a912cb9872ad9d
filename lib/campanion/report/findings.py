"""What was found about the papers themselves: a paragraph with generated numbers and a figure for each finding."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campanion.report import colours, networks, words
from campanion.report.answers import WORDS, run_name, span
from campanion.report.claims import Claim, find_claim
from campanion.report.comparisons import bias_figure
from campanion.report.evidence import NotThere, Run, comparisons, correlation, full_runs
from campanion.report.figures import PALETTE, WIDTH, bars, legend_below, name_rows, styled
from campanion.report.layout import difference_rows
from campanion.report.papers import published
from campanion.report.rule import Comparison, power
from campanion.report.verdicts import OTHER, runs_of, verdict
from campanion.results.measures import TITLES


@dataclass(frozen=True, repr=False)
class Finding:
    """A finding: its heading, a paragraph in Markdown, a figure."""

    title: str
    text: str
    figure: Figure


@styled
def bold_cells(results: Mapping[str, Mapping]) -> Finding:
    """The power of the papers' own experiments: would a paper that is right have seen its differences?"""
    names = {
        "lift_table1_shap_best": "SHAP-CAM (100 orderings) is best in all 18 comparisons",
        "lift_table3_most_cells": "LIFT-CAM is best in most cells",
        "lift_table4_deletion": "LIFT-CAM has the lowest deletion AUC",
        "lift_table4_insertion": "LIFT-CAM has the highest insertion AUC",
        "lift_table5_proportion": "LIFT-CAM has the most energy in the box",
        "fd_table1_deletion": "FD-CAM's deletion AUC, second to Group-CAM",
        "fd_table1_best_overall": "FD-CAM has the best insertion minus deletion",
    }
    rows = []
    for name, sentence in names.items():
        claim = find_claim(name)
        for run, needed in _answering(claim, results):
            if not any(c.tied for c in needed):
                chance = power(needed, correlation(run, needed), n=claim.n, cells=claim.kind == "most_cells")
                rows.append((f"{sentence} (N = {claim.n:,})", run.model, run.data, 100 * chance))
    frame = pd.DataFrame(rows, columns=["claim", "model", "data", "power"])
    claims = list(dict.fromkeys(frame.claim))
    fig, ax = plt.subplots(figsize=(WIDTH, 3.2))
    for (model, data), part in frame.groupby(["model", "data"], sort=False):
        look = {"ls": "", "ms": 6, "label": networks.where(model, data)} | colours.network(model, data)
        ax.plot(part.power, [claims.index(claim) for claim in part.claim], **look)
    name_rows(ax, claims)
    ax.axvline(80, color="0.6", lw=0.8, ls=":")
    ax.set(xlabel="power at the paper's own N (%)", xlim=(-2, 102))
    legend_below(fig, ncols=3, fontsize=6)
    hidden = frame[frame.model.map(networks.head) == networks.HIDDEN]
    spans = {name: f"{span(hidden[hidden.claim.str.startswith(text)].power)} %" for name, text in names.items()}
    text = (
        "A bold number says that a method was best on the images of the paper, not that it would be on others. With "
        "the variances of our networks with hidden layers and the paper's own number of images, differences exactly "
        "as large as printed would show **SHAP-CAM best in all 18 comparisons with a chance of "
        f"{spans['lift_table1_shap_best']}** and LIFT-CAM's lowest deletion AUC with {spans['lift_table4_deletion']}: "
        "a paper that is right would more often have missed these than seen them. LIFT-CAM best in most cells has a "
        f"chance of {spans['lift_table3_most_cells']}, FD-CAM's insertion minus deletion "
        f"{spans['fd_table1_best_overall']}."
    )
    return Finding("Some bold numbers could not well have been told from a tie", text, fig)


@styled
def centre_point(results: Mapping[str, Mapping]) -> Finding:
    """The pointing game's baseline that Table II does not print."""
    table = published("fd", "table2").set_index("method").number
    runs = _full(results, "22_fd_table2_pointing_game")
    run = max(runs, key=lambda r: (r.model == "voc_vgg16", networks.head(r.model) == networks.HIDDEN))
    middle, even = (run.mean(m, "pointing_accuracy") for m in ("centre point", "random point"))
    rows = [(words.method(m), v, "the paper's VGG16") for m, v in table.items()]
    rows += [(words.method(m), run.mean(m, "pointing_accuracy")["mean"], networks.short(run.model)) for m in table.index
             if (m, "pointing_accuracy") in run.means]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["method", "accuracy", "network"])
    fig, ax = plt.subplots(figsize=(WIDTH, 2.6))
    palette = [colours.PAPER, colours.network(run.model)["color"]]
    sns.stripplot(frame, x="accuracy", y="method", hue="network", ax=ax, palette=palette, size=6, jitter=False)
    for value, name in ((middle["mean"], "the centre of every image"), (even["mean"], "a random point")):
        ax.axvline(value, color="0.4", lw=1, ls="--")
        ax.text(value, -0.75, name, ha="center", fontsize=7)
    ax.set(xlabel=TITLES["pointing_accuracy"], ylabel="")
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=None, fontsize=7)  # no marks among the data
    ablation, low, high = table["ablation_cam"], middle["low"], middle["high"]
    text = (
        f"Pointing at **the centre of every image scores {middle['mean']:.1f} %** [{low:.1f}, {high:.1f}] on VOC2007 "
        f"(N = {middle['n']:,}), a random point {even['mean']:.1f} %. The paper's Table II has no such line; its "
        f"Ablation-CAM ({ablation:.1f} %, N = {find_claim('fd_table2_best_pointing').n:,}) lies "
        f"{'inside' if low <= ablation <= high else 'outside'} that interval. The distance of a method from "
        "this line, not from 0, is what it knows."
    )
    return Finding("The centre of the image scores as much as the paper's Ablation-CAM", text, fig)


@styled
def fin(results: Mapping[str, Mapping]) -> Finding:
    """What a trained Feature Importance Network changes."""
    kinds = {"lfi-paper-finfrozen": "a frozen FIN", "lfi-paper-finnone": "none"}
    errors, maps, parts = {}, {}, ["LFI-CAM's contribution is to *learn* the importance of the features."]
    for run in _full(results, "16_lfi_fig5_fin_effect"):
        name, overlap = run_name(run.model, run.data, run.trained), run.mean("lfi-paper", "iou_with_mean")
        gained = {k: run.difference("lfi-paper", k, "top1_error") for k in kinds if (k, "top1_error") in run.means}
        errors |= {f"{name}: over {kinds[k]}": c for k, c in gained.items()}
        maps[name] = c = run.difference("lfi-paper lfi_cam", "lfi-paper mean_features", "overall")
        shared = words.interval(overlap["mean"], overlap["low"], overlap["high"], "iou")
        gains = " and ".join(f"{words.measured(e)} over {words.method(k)}" for k, e in gained.items())
        parts.append(
            f"In {name} a trained FIN gains, in points of top-1 error, {gains}; its weights deviate by "
            f"{100 * run.mean('lfi-paper', 'unevenness')['mean']:.0f} % from 1/N, its map and the plain mean of the "
            f"same feature maps overlap by **{shared} %**, and their insertion minus deletion differs by "
            f"{words.measured(c)} (N = {run.mean('lfi-paper', 'top1_error')['n']:,} and {c.n:,} images)."
        )
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 1.1 + 0.4 * len(errors)), width_ratios=(3, 2))
    _differences(axes[0], [*errors.values()], [textwrap.fill(name, 34) for name in errors])
    reach = max(2, *(1.1 * abs(c.value) for c in errors.values()))  # on an axis of tenths chance looks like a loss
    axes[0].set(xlabel="top-1 error, points gained by a trained FIN", xlim=(-reach, reach))
    _differences(axes[1], [*maps.values()], [textwrap.fill(name, 26) for name in maps])
    axes[1].set_xlabel("insertion - deletion:\nmap over mean features")
    text = " ".join([*parts, "(Above 0: the trained one errs less; one training run of a kind gives no interval.)"])
    judgement = verdict(find_claim("lfi_fin_lowers_error"), results).groups[OTHER].judgement
    word = "Not run" if judgement is None else WORDS[judgement.word]
    return Finding(f"Does a trained FIN lower the error? {word}", text, fig)


def bias(results: Mapping[str, Mapping]) -> Finding:
    """FD-CAM's bias b: how many channels it makes negative, and what that does to the map."""
    runs = sorted(full_runs(results, "24_fd_bias"), key=lambda r: r["model"] != "voc_vgg16")
    shown = {
        "negative": "channels with a negative weight (%)",
        "energy_proportion": "energy in the box (%), higher is better",
        "ad": "average drop (%), lower is better",
    }
    at = {r["model"]: {m: Run.of(r).mean("b=0.5", m) for m in shown} for r in runs}
    counted = [(r, at[r["model"]]["negative"]) for r in runs]
    negative = "; ".join(f"{networks.name(r['model'])} (K = {r['extra']['channels']:,}) {row['mean']:.0f} % "
                         f"(N = {row['n']})" for r, row in counted)  # fmt: skip
    run = Run.of(max(counted, key=lambda pair: pair[1]["mean"])[0])
    drop, image_drop = (run.mean(b, "ad")["mean"] for b in ("b=0.5", "b=mean"))
    text = (
        "Eq. (10) subtracts b = 0.5 from a gradient weight that was stretched to 0..1 over the K channels and "
        "multiplied by up to e. How many weights that makes negative depends on how they are spread, and **differs by "
        f"network**: {negative}. On {networks.name(run.model)} the average drop is {drop:.0f} %, and {image_drop:.0f} "
        "% with b at the mean of the image's weights (notebook 24). Too few networks tell whether K is the reason."
    )
    return Finding("FD-CAM's bias of 0.5 does not suit every network", text, bias_figure(runs, shown))


@styled
def two_networks(results: Mapping[str, Mapping]) -> Finding:
    """The printed sizes of LFI-CAM and those of its equations."""
    printed = published("lfi", "table3").query("metric == 'parameters' and method in ('abn', 'lfi_cam')")
    rows = [(networks.name(r.model), f"{words.method(r.method)}, printed", float(r.number))
            for r in printed.itertuples()]  # fmt: skip
    kinds = {"lfi_cam": "LFI-CAM, generation table3", "lfi_cam:paper": "LFI-CAM, equations and supplement"}
    order = list(dict.fromkeys(r[0] for r in rows))
    for run in _full(results, "13_lfi_table3_imagenet_size"):
        if run.data == "imagenet":
            rows += [(networks.name(run.model), kinds[k], run.mean(k, "parameters")["mean"]) for k in kinds]
    frame = pd.DataFrame(rows, columns=["network", "kind", "parameters"])
    fig, ax = plt.subplots(figsize=(WIDTH, 2.6))
    palette = [colours.attention("abn"), *sns.light_palette(colours.attention("lfi"), 4)[1:]]
    sns.barplot(frame, x="network", y="parameters", hue="kind", order=order, ax=ax, palette=palette, saturation=1)
    ax.set(xlabel="", ylabel=TITLES["parameters"])
    ax.legend(fontsize=6.5, title=None)
    at = frame.set_index(["network", "kind"]).parameters
    big = "ResNet-50"
    times = at[big, kinds["lfi_cam:paper"]] / at[big, "ABN, printed"]
    text = (
        f"Table 3 prints {at[big, 'LFI-CAM, printed']:.2f} M parameters for LFI-CAM in ResNet-50. A network with the "
        "FIN of the supplement (four 3x3 convolutions over 2,048 channels) has "
        f"**{at[big, kinds['lfi_cam:paper']]:.1f} M**, {times:.1f} times ABN's {at[big, 'ABN, printed']:.2f} M. The "
        f"printed sizes are those of an earlier state of the authors' code ({at[big, kinds['lfi_cam']]:.2f} M), whose "
        "FIN no gradient reaches. *Fewer parameters than ABN* holds for that network; the paper's equations describe "
        "the other."
    )
    return Finding("The printed sizes and the supplement's FIN are two networks", text, fig)


@styled
def discriminability(results: Mapping[str, Mapping]) -> Finding:
    """FD-CAM's central claim on two classes in one image."""
    metrics = ("own_energy", "other_energy", "overlap")
    runs = [r for r in _full(results, "22_fd_table2_pointing_game") if networks.head(r.model) == networks.HIDDEN]
    run = max(runs, key=lambda r: (r.model == "voc_vgg16", r.mean("fd_cam", "own_energy")["n"]))
    others = [m for m in find_claim("fd_fig6_discriminates").test[0].others if (m, "own_energy") in run.means]
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.3), sharey=True)
    for ax, metric in zip(axes, metrics, strict=True):
        _differences(ax, [run.difference("fd_cam", o, metric) for o in others], [words.method(o) for o in others])
        ax.set_xlabel(f"{TITLES[metric]}:\nFD-CAM better by", fontsize=7)
    own, other, overlap = (run.difference("fd_cam", "grad_cam", m) for m in metrics)
    text = (
        "FD-CAM is said to tell classes apart better than gradient and score based methods (abstract, Fig. 6). On "
        f"images with several classes ({networks.where(run.model, run.data)}, N = {own.n:,}) it is better than "
        f"Grad-CAM (below 0: worse) by {words.measured(own)} points in energy on its own class, by "
        f"{words.measured(other)} in energy on the other classes and by {words.measured(overlap)} in the overlap of "
        "two classes' maps: the claim needs all three."
    )
    for two in full_runs(results, "20_fd_fig1_fig6_discriminability"):
        if two["model"] == run.model and (gap := difference_rows(two, "gap", "fd_cam").get("grad_cam")):
            text += (
                f" In images with exactly two classes (N = {gap['n']:,}) the energy of its map on its class's objects, "
                "less what the map of the other class has there (notebook 20), is better by "
                f"{words.interval(gap['mean'], gap['low'], gap['high'], sign=True)} points."
            )
    return Finding("FD-CAM and Grad-CAM on two classes of one image: a mixed picture", text, fig)


@styled
def closer_is_better(results: Mapping[str, Mapping]) -> Finding:
    """Whether methods closer to the SHAP values have better maps."""
    claim = find_claim("lift_table1_closer_better")
    rows, correlations = [], []
    for run, needed in _answering(claim, results):
        correlations += [c for c in needed if c.low is not None]
        name = networks.where(run.model, run.data)
        rows += [(name, words.method(m), run.mean(m, "shap_cosine")["mean"], run.mean(m, "ad")["mean"])
                 for m in claim.test[0].methods]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["network", "method", "cosine", "drop"])
    names = list(dict.fromkeys(frame.network))
    palette = {words.method(m): colours.method(m) for m in claim.test[0].methods}
    fig, axes = plt.subplots(1, len(names), figsize=(WIDTH, 2.3), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        part = frame[frame.network == name]
        sns.scatterplot(part, x="cosine", y="drop", hue="method", ax=ax, legend=name == names[-1],
                        palette=palette)  # fmt: skip
        ax.set_title(name.replace(" on ", "\non ").replace(" + ", "\n+ "), fontsize=6)
        ax.set(xlabel="", ylabel=TITLES["ad"] if name == names[0] else "")
        ax.tick_params(labelsize=6)
    fig.supxlabel("cosine with the SHAP values", fontsize=9)
    sns.move_legend(axes[0, -1], "upper left", bbox_to_anchor=(1, 1), title=None, fontsize=6)
    spans = {m: span([c.value for c in correlations if c.metric == m], 2) for m in claim.test[0].metrics}
    ranges = ", ".join(f"{values} for {TITLES[m].partition(' (')[0].lower()}" for m, values in spans.items())
    above, below = sum(c.low > 0 for c in correlations), sum(c.high < 0 for c in correlations)
    best = (frame.loc[frame.groupby("network")["drop"].idxmin()].method == words.method("score_cam")).sum()
    text = (
        "LIFT-CAM's section 4.1 concludes that maps are the better the closer their weights are to the SHAP values. "
        f"Over the six methods of Table 3 the rank correlation of closeness with a better value is {ranges} (1: as "
        f"claimed). Six methods decide little: {above} of {len(correlations)} intervals lie above 0, {below} below. "
        f"Score-CAM, the farthest, has the lowest average drop (it favours broad maps) on {best} of {len(names)} runs."
    )
    return Finding("Closer to the SHAP values, better maps? Cannot tell", text, fig)


FINDINGS = (bold_cells, discriminability, fin, centre_point, bias, two_networks, closer_is_better)


def _answering(claim: Claim, results: Mapping[str, Mapping]) -> Iterator[tuple[Run, list[Comparison]]]:
    """The runs that hold all that a claim needs, with its comparisons."""
    for run in runs_of(claim, results):
        with suppress(NotThere):
            yield run, comparisons(claim, run)


def _full(results: Mapping[str, Mapping], notebook: str) -> list[Run]:
    if runs := full_runs(results, notebook):
        return [Run.of(run) for run in runs]
    raise ValueError(f"There is no full run of {notebook}: compute it with `./reproduce.sh full {notebook}`.")


def _differences(ax: Axes, differences: Sequence[Comparison], names: Sequence[str]) -> None:
    for i, c in enumerate(differences):
        colour = "0.45" if c.low is None or c.low <= 0 <= c.high else PALETTE[int(c.high < 0)]
        ax.errorbar(c.value, i, xerr=bars([c.value], [c.low], [c.high]), fmt="o", ms=4, capsize=2, color=colour)
    ax.axvline(0, color="black", lw=0.8)
    name_rows(ax, names, fontsize=7)
