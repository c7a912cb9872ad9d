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
from campanion.report.papers import entries, published
from campanion.report.rule import Comparison, power
from campanion.report.verdicts import OTHER, runs_of, verdict
from campanion.results.measures import TITLES


@dataclass(frozen=True, repr=False)
class Finding:
    """A finding: its heading, a paragraph in Markdown, a figure; its words are in ``data/papers/findings.yml``."""

    title: str
    text: str
    figure: Figure

    @classmethod
    def of(cls, name: str, figure: Figure, **values: object) -> Finding:
        """The finding ``name`` with its values."""
        told = entries("findings")[name]
        return cls(told["title"].format(**values), told["text"].format(**values), figure)


@styled
def bold_cells(results: Mapping[str, Mapping]) -> Finding:
    """The power of the papers' own experiments: would a paper that is right have seen its differences?"""
    names = entries("findings")["bold_cells"]["claims"]
    rows = []
    for name, sentence in names.items():
        claim = find_claim(name)
        for run, needed in _answering(claim, results):
            if not any(c.tied for c in needed):
                chance = power(needed, correlation(run, needed), n=claim.n, cells=claim.by_cells)
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
    chances = {name: f"{span(hidden[hidden.claim.str.startswith(text)].power)} %" for name, text in names.items()}
    return Finding.of("bold_cells", fig, chances=chances)


@styled
def centre_point(results: Mapping[str, Mapping]) -> Finding:
    """The pointing game's baseline that Table II does not print."""
    table = published("fd", "table2").set_index("method").number
    runs = _full(results, "22_fd_table2_pointing_game")
    run = max(runs, key=lambda r: (r.model == "voc_vgg16", networks.head(r.model) == networks.HIDDEN))
    centre, random = (run.mean(m, "pointing_accuracy") for m in ("centre point", "random point"))
    rows = [(words.method(m), v, "the paper's VGG16") for m, v in table.items()]
    rows += [(words.method(m), run.mean(m, "pointing_accuracy")["mean"], networks.short(run.model)) for m in table.index
             if (m, "pointing_accuracy") in run.means]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["method", "accuracy", "network"])
    fig, ax = plt.subplots(figsize=(WIDTH, 2.6))
    palette = [colours.PAPER, colours.network(run.model)["color"]]
    sns.stripplot(frame, x="accuracy", y="method", hue="network", ax=ax, palette=palette, size=6, jitter=False)
    for value, name in ((centre["mean"], "the centre of every image"), (random["mean"], "a random point")):
        ax.axvline(value, color="0.4", lw=1, ls="--")
        ax.text(value, -0.75, name, ha="center", fontsize=7)
    ax.set(xlabel=TITLES["pointing_accuracy"], ylabel="")
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=None, fontsize=7)  # no marks among the data
    ablation, n = table["ablation_cam"], find_claim("fd_table2_best_pointing").n
    where = "inside" if centre["low"] <= ablation <= centre["high"] else "outside"
    return Finding.of("centre_point", fig, centre=centre, random=random, ablation=ablation, n=n, where=where)


@styled
def fin(results: Mapping[str, Mapping]) -> Finding:
    """What a trained Feature Importance Network changes."""
    kinds = {"lfi-paper-finfrozen": "a frozen FIN", "lfi-paper-finnone": "none"}
    errors, maps, parts = {}, {}, []
    for run in _full(results, "16_lfi_fig5_fin_effect"):
        name, overlap = run_name(run.model, run.data, run.trained), run.mean("lfi-paper", "iou_with_mean")
        gained = {k: run.difference("lfi-paper", k, "top1_error") for k in kinds if (k, "top1_error") in run.means}
        errors |= {f"{name}: over {kinds[k]}": c for k, c in gained.items()}
        maps[name] = c = run.difference("lfi-paper lfi_cam", "lfi-paper mean_features", "overall")
        shared = words.interval(overlap["mean"], overlap["low"], overlap["high"], "iou")
        gains = " and ".join(f"{words.measured(e)} over {words.method(k)}" for k, e in gained.items())
        numbers = {"unevenness": 100 * run.mean("lfi-paper", "unevenness")["mean"], "images": c.n}
        numbers |= {"n": run.mean("lfi-paper", "top1_error")["n"], "difference": words.measured(c)}
        parts.append(entries("findings")["fin"]["network"].format(name=name, gains=gains, overlap=shared, **numbers))
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 1.1 + 0.4 * len(errors)), width_ratios=(3, 2))
    _differences(axes[0], [*errors.values()], [textwrap.fill(name, 34) for name in errors])
    reach = max(2, *(1.1 * abs(c.value) for c in errors.values()))  # on an axis of tenths chance looks like a loss
    axes[0].set(xlabel="top-1 error, points gained by a trained FIN", xlim=(-reach, reach))
    _differences(axes[1], [*maps.values()], [textwrap.fill(name, 26) for name in maps])
    axes[1].set_xlabel("insertion - deletion:\nmap over mean features")
    judgement = verdict(find_claim("lfi_fin_lowers_error"), results).groups[OTHER].judgement
    word = "Not run" if judgement is None else WORDS[judgement.word]
    return Finding.of("fin", fig, word=word, networks=" ".join(parts))


def bias(results: Mapping[str, Mapping]) -> Finding:
    """FD-CAM's bias b: how many channels it makes negative, and what that does to the map."""
    runs = sorted(full_runs(results, "24_fd_bias"), key=lambda r: r["model"] != "voc_vgg16")
    shown = {
        "negative": "channels with a negative weight (%)",
        "energy_proportion": "energy in the box (%), higher is better",
        "ad": "average drop (%), lower is better",
    }
    counted = [(r, Run.of(r).mean("b=0.5", "negative")) for r in runs]
    negative = "; ".join(f"{networks.name(r['model'])} (K = {r['extra']['channels']:,}) {row['mean']:.0f} % "
                         f"(N = {row['n']})" for r, row in counted)  # fmt: skip
    run = Run.of(max(counted, key=lambda pair: pair[1]["mean"])[0])
    drops = {"drop": run.mean("b=0.5", "ad")["mean"], "drop_mean": run.mean("b=mean", "ad")["mean"]}
    return Finding.of("bias", bias_figure(runs, shown), negative=negative, network=networks.name(run.model), **drops)


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
    sizes = frame[frame.network == "ResNet-50"].set_index("kind").parameters
    equations, abn = sizes[kinds["lfi_cam:paper"]], sizes["ABN, printed"]
    others = {"printed": sizes["LFI-CAM, printed"], "code": sizes[kinds["lfi_cam"]]}
    return Finding.of("two_networks", fig, equations=equations, abn=abn, times=equations / abn, **others)


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
    gained = {m: run.difference("fd_cam", "grad_cam", m) for m in metrics}
    n, two = gained["own_energy"].n, ""
    for pair in full_runs(results, "20_fd_fig1_fig6_discriminability"):
        if pair["model"] == run.model and (gap := difference_rows(pair, "gap", "fd_cam").get("grad_cam")):
            shown = words.interval(gap["mean"], gap["low"], gap["high"], sign=True)
            two += " " + entries("findings")["discriminability"]["two"].format(n=gap["n"], gap=shown)
    where, measured = networks.where(run.model, run.data), {m: words.measured(c) for m, c in gained.items()}
    return Finding.of("discriminability", fig, where=where, n=n, two=two, **measured)


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
    counts = {"above": above, "below": below, "count": len(correlations), "best": best, "runs": len(names)}
    return Finding.of("closer_is_better", fig, ranges=ranges, **counts)


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
