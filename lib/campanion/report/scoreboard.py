"""The scoreboard: every claim of the papers with its verdict, made from claims.yml and the result files.

``campanion scoreboard --write README.md`` replaces what stands between the two marks in the file;
``--check README.md`` fails if that is out of step with the results.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from campanion import paths
from campanion.errors import MissingData
from campanion.report.answers import answers, own_table
from campanion.report.claims import NOT_RUN, WORDS, Verdict, verdicts
from campanion.report.papers import PAPERS, title
from campanion.results.store import load_results

BEGIN, END = "<!-- scoreboard:begin -->", "<!-- scoreboard:end -->"
_COLUMNS = ("claim", "paper", "table", "sentence", "verdict", "reason", "models", "data", "n", "own_table", "notebook")


def scoreboard(results: Mapping[str, Mapping] | None = None) -> pd.DataFrame:
    """One row per claim.

    Args:
        results: result files by notebook; None reads those in ``data/results``.

    Returns:
        Columns ``claim, paper, table, sentence, verdict, reason, models, data, n, own_table, notebook``; ``n`` is
        the smallest number of images that a needed number rests on, ``own_table`` whether the paper's own numbers
        pass the claim's test (``yes``, ``no``, ``not printed``).

    >>> scoreboard().verdict.value_counts()
    """
    return pd.DataFrame(
        [_row(v) for v in verdicts(load_results() if results is None else results)], columns=list(_COLUMNS)
    )


def markdown(board: pd.DataFrame, rows: pd.DataFrame) -> str:
    """The scoreboard for the README: counts of verdicts per table, then, folded, what each answer rests on.

    Args:
        board: from :func:`scoreboard`.
        rows: from :func:`campanion.report.answers.answers`, of the same results.
    """
    lines = [f"| table | claims | {' | '.join(WORDS)} |", f"|---|---:|{'---:|' * len(WORDS)}"]
    for name, total, *each in _counts(board):
        lines.append(f"| {name} | {total} | {' | '.join(str(n) if n else '' for n in each)} |")
    totals = Counter(board.verdict)
    lines.append(f"| **all** | **{len(board)}** | {' | '.join(f'**{totals[w]}**' for w in WORDS)} |")
    heads = ("claim", "network, data", "verdict", "decided by", "paper", "ours (95 % interval)", "N")
    for paper, answered in rows[rows.answer != NOT_RUN].groupby("paper", sort=False):
        # Folded: dozens of long rows would push what the project is for off the page.
        summary = f"{PAPERS[paper].partition(':')[0]}: what each answer rests on, for every network and data set"
        lines += ["", "<details>", f"<summary>{summary}</summary>", ""]
        lines += [f"| {' | '.join(heads)} |", f"|{'---|' * 6}---:|"]
        for row in answered.itertuples():
            claim = f"[{title(row.paper, row.table)}](notebooks/{row.notebook}.ipynb): {row.sentence}{_own(row)}"
            run = f"{row.model}, {row.data}"
            cells = (claim, run, f"**{row.answer}**", _decided(row), row.printed, row.measured, f"{int(row.n):,}")
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "</details>"]
    return "\n".join(lines)


def html(board: pd.DataFrame) -> str:
    """The scoreboard as one accessible HTML table with a row per claim, for a notebook's own claims."""
    heads = ("Paper and table", "Claim", "Verdict", "Why", "N", "Paper's own numbers")
    body = []
    for row in board.itertuples():
        n = f"{int(row.n):,}" if pd.notna(row.n) else "-"
        cells = (row.sentence, row.verdict, _sentence(row.reason), n, row.own_table)
        tds = "".join(f'<td style="text-align:left">{escape(c)}</td>' for c in cells)
        body.append(f'<tr><th scope="row">{escape(title(row.paper, row.table))}</th>{tds}</tr>')
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    caption = "<caption>Every claim that the papers draw from their numbers, and our answer</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def table(rows: pd.DataFrame, notebooks: str | None = None) -> str:
    """What each answer rests on, as one accessible HTML table with a row per claim and run.

    Args:
        rows: from :func:`campanion.report.answers.answers`.
        notebooks: folder of the notebooks' pages, for links to ``notebooks/KEY.html``; None sets no links.
    """
    heads = ("Table", "Claim", "Verdict", "Decided by", "Paper", "Ours (95 % interval)", "N", "Network", "Data")
    body = []
    for row in rows.itertuples():
        n = f"{int(row.n):,}" if pd.notna(row.n) else ""
        cells = (row.sentence + _own(row), row.answer, _decided(row), row.printed, row.measured, n, row.model, row.data)
        tds = "".join(f'<td style="text-align:left">{escape(c)}</td>' for c in cells)
        name = escape(title(row.paper, row.table))
        known = notebooks is not None and (paths.root() / "notebooks" / f"{row.notebook}.ipynb").exists()
        linked = f'<a href="{notebooks}/{row.notebook}.html">{name}</a>' if known else name
        body.append(f'<tr><th scope="row" style="text-align:left">{linked}</th>{tds}</tr>')
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    caption = "<caption>Every claim that the papers draw from their numbers, and what was measured here</caption>"
    parts = f"{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<table class="docutils scoreboard">{parts}</table>'


