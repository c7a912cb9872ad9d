"""The verdicts as figures: a heat-strip of claims by networks, a forest plot of the deciding numbers of a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from campanion.report import networks, papers, words
from campanion.report.figures import PALETTE, WIDTH, bars, name_rows, styled
from campanion.report.rule import AGAINST, HOLDS, OPEN, SAME, Judgement
from campanion.report.scoreboard import SIGNS
from campanion.report.verdicts import OWN, Answer, Verdict
from campanion.results.measures import TITLES

COLOURS = {HOLDS: PALETTE[0], SAME: PALETTE[5], OPEN: "#d9d9d9", AGAINST: PALETTE[1]}
_ORDER = list(COLOURS)
_OWN_CELL, _ACROSS_CELL = ("own", ""), ("across", "")
_ROW, _CELL, _LABEL = 0.4, 0.64, 4.4  # inches: height of a claim, width of a network, width of the sentences


@styled
def strip(board: Sequence[Verdict]) -> Figure:
    """A row per claim, a cell per network: first the paper's own setting, then networks grouped by their heads.

    Colour and sign say the answer, the number how many comparisons hold or the power, the chance to see the printed
    differences at this N. Each paper has a panel of the claims that were tested; ValueError where none was.
    """
    panels = [(p, [v for v in board if v.claim.paper == p and v.answers]) for p in papers.PAPERS]
    panels = [(p, rows) for p, rows in panels if rows]
    if not panels:
        raise ValueError("No claim has an answer in these results: compute some with `./reproduce.sh full`.")
    columns = [_columns(rows) for _, rows in panels]
    width = _LABEL + _CELL * max(map(len, columns))
    heights = [_ROW * len(rows) + 1.55 for _, rows in panels]
    fig, axes = plt.subplots(len(panels), 1, figsize=(width, sum(heights) + 0.5), height_ratios=heights, squeeze=False)
    for ax, (paper, rows), names in zip(axes[:, 0], panels, columns, strict=True):
        _panel(ax, rows, names, max(map(len, columns)))
        of = sum(v.claim.paper == paper for v in board)
        ax.set_title(f"{papers.name(paper)}: {len(rows)} of {of} claims were tested", loc="left", fontsize=10, pad=68)
    more = {HOLDS: " (2/5: of so many comparisons)", OPEN: " (9 %: the power)"}
    handles = [Patch(color=COLOURS[w], label=f"{SIGNS[w]} {w}{more.get(w, '')}") for w in _ORDER]
    fig.legend(handles=handles, loc="outside lower center", ncols=4 if width > 10 else 2, fontsize=9)
    fig.suptitle("Which claims hold, and on which networks?", fontsize=12)
    return fig


@styled
def forest(board: Sequence[Verdict]) -> Figure:
    """The deciding number of every network, claim by claim: towards the claim is to the right.

    A filled mark with its 95 % interval, where there is one, is ours, a ring the paper's printed value, the line the
    bound that the claim needs (0 for a difference), the shaded band the margin within which a difference does not
    matter. ValueError where no claim has an answer.
    """
    rows = [(v, v.answers) for v in board if v.answers]
    if not rows:
        raise ValueError("No claim has an answer in these results: there is nothing to draw.")
    heights = [0.3 * len(a) + 0.75 for _, a in rows]
    fig, axes = plt.subplots(len(rows), 1, figsize=(WIDTH, sum(heights) + 0.3), height_ratios=heights, squeeze=False)
    for ax, (v, answers) in zip(axes[:, 0], rows, strict=True):
        _forest(ax, v, answers)
    marks = [
        mpl.lines.Line2D([], [], color="black", marker="o", lw=1, ms=4, label="ours, 95 % interval"),
        mpl.lines.Line2D([], [], color="black", marker="o", mfc="none", ls="", ms=8, label="printed in the paper"),
        Patch(color="0.9", label="margin: a difference that does not matter"),
    ]
    fig.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=7)
    return fig


def _columns(board: Sequence[Verdict]) -> list[tuple[str, str, str]]:
    """Heading, network, data: the paper's own setting first, then by kind of head, comparisons of networks last."""
    heads = {networks.HIDDEN: "hidden layers", networks.NEARLY: "nearly linear", networks.LINEAR: "linear"}
    order = {name: i for i, name in enumerate(heads)}
    shown = {k for v in board for k in _cells(v)} - {_OWN_CELL, _ACROSS_CELL}
    listed = sorted((order[networks.head(model.split(" and ")[0])], model, data) for model, data in shown)
    columns = [("", *_OWN_CELL), *((list(heads.values())[h], m, d) for h, m, d in listed)]
    return columns + [("compared", *_ACROSS_CELL)] * any(v.claim.kind == "across" for v in board)


def _cells(verdict: Verdict) -> dict[tuple[str, str], tuple[Judgement, float | None]]:
    """Judgement and power by network and data; the paper's own settings and comparisons of networks have one each."""
    if verdict.claim.kind == "across":
        return {_ACROSS_CELL: (verdict.answers[0].judgement, None)}
    own = verdict.groups[OWN]
    cells = {_OWN_CELL: (own.judgement, own.power)} if own.judgement else {}
    return cells | {(a.model, a.data): (a.judgement, a.power) for a in verdict.answers if a.group != OWN}


