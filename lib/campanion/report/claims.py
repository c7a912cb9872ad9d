"""What the papers claim, and whether our results bear it out: ``data/papers/claims.yml`` and its verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import yaml

from campanion import paths
from campanion.errors import unknown
from campanion.report.claim_tests import NO, OPEN, YES, NotThere, Number, Rows, function_of
from campanion.report.papers import PAPERS, paper_data, published
from campanion.results.measures import DIRECTION

NOT_RUN, MIXED = "not run", "mixed"
SAME = "these coincide on this network"
WORDS = (YES, NO, OPEN, MIXED, NOT_RUN)
_FIELDS = {"id", "paper", "table", "sentence", "notebook", "data", "printed", "test"}


@dataclass(frozen=True)
class Claim:
    """One claim of claims.yml; ``printed`` says whether the paper's own numbers pass: True, False, None (absent)."""

    id: str
    paper: str
    tables: tuple[str, ...]
    sentence: str
    notebook: str
    data: tuple[str, ...]
    printed: bool | None
    test: Mapping[str, object]


@dataclass(frozen=True)
class RunVerdict:
    """The answer of one run (a model on a data set)."""

    model: str
    data: str
    word: str
    reason: str
    numbers: tuple[Number, ...] = ()

    @property
    def tied(self) -> bool:
        """Whether it is undecided because methods that the claim tells apart are one and the same on this network."""
        return self.word == OPEN and any(n.tied for n in self.numbers)


@dataclass(frozen=True)
class Verdict:
    """The answer to a claim over all ``runs``, each of which has its own; see :func:`verdict`."""

    claim: Claim
    word: str
    reason: str
    runs: tuple[RunVerdict, ...] = field(default=())

    @property
    def numbers(self) -> list[dict[str, object]]:
        """Every number that the answer rests on, with model and data, for a table."""
        return [{"model": r.model, "data": r.data, **n.as_dict()} for r in self.runs for n in r.numbers]


def load_claims() -> list[Claim]:
    """The claims of ``claims.yml``, checked.

    Raises:
        ValueError: a claim has a wrong field, kind of test, paper or metric; the sentence names the claim.
    """
    path = paths.papers_dir() / "claims_before.yml"
    return list(_load(str(path), path.stat().st_mtime_ns))


def find_claim(name: str) -> Claim:
    """The claim of this id.

    >>> find_claim("fd_table1_best_overall").sentence
    'FD-CAM has the best insertion minus deletion of the eight methods.'
    """
    claims = {c.id: c for c in load_claims()}
    if name not in claims:
        raise ValueError(unknown("claim", name, claims))
    return claims[name]


def verdict(claim: Claim, results: Mapping[str, Mapping]) -> Verdict:
    """Answer a claim from results.

    Paired differences decide a run, by their 95 % intervals: all that the test needs on the claimed side, reproduced;
    any wholly on the other side, not reproduced; else undecided. Over several runs (networks, data sets) the claim is
    reproduced where all bear it out, not reproduced where one contradicts it and none bears it out, mixed where only
    some bear it out, undecided where none decides. A run on whose network the compared methods coincide, as
    Ablation-CAM and LIFT-CAM do on a linear head, counts only where there is no other. Runs of mode ``quick`` answer
    nothing, nor do runs on data that the claim is not about.

    Args:
        claim: from :func:`load_claims`.
        results: result files by notebook, from :func:`campanion.results.load_results`.

    >>> verdict(find_claim("fd_table1_best_overall"), {}).word
    'not run'
    """
    result = results.get(claim.notebook)
    if result is None:
        return Verdict(claim, NOT_RUN, f"there is no result of {claim.notebook}")
    runs = [r for r in result["runs"] if r["mode"] == "full" and is_about(claim, r["data"])]
    if not runs:
        about = " or ".join(claim.data)
        return Verdict(claim, NOT_RUN, f"{claim.notebook} has no full run on {about}")
    answers = [_answer(claim, r) for r in runs]
    answered = [a for a in answers if a.word != NOT_RUN]
    words = {a.word for a in [a for a in answered if not a.tied] or answered}
    mixed = YES in words and len(words) > 1
    word = MIXED if mixed else next((w for w in (YES, NO, OPEN) if w in words), NOT_RUN)
    listed = answered if answered else answers
    several = len({a.word for a in listed}) > 1
    said = (f"{a.model} on {a.data}: {f'{a.word}: ' if several else ''}{a.reason}" for a in listed)
    return Verdict(claim, word, "; ".join(said), tuple(answers))


