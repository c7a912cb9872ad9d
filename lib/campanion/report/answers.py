"""What a claim's answer rests on: the number that decides it, as the paper prints it and as it was measured here."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pandas as pd

from campanion.cams.methods import label
from campanion.report.claim_tests import OPEN, YES, Number
from campanion.report.claims import (
    NOT_RUN,
    SAME,
    Claim,
    RunVerdict,
    Verdict,
    printed_passes,
    printed_runs,
    telling,
    verdicts,
)
from campanion.report.papers import paper_data, published, tables
from campanion.results.measures import TITLES
from campanion.results.store import load_results

COLUMNS = ("claim", "paper", "table", "sentence", "verdict", "model", "data", "answer", "decided_by", "printed",
           "measured", "n", "holds", "own_table", "notebook")  # fmt: skip
NOT_PRINTED = "not printed"


def answers(results: Mapping[str, Mapping] | None = None) -> pd.DataFrame:
    """One row per claim and run that answers it; a claim that no run answers has one row.

    Args:
        results: result files by notebook; None reads those in ``data/results``.

    Returns:
        Columns ``claim, paper, table, sentence, verdict`` (of the claim), ``model, data, answer`` (of this run),
        ``decided_by`` (the quantity that decided), ``printed`` and ``measured`` (its value in the paper and here, with
        the 95 % interval), ``n`` (the images that it rests on), ``holds`` (such as ``2 of 7``: comparisons that came
        out as claimed), ``own_table`` (do the paper's own numbers pass the test: ``yes``, ``no``, ``not printed``),
        ``notebook``.

    >>> answers().query("claim == 'fd_table1_best_overall'")[["model", "printed", "measured"]]
    """
    rows = [row for v in verdicts(load_results() if results is None else results) for row in _rows(v)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def own_table(claim: Claim) -> str:
    """Whether the paper's own numbers pass the claim's test: ``yes``, ``no`` or ``not printed``."""
    return {True: "yes", False: "no", None: NOT_PRINTED}[printed_passes(claim)]


def _rows(verdict: Verdict) -> list[tuple]:
    claim, own = verdict.claim, own_table(verdict.claim)
    head = (claim.id, claim.paper, claim.tables[0], claim.sentence, verdict.word)
    answered = [r for r in verdict.runs if r.word != NOT_RUN]
    if not answered:
        return [(*head, "", "", NOT_RUN, "", "", "", None, "", own, claim.notebook)]
    return [(*head, r.model, r.data, r.word, *_decision(claim, r), own, claim.notebook) for r in answered]


def _decision(claim: Claim, run: RunVerdict) -> tuple[str, str, str, int, str]:
    numbers = list(run.numbers)
    number = telling(run.word, numbers)
    methods = " minus ".join(_name(claim, m, run.model) for m in (number.method, number.reference) if m is not None)
    holds = f"{sum(n.word == YES for n in numbers)} of {len(numbers)}"
    decided_by = f"{TITLES[number.metric]}: {methods}"
    if run.word == OPEN and number.tied:
        decided_by += f" ({SAME})"
    return decided_by, _printed(claim, number, run), _measured(number), number.n, holds


def _name(claim: Claim, method: str, model: str) -> str:
    """The method's name; that of a row which is no method of the registry as the paper prints it, for this network."""
    if label(method) != method:
        return label(method)
    rows = [row for table in claim.tables for row in _table(claim.paper, table) if row.method == method]
    printed = {row.row for row in rows if row.model == model} or {row.row for row in rows}
    return printed.pop() if len(printed) == 1 else method


def _table(paper: str, table: str) -> list[tuple]:
    return list(published(paper, table).itertuples()) if (paper, table) in tables() else []


def _printed(claim: Claim, number: Number, run: RunVerdict) -> str:
    """The same quantity from the paper's table: on the same data and network where it prints these."""
    found = []
    for printed in printed_runs(claim):
        values = {r["method"]: Decimal(str(r["mean"])) for r in printed["rows"] if r["metric"] == number.metric}
        if number.method in values and (number.reference is None or number.reference in values):
            fits = (printed["data"] == paper_data(run.data), printed["model"] == run.model)
            minus = values[number.reference] if number.reference is not None else Decimal(0)
            where = " on ".join(filter(None, (printed["model"], printed["data"])))
            found.append((fits, values[number.method] - minus, where))
    if not found:
        return NOT_PRINTED
    _, value, where = max(found, key=lambda f: f[0])  # the first of equals
    sign = "" if number.reference is None else "+"
    return f"{value:{sign}f} ({where})" if where else f"{value:{sign}f}"


def _measured(number: Number) -> str:
    sign = "" if number.reference is None else "+"
    mean, *ends = (f"{v + 0.0:{sign}.4g}" for v in (number.mean, number.low, number.high) if v is not None)
    if number.n == 1 and ends and number.low == number.high:
        return f"{mean} (counted)"  # one thing, such as a network's parameters: nothing varies
    return f"{mean} ({' to '.join(ends) if ends else 'no interval'})"