def _panel(ax: Axes, board: Sequence[Verdict], columns: list[tuple[str, str, str]], most: int) -> None:
    words_shown = np.full((len(board), len(columns)), np.nan)  # places in COLOURS
    texts = np.full(words_shown.shape, "", dtype=object)
    for i, v in enumerate(board):
        cells = _cells(v)
        for j, (_, *key) in enumerate(columns):
            if tuple(key) in cells:
                judgement, power = cells[tuple(key)]
                words_shown[i, j], texts[i, j] = _ORDER.index(judgement.word), _text(judgement, power)
    palette, empty = (mpl.colors.ListedColormap(names) for names in (list(COLOURS.values()), ["0.96"]))
    ax.pcolormesh(np.zeros_like(words_shown), cmap=empty, edgecolors="white", lw=1.5)  # not run
    look = {"cbar": False, "linewidths": 1.5, "linecolor": "white", "annot_kws": {"fontsize": 8}}
    sns.heatmap(words_shown, annot=texts, fmt="", ax=ax, cmap=palette, vmin=-0.5, vmax=3.5, **look)
    labels = [textwrap.fill(v.claim.sentence, 66, break_on_hyphens=False) for v in board]
    ax.set_yticks(np.arange(len(board)) + 0.5, labels, rotation=0, fontsize=8.2)
    for label in ax.get_yticklabels():
        label.set_fontsize(8.2 if label.get_text().count("\n") < 2 else 6)
    named = {_OWN_CELL: "paper's\nown setting", _ACROSS_CELL: "networks\ncompared"}
    heads = [named.get((m, d)) or textwrap.fill(f"{networks.short(m)}, {networks.data(d)}", 11, break_on_hyphens=False)
             for _, m, d in columns]  # fmt: skip
    ax.xaxis.tick_top()
    ax.set_xticks(np.arange(len(columns)) + 0.5, heads, rotation=0, fontsize=6.2)
    ax.tick_params(length=0)
    ax.set_xlim(0, most)  # all panels have cells of one size
    for j, (head, *_) in enumerate(columns):
        if j and head != columns[j - 1][0]:
            ax.axvline(j, color="black", lw=1)
            if board[0].claim.paper != "lfi":  # its networks are told apart by their training, not by their heads
                ax.text(j + 0.05, len(board) + 0.12, f"{head} →", fontsize=8, va="top")


def _text(judgement: Judgement, power: float | None) -> str:
    count = len(judgement.comparisons)
    if judgement.word == OPEN and power is not None:
        return f"{SIGNS[OPEN]} {100 * power:.0f} %"
    return f"{SIGNS[judgement.word]} {judgement.holding}/{count}" if count > 1 else SIGNS[judgement.word]


def _forest(ax: Axes, verdict: Verdict, answers: Sequence[Answer]) -> None:
    deciding, judged = [a.judgement.deciding for a in answers], [a.judgement.word for a in answers]
    for bound in dict.fromkeys(d.bound for d in deciding):
        ax.axvline(bound, color="black", lw=0.8)
    names, several = [], len({d.metric for d in deciding}) > 1  # metrics: each row then names its own
    for i, (a, d, word) in enumerate(zip(answers, deciding, judged, strict=True)):
        look = {"fmt": "o", "ms": 4, "lw": 1, "capsize": 2, "color": COLOURS[word] if word != OPEN else "0.45"}
        ax.errorbar(d.value, i, xerr=None if d.low is None else bars([d.value], [d.low], [d.high]), **look)
        if d.margin is not None:
            ax.add_patch(Rectangle((-d.margin, i - 0.5), 2 * d.margin, 1, color="0.9", zorder=0))
        if d.printed is not None:
            ax.plot(d.printed, i, "o", mfc="none", ms=8, color="black", mew=0.8)
        compared = words.quantity(d) if several else words.quantity(d).partition(": ")[2]
        n = f" (N = {words.size(d)}{', no interval' * (d.low is None)})" * (d.metric != "parameters")
        names.append(f"{SIGNS[word]} {_where(verdict, a)}{n}\n{compared}")
    name_rows(ax, names, fontsize=5.8)
    ax.tick_params(axis="x", labelsize=6.5)
    times = all(" / " in d.method for d in deciding)  # of two methods: from 1 to many thousands
    if times:
        ax.set_xscale("log")
    else:
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
        ax.ticklabel_format(axis="x", useOffset=False)
    titles = ", ".join(dict.fromkeys(TITLES[d.metric] for d in deciding))
    metrics = "Seconds of the slower over seconds of the faster" if times else titles
    sentence = textwrap.fill(verdict.claim.sentence, 66, break_on_hyphens=False)
    ax.set_title(f"{sentence}\n{metrics}", fontsize=6.5, loc="left")


def _where(verdict: Verdict, answer: Answer) -> str:
    if verdict.claim.kind == "across":
        return "networks compared"
    return f"{networks.short(answer.model)}, {networks.data(answer.data)}"
