"""``{scoreboard}``: the claims and their answers, made from the committed results while the site is built."""

from __future__ import annotations

from html import escape

from campanion.report.scoreboard import committed, counts, site_table
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Scoreboard(SphinxDirective):
    """``{scoreboard} counts``: how many claims have each answer; ``{scoreboard} answers``: a row per claim and run."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        made = {"counts": counted, "answers": lambda: site_table(committed())}
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


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("scoreboard", Scoreboard)
    # its sources are result files, which Sphinx does not watch
    app.connect("env-get-outdated", lambda *_: ["index"])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
