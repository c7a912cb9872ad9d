"""Formulas as MathML, made while the site is built: browsers draw it without a script and without a network."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def mathml(formula: str, display: str = "inline") -> str:
    # few fonts have the reverse solidus operator that latex2mathml takes; most have the set minus
    return convert(formula, display=display).replace("<mi>&#x029F5;</mi>", "<mo>&#x02216;</mo>")


def inline(self, node: nodes.math) -> None:
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block(self, node: nodes.math_block) -> None:
    # a formula wider than a phone scrolls by itself
    self.body.append(f'<div class="math" tabindex="0">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
