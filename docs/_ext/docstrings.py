"""Docstrings as pages: indented lines of a module's keep their line breaks (formulas, layouts), ``|x|`` is no link."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

_BARS = re.compile(r"(?<![\w`|])\|(?=\w)([^|`]+)\|")  # a magnitude, which reStructuredText takes for a substitution


def literal(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = [_BARS.sub(r"``|\1|``", line) if "`" not in line and ":math:" not in line else line for line in lines]
    if what != "module":
        return
    for i in range(len(lines) - 1, 1, -1):
        above = lines[i - 2]
        if lines[i].startswith("    ") and not lines[i - 1] and not above.startswith((" ", "..")):
            lines[i:i] = [] if above.endswith("::") else ["::", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", literal)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