def counts(board: pd.DataFrame) -> str:
    """How many claims of each table have each verdict, as an HTML table."""
    head = "".join(f'<th scope="col">{h}</th>' for h in ("Table", "Claims", *(w.capitalize() for w in WORDS)))
    lines = [*_counts(board), ("All", len(board), *(sum(board.verdict == w) for w in WORDS))]
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{n or str()}</td>" for n in each)}</tr>'
        for name, *each in lines
    )
    return f'<table class="docutils counts"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def plain(board: pd.DataFrame) -> str:
    """The scoreboard for a terminal: how many claims have each word, and a line per claim that was answered."""
    counts = Counter(board.verdict)
    words = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
    lines = [f"{len(board)} claim{'s' * (len(board) != 1)}: {words}"]
    for row in board[board.verdict != NOT_RUN].itertuples():
        lines.append(f"  {row.verdict:14s}  {title(row.paper, row.table)}: {row.sentence} (N = {int(row.n):,})")
    return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class View:
    """A scoreboard that shows itself: :func:`plain` text in a terminal, in a notebook :func:`html`, or the
    :func:`table` of ``rows`` where they are given."""

    board: pd.DataFrame
    rows: pd.DataFrame | None = None

    def __repr__(self) -> str:
        return plain(self.board)

    def _repr_html_(self) -> str:
        return html(self.board) if self.rows is None else table(self.rows)


def replace(text: str, board: str) -> str:
    """``text`` with ``board`` between the two marks.

    Raises:
        ValueError: the marks are not there once each, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"The file needs one line {BEGIN} and after it one line {END}: put them where the table goes.")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{board}\n{END}{rest.split(END)[1]}"


def update(path: Path | None = None, write: bool = True) -> int:
    """Print the scoreboard, replace the one in the file ``path``, or say whether that is up to date.

    Returns:
        0, or 1 where the file is not up to date and ``write`` is False.

    Raises:
        MissingData: there is no such file.
        ValueError: the file has no place for a scoreboard.
    """
    results = load_results()
    board = markdown(scoreboard(results), answers(results))
    if path is None:
        print(board)
        return 0
    if not path.exists():
        raise MissingData(f"There is no {path}: name the file that holds the line {BEGIN}.")
    text = path.read_text(encoding="utf-8")
    try:
        new = replace(text, board)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if new == text:
        return 0
    if not write:
        command = f"python -m campanion scoreboard --write {path}"
        print(f"The scoreboard in {path} is out of step with data/results: run `{command}`.", file=sys.stderr)
        return 1
    path.write_text(new, encoding="utf-8")
    return 0


def _row(verdict: Verdict) -> tuple:
    claim = verdict.claim
    answered = [r for r in verdict.runs if r.word != NOT_RUN]
    models, data = (", ".join(dict.fromkeys(getattr(r, k) for r in answered)) for k in ("model", "data"))
    n = min((number.n for r in answered for number in r.numbers), default=None)
    head = (claim.id, claim.paper, claim.tables[0], claim.sentence, verdict.word, verdict.reason)
    return (*head, models, data, n, own_table(claim), claim.notebook)


def _counts(board: pd.DataFrame) -> list[tuple]:
    """By table: its name, its claims, and how many of them have each word."""
    tables = board.groupby(["paper", "table"], sort=False).verdict
    return [(title(*key), len(words), *(sum(words == w) for w in WORDS)) for key, words in tables]


def _own(row: tuple) -> str:
    return " (The paper's own numbers fail this test.)" if row.own_table == "no" else ""


def _decided(row: tuple) -> str:
    alone = row.holds in ("", "0 of 1", "1 of 1")
    return row.decided_by if alone else f"{row.decided_by}; {row.holds} comparisons hold"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
