"""The head of every notebook and the README's table of them: the answer, and what the paper's own numbers would take.

``python -m campanion answers`` prints the answers; ``--write`` renews heads and tables from the committed results,
``--check`` fails if they are out of step. Only text between two marks is touched, so nothing has to be run again.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from campanion import paths
from campanion.report import papers, sentences
from campanion.report.evidence import full_runs
from campanion.report.rule import OPEN, SAME
from campanion.report.scoreboard import OWN_WORDS, elsewhere
from campanion.report.sentences import answer
from campanion.report.verdicts import Verdict, verdicts
from campanion.results.store import load_results

ANSWER = ("<!-- answer:begin -->", "<!-- answer:end -->")
FOUND = ("<!-- found:begin -->", "<!-- found:end -->")
TABLE = ("<!-- notebooks:begin -->", "<!-- notebooks:end -->")
GPU = 1000  # forward passes of VGG16 a second that the hours on a GPU suppose; no GPU was measured


def block(key: str, results: Mapping[str, Mapping]) -> str:
    """The head of a notebook as Markdown: its answer, and the box that says how to get the paper's own numbers."""
    lines = [f"> **Answer.** {answer(key, results)}"]
    if setting := papers.entries("own_settings").get(key):
        what, hours = setting.get("what", "the paper's own numbers"), _hours(setting, results)
        lines += [">", f"> **To get {what}** ({setting['data']}):", ">", "> ```bash"]
        lines += [f"> {setting['command']}", "> ```", ">", f"> {hours} {setting.get('note', '')}".rstrip()]
    return "\n".join(lines)


def table(results: Mapping[str, Mapping]) -> str:
    """The notebooks with their answers as a Markdown table."""
    lines = ["| notebook | answer |", "|---|---|"]
    for path in _notebooks():
        first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
        title = "".join(first["source"]).splitlines()[0].removeprefix("# ")
        lines.append(f"| [{path.stem[:2]}](notebooks/{path.name}) {title} | {answer(path.stem, results, brief=True)} |")
    return "\n".join(lines)


def summary(results: Mapping[str, Mapping]) -> str:
    """What was found of each paper, as a Markdown table of three rows."""
    board = verdicts(results)
    rows = [
        f"| **{paper}** | {text} | {_tally([v for v in board if papers.name(v.claim.paper) == paper])} |"
        for paper, text in sentences.summaries(results).items()
    ]
    return "\n".join(["| paper | what we found | its claims |", "|---|---|---|", *rows])


def update(write: bool) -> list[str]:
    """The names of the files whose heads and tables are out of step; renewed where ``write`` is set."""
    stale = []
    for path, text in _renewed(_results()):
        if path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if write:
                path.write_text(text, encoding="utf-8")
    return stale


def _renewed(results: Mapping[str, Mapping]) -> Iterator[tuple[Path, str]]:
    """Every notebook and the README, with what it holds once its head or its tables are in step."""
    for path in _notebooks():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        first = notebook["cells"][0]
        first["source"] = _with_block("".join(first["source"]), block(path.stem, results)).splitlines(keepends=True)
        yield path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    readme = paths.root() / "README.md"
    text = readme.read_text(encoding="utf-8")
    for marks, new in ((FOUND, summary(results)), (TABLE, table(results))):
        if not all(mark in text for mark in marks):
            raise ValueError(f"README.md needs the lines {marks[0]} and {marks[1]}: put them where the table goes.")
        text = _between(text, marks, new)
    yield readme, text


def _tally(board: Sequence[Verdict]) -> str:
    """``19. The paper's own setting: 18 not run. Other networks: 1 carries over, 5 do not, 11 cannot tell.``."""
    own, others = Counter(v.word for v in board), Counter(map(elsewhere, board))
    refuted = Counter(word for v in board if v.claim.bound_from == "ours" for word in (v.word, elsewhere(v)))
    ours = {word: f" ({count} by a bound of ours)" for word, count in refuted.items()}
    carry = "carries over" if others["carries over"] == 1 else "carry over"
    do_not = ("does not" if others["does not carry over"] == 1 else "do not") + ours.get("does not carry over", "")
    parts = [f"{own[w]} {w}{ours.get(w, '') if w == 'not reproduced' else ''}" for w in OWN_WORDS if own[w]]
    shown = {"carries over": carry, "does not carry over": do_not, SAME: SAME, OPEN: OPEN}
    rest = [f"{others[word]} {text}" for word, text in shown.items() if others[word]]
    return f"{len(board)}. The paper's own setting: {', '.join(parts)}. Other networks: {', '.join(rest)}."


