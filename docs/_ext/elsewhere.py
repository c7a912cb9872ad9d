"""Each notebook's page: where its file is, and where it may be run without installing anything.

A Colab copy has a first cell that installs campanion; the committed notebook has none. Links to Colab and Binder need
an address: ``CAMPANION_REPOSITORY=OWNER/REPOSITORY`` while the site is built, whose branch gh-pages holds the site.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from sphinx.application import Sphinx

INSTALL = """# Colab only: get campanion and what it needs that is not here.
!git clone --quiet --depth 1 https://github.com/{repository} /content/campanion
%pip install --quiet /content/campanion
%env CAMPANION_ROOT=/content/campanion
%cd /content/campanion/notebooks"""


def copies(app: Sphinx, exception: Exception | None) -> None:
    """Write ``colab/KEY.ipynb`` for every notebook of the site."""
    repository = os.environ.get("CAMPANION_REPOSITORY")
    if exception or not repository:
        return
    folder = Path(app.outdir) / "colab"
    folder.mkdir(exist_ok=True)
    for path in sorted(Path(app.srcdir, "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        cell = nbformat.v4.new_code_cell(INSTALL.format(repository=repository), id="install-on-colab")
        notebook.cells.insert(0, cell)
        nbformat.write(notebook, folder / path.name)


def links(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """A line above the notebook."""
    repository = os.environ.get("CAMPANION_REPOSITORY")
    if not page.startswith("notebooks/") or not repository:
        return
    key = page.removeprefix("notebooks/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/gh-pages/colab/{key}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{repository}/HEAD?labpath=notebooks/{key}.ipynb"
    places = f'<a href="{colab}">Open in Colab</a> · <a href="{binder}">Open in Binder</a>'
    context["body"] = f'<p class="run-elsewhere">{places}</p>{context["body"]}'


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", copies)
    app.connect("html-page-context", links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
