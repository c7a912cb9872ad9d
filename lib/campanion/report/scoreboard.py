"""The scoreboard: every claim of the papers with what was found, made from claims.yml and the result files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from html import escape

from campanion import paths
from campanion.report import networks, papers, words
from campanion.report.rule import AGAINST, HOLDS, OPEN, SAME
from campanion.report.verdicts import BY_EYE, GROUPS, NOT_ALL, NOT_RUN, OWN, Answer, Verdict, verdicts
from campanion.results import load_results

SIGNS = {HOLDS: "✓", AGAINST: "✗", SAME: "≈", OPEN: "?", NOT_RUN: ""}
OWN_WORDS = ("reproduced", "not reproduced", SAME, OPEN, NOT_ALL, NOT_RUN)
_ELSEWHERE = ("carries over", "does not carry over")
_HEADS = ("Network and data", "Answer", "Decided by", "Paper", "Ours [95 % interval]", "Paper's value inside", "N",
          "Power")  # fmt: skip
CAPTION = "<caption>What the papers claim, and what was measured here (differences: above 0 is as claimed)</caption>"


def committed(notebook: str | None = None) -> list[Verdict]:
    """The verdicts of the committed results, whatever a notebook's run writes elsewhere; of one notebook's claims."""
    folder = paths.root() / "data" / "results"
    stamp = tuple((p.name, p.stat().st_mtime_ns) for p in sorted(folder.glob("*.json")))
    return list(_committed(stamp, notebook))


@cache
def _committed(_stamp: tuple, notebook: str | None) -> tuple[Verdict, ...]:
    return tuple(verdicts(load_results(paths.root() / "data" / "results"), notebook))


def of_notebook(key: str) -> View:
    """The claims that a notebook is about, with their answers from the committed results."""
    return View(committed(key))


def sentence(verdict: Verdict) -> str:
    """The answer to a claim in one sentence, with what it rests on."""
    own, *others = verdict.groups.values()
    if verdict.word == BY_EYE:
        return "A claim about single images: the notebook shows them, no number decides it."
    parts = [f"In {GROUPS[OWN]}: {own.word}{_rests_on(own)}."]
    parts += [f"On {GROUPS[g.group]}: {g.word}{_rests_on(g)}." for g in others if g.judgement is not None]
    if verdict.claim.bound_from == "ours":
        parts.append("The bound is ours: the paper states none.")
    return " ".join(parts)


def counts(board: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """How many claims of each paper have each word: a row of heads, one per paper, and the sum."""
    lines = [("", "claims", *OWN_WORDS[:4], "not run in full there", "not run there", *_ELSEWHERE, "shown only")]
    parts = {papers.name(paper): [v for v in board if v.claim.paper == paper] for paper in papers.PAPERS}
    for name, part in {**parts, "all": board}.items():
        own, others = Counter(v.word for v in part), Counter(map(elsewhere, part))
        numbers = [len(part), *(own[w] for w in OWN_WORDS), *(others[w] for w in _ELSEWHERE), own[BY_EYE]]
        lines.append((name, *(str(n) if n else "" for n in numbers)))
    return lines


def elsewhere(verdict: Verdict) -> str:
    """One word for all other networks; linear ones, where methods nearly coincide, speak only where they are alone."""
    return next((g.word for k, g in verdict.groups.items() if k != OWN and g.judgement is not None), NOT_RUN)


def plain(board: Sequence[Verdict]) -> str:
    """The scoreboard for a terminal: a line per claim that has an answer."""
    numbers = ", ".join(f"{n} {word}" for word, n in Counter(v.word for v in board).items())
    lines = [f"{words.counted(len(board), 'claim')}; {GROUPS[OWN]}: {numbers}"]
    for v in board:
        if v.answers:
            others = [f"{GROUPS[k]}: {g.word}" for k, g in v.groups.items() if k != OWN and g.judgement]
            lacks = _rests_on(v.groups[OWN]) if v.word == NOT_ALL else ""
            lines.append(f"  {place(v)}: {v.claim.sentence} {'; '.join([v.word + lacks, *others])}")
    return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class View:
    """Claims that show themselves: a line each in a terminal, a table in a notebook."""

    found: Sequence[Verdict]

    def __repr__(self) -> str:
        return plain(self.found)

    def _repr_html_(self) -> str:
        return table(self.found)


def table(board: Sequence[Verdict]) -> str:
    """What each answer rests on, as one accessible HTML table: a heading per claim, a row per network."""
    cell = '<td style="text-align:left">{}</td>'.format
    body = []
    for v in board:
        head = f"{escape(place(v))}: {escape(v.claim.sentence)}<br><i>{escape(sentence(v))}</i>"
        body.append(f'<tbody><tr><th scope="rowgroup" colspan="{len(_HEADS)}" style="text-align:left">{head}</th></tr>')
        body += [f"<tr>{''.join(cell(escape(text)) for text in row.values())}</tr>" for row in rows(v)]
        body.append("</tbody>")
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in _HEADS)
    return f"<table>{CAPTION}<thead><tr>{heads}</tr></thead>{''.join(body)}</table>"


def place(verdict: Verdict) -> str:
    """The last part of the place, which names the table or figure where there is one."""
    return verdict.claim.place.split(";")[-1].strip()


def rows(verdict: Verdict) -> list[dict[str, str]]:
    """A row of texts for each network that answers a claim, by the heads of :func:`table`; one row where none does."""
    answers = [_cells(a) for a in verdict.answers] or [("", verdict.word, *[""] * 6)]
    return [dict(zip(_HEADS, cells, strict=True)) for cells in answers]


def _cells(answer: Answer) -> tuple[str, ...]:
    j, d = answer.judgement, answer.judgement.deciding
    counted = f" ({j.holding} of {len(j.comparisons)} comparisons)" if len(j.comparisons) > 1 else ""
    network = networks.where(answer.model, answer.data) + " (the paper's own)" * (answer.group == OWN)
    decided = words.quantity(d) + "; these coincide here" * d.tied
    inside = {True: "yes", False: "no", None: ""}[d.as_printed]
    numbers = (words.printed(d), words.measured(d), inside, words.size(d), words.chance(answer.power))
    return (network, f"{SIGNS[j.word]} {j.word}{counted}", decided, *numbers)


def _rests_on(group: object) -> str:
    """What the word of a group rests on: networks, N, deciding number, power where it cannot tell; or what lacks."""
    if group.judgement is None:
        lacks = "; ".join(f"{networks.where(a.model, a.data)}: {a.missing}" for a in group.answers)
        return f" ({lacks})" if lacks else ""
    d = group.judgement.deciding
    if group.pooled:
        low, high = group.predicted
        names, basis = f"mean over {d.n} networks", ""
        if low == low:
            basis = f", one more network: [{words.measured(replace(d, low=low, high=high)).partition('[')[2]}"
    else:
        names = "; ".join(networks.where(a.model, a.data) for a in group.answers if a.judgement is not None)
        basis = "" if d.metric == "parameters" else f", N = {words.size(d)}"
    power = words.chance(group.power)
    seen = f"; the chance of seeing the printed difference was {power}" * bool(power and group.judgement.word == OPEN)
    return f" ({names}; {words.quantity(d)} {words.measured(d)}{basis}{seen})"