def _hours(setting: Mapping, results: Mapping[str, Mapping]) -> str:
    if "hours" in setting:
        return f"{setting['hours'][0].upper()}{setting['hours'][1:]}."
    if "like" in setting:
        runs = [run["provenance"] for run in full_runs(results, setting["like"]) if run["model"] == "voc_vgg16"]
        cost, times = max(60 * run["minutes"] / run["n"] for run in runs), setting.get("times", 1)
        whole = _time(setting["images"] * times * cost)
        part = f"an image of VGG16 of VOC{f' for 1/{times} of the orderings' if times > 1 else ''}"
        return f"N = {setting['images']:,}: about {whole} or more on one CPU core ({cost:,.0f} s {part}, measured)."
    passes = setting["images"] * setting["passes"]
    cost = _seconds_per_pass()
    return (
        f"N = {setting['images']:,} with {setting['passes']:,} forward passes each: about {_time(passes * cost)} on "
        f"one CPU core ({cost:.1f} s a pass of VGG16, measured), {_time(passes / GPU)} on a GPU at {GPU:,} a second."
    )


@cache
def _seconds_per_pass() -> float:
    """Seconds of one CPU core for a forward pass of VGG16, from the committed benchmarks."""
    measured = json.loads((paths.root() / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    entry = measured["methods"]["vgg16/forward/32"]["sides"]["campanion"]
    return entry["cpu"]["median"] / 32


def _time(seconds: float) -> str:
    """One significant digit: these are guesses, and a benchmark that is run again should not change every head."""
    unit, name = next(((u, n) for u, n in ((3600, "h"), (60, "min")) if seconds >= u), (1, "s"))
    return f"{float(f'{max(seconds / unit, 1):.0e}'):,.0f} {name}"


def _with_block(source: str, new: str) -> str:
    """The text of a first cell with the block in it: after the title where it has none yet."""
    if ANSWER[0] not in source:
        title, _, rest = source.partition("\n")
        source = f"{title}\n\n{ANSWER[0]}\n{ANSWER[1]}\n{rest}"
    return _between(source, ANSWER, new)


def _between(text: str, marks: tuple[str, str], new: str) -> str:
    pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
    return pattern.sub(lambda _: f"{marks[0]}\n{new}\n{marks[1]}", text, count=1)


def _notebooks() -> list[Path]:
    return sorted((paths.root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def _results() -> dict[str, dict]:
    return load_results(paths.root() / "data" / "results")


def closing() -> str:
    """What a run ends with: what was found of each paper, in the committed results, and where the rest is."""
    indent = {"initial_indent": "  ", "subsequent_indent": "    "}
    return "\n".join([
        "",
        "What the committed results say (generated scenes answer no claim):",
        *(textwrap.fill(f"{paper}: {text.replace('*', '')}", 110, **indent)
          for paper, text in sentences.summaries(_results()).items()),
        "",
        "`python -m campanion answers` has the answer of each notebook, `python -m campanion scoreboard` each claim.",
        "Read on: notebooks/00_start_here.ipynb, notebooks/98_findings.ipynb, notebooks/99_scoreboard.ipynb.",
    ])  # fmt: skip


def run(write: bool, check: bool) -> int:
    """Print the answers, renew the files, or say which are out of step and return 1."""
    if not (write or check):
        results = _results()
        print("\n".join(f"{path.stem[:2]}  {answer(path.stem, results)}" for path in _notebooks()))
        return 0
    stale = update(write)
    print("\n".join(stale) if stale else "Every head is in step with the results.")
    if stale and not write:
        print("Run `python -m campanion answers --write`.", file=sys.stderr)
        return 1
    return 0
