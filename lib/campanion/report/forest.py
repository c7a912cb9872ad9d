"""The verdicts as a figure: a forest plot of the numbers that decide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from campanion.report import networks, words
from campanion.report.figures import PALETTE, WIDTH, bars, name_rows, styled
from campanion.report.rule import AGAINST, HOLDS, OPEN, SAME
from campanion.report.scoreboard import SIGNS
from campanion.report.verdicts import Answer, Verdict
from campanion.results.measures import TITLES

COLOURS = {HOLDS: PALETTE[0], SAME: PALETTE[5], OPEN: "#d9d9d9", AGAINST: PALETTE[1]}


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
