"""Indented lines in a module's docstring are formulas or layouts: they keep their line breaks."""

from __future__ import annotations

from sphinx.application import Sphinx


def literal(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    if what != "module":
        return
    for i in range(len(lines) - 1, 1, -1):
        above = lines[i - 2]
        if lines[i].startswith("    ") and not lines[i - 1] and not above.startswith((" ", "..")):
            lines[i:i] = [] if above.endswith("::") else ["::", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", literal)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