def is_about(claim: Claim, data: str) -> bool:
    """Whether the claim is tested on this data set, whichever of its names is given.

    >>> is_about(find_claim("fd_table1_best_overall"), "imagenet-val")
    True
    """
    return data in claim.data or paper_data(data) in claim.data


def verdicts(results: Mapping[str, Mapping]) -> list[Verdict]:
    """The verdict of every claim, in the order of claims.yml."""
    return [verdict(c, results) for c in load_claims()]


def printed_passes(claim: Claim) -> bool | None:
    """Whether the numbers that the paper prints pass the claim's own test; None where it prints none of them.

    A claim that fails here contradicts the paper's own table.
    """
    words = []
    for run in printed_runs(claim):
        try:
            words.append(_function(claim, run)(Rows(run))[0])
        except NotThere:
            continue
    return all(w == YES for w in words) if words else None


def printed_runs(claim: Claim) -> list[dict]:
    """The printed tables of a claim as runs, one per model and data set; a printed number has no width."""
    runs: dict[tuple[str, str], dict] = {}
    for table in claim.tables:
        try:
            frame = published(claim.paper, table)
        except ValueError:  # a figure that prints no numbers
            continue
        for row in frame[frame.metric.isin(DIRECTION)].itertuples():
            run = runs.setdefault((row.model, row.data), {"model": row.model, "data": row.data, "rows": []})
            value = float(row.number)
            run["rows"].append(
                {"method": row.method, "metric": row.metric, "mean": value, "low": value, "high": value, "n": 1}
            )
    return [{**r, "differences": []} for r in runs.values() if r["data"] == "" or is_about(claim, r["data"])]


def _answer(claim: Claim, run: Mapping) -> RunVerdict:
    try:
        word, numbers = _function(claim, run)(Rows(run))
    except NotThere as missing:
        return RunVerdict(run["model"], run["data"], NOT_RUN, f"the result has {missing}")
    return RunVerdict(run["model"], run["data"], word, _reason(word, numbers), tuple(numbers))


def telling(word: str, numbers: list[Number]) -> Number:
    """The number that decided for ``word``: one against the claim, else one that is open, else the weakest for it."""
    same = [n for n in numbers if n.word == word] or numbers
    return same[0] if word == NO else min(same, key=lambda n: abs(n.mean) if n.reference is not None else 0.0)


def _reason(word: str, numbers: list[Number]) -> str:
    counted = f"{sum(n.word == YES for n in numbers)} of {len(numbers)} comparisons hold" if len(numbers) > 1 else ""
    number = telling(word, numbers)
    return "; ".join(filter(None, (counted, str(number), SAME if word == OPEN and number.tied else "")))


def _function(claim: Claim, run: Mapping) -> Callable[[Rows], tuple[str, list[Number]]]:
    model = run["model"]
    if claim.test.get("kind") != "as_printed":
        return function_of(claim.test)
    printed = [r for r in printed_runs(claim) if r["model"] == model]
    if not printed:
        raise NotThere(f"a model that the paper does not print ({model})")
    rows = [row for r in printed for row in r["rows"]]
    return function_of(claim.test, Rows({"rows": rows, "differences": []}))


@cache
def _load(path: str, _changed: int) -> tuple[Claim, ...]:
    with open(path, encoding="utf-8") as file:
        entries = yaml.safe_load(file)
    claims = tuple(_claim(e, path) for e in entries)
    names = [c.id for c in claims]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise ValueError(f"{path}: the id {sorted(twice)[0]} is used twice.")
    return claims


def _claim(entry: Mapping, path: str) -> Claim:
    where = f"{path}: claim {entry.get('id')!r}"
    wrong = _FIELDS ^ set(entry)
    if wrong:
        raise ValueError(f"{where} lacks or does not know {', '.join(sorted(wrong))}.")
    if entry["paper"] not in PAPERS:
        raise ValueError(f"{where}: {unknown('paper', entry['paper'], PAPERS)}")
    if entry["printed"] not in (True, False, "absent"):
        raise ValueError(f"{where}: printed is {entry['printed']!r}, not yes, no or absent.")
    try:
        function_of(entry["test"])
        for metric in entry["test"]["metrics"]:
            if metric not in DIRECTION:
                raise ValueError(unknown("metric", metric, DIRECTION))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error
    table = entry["table"]
    return Claim(
        id=entry["id"],
        paper=entry["paper"],
        tables=(table,) if isinstance(table, str) else tuple(table),
        sentence=entry["sentence"],
        notebook=entry["notebook"],
        data=tuple(entry["data"]),
        printed=None if entry["printed"] == "absent" else entry["printed"],
        test=entry["test"],
    )
