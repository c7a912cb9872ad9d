"""``{scoreboard}``: the claims and their answers, made from the committed results while the site is built."""

from __future__ import annotations

from html import escape

from campanion.report import papers
from campanion.report.scoreboard import CAPTION, committed, counts, place, rows
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HEADS = ("Place", "Claim", "Answer", "Decided by", "Paper", "Ours [95 % interval]", "N", "Network and data",
         "Paper's value inside", "Power")  # fmt: skip


class Scoreboard(SphinxDirective):
    """``{scoreboard} counts``: how many claims have each answer; ``{scoreboard} answers``: a row per claim and run."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        made = {"counts": counted, "answers": answered}
        return [nodes.raw("", made[self.arguments[0]](), format="html")]


def counted() -> str:
    """The counts as an HTML table."""
    heads, *lines = counts(committed())
    head = "".join(f'<th scope="col">{escape(h.capitalize())}</th>' for h in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{n}</td>" for n in numbers)}</tr>'
        for name, *numbers in lines
    )
    return f'<table class="docutils counts"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def answered() -> str:
    """A row per claim and network, to be sorted and filtered, with links to the pages of the notebooks."""
    body = []
    for v in committed():
        link = f'<a href="notebooks/{v.claim.notebook}.html">{escape(f"{papers.name(v.claim.paper)}, {place(v)}")}</a>'
        claim = v.claim.sentence + " (The bound is ours.)" * (v.claim.bound_from == "ours")
        for row in rows(v):
            shown = map(escape, (claim, *(row[head] for head in HEADS[2:])))
            cells = "".join(f'<td style="text-align:left">{text}</td>' for text in shown)
            body.append(f'<tr><th scope="row">{link}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in HEADS)
    parts = f"{CAPTION}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<table class="docutils scoreboard">{parts}</table>'


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("scoreboard", Scoreboard)
    # its sources are result files, which Sphinx does not watch
    app.connect("env-get-outdated", lambda *_: ["index"])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
