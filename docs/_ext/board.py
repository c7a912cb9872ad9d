"""``{scoreboard}``: the table of claims, made from the committed results while the site is built."""

from __future__ import annotations

from campanion import paths
from campanion.report.scoreboard import answers, counts, scoreboard, table
from campanion.results import load_results
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Scoreboard(SphinxDirective):
    """``{scoreboard} counts``: how many claims have each verdict; ``{scoreboard} answers``: a row per claim and run."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        results = load_results(paths.root() / "data" / "results")
        made = {"counts": lambda: counts(scoreboard(results)), "answers": lambda: table(answers(results), "notebooks")}
        return [nodes.raw("", made[self.arguments[0]](), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("scoreboard", Scoreboard)
    # its sources are result files, which Sphinx does not watch
    app.connect("env-get-outdated", lambda *_: ["index"])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
