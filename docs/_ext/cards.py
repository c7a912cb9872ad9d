"""``{cards}``: every notebook with a thumbnail and its answer. Also puts the page of ready-made maps into the site."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from campanion import paths
from campanion.notebooks import find, keys
from campanion.report.sentences import answer, summaries
from campanion.results import load_results
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WIDE = 400  # pixels of a thumbnail
#: Figures that show best what a notebook is about; elsewhere the first of its figures is taken.
FIGURES = {
    "20": "figures/20_fd_fig1_fig6_voc_vgg16.png", "26": "figures/26_fd_fig4_voc_vgg16.png",
    "36": "figures/36_lift_fig3_voc_vgg16.png", "37": "figures/37_lift_fig4*.png", "40": "docs/images/page.webp",
}  # fmt: skip


class Cards(SphinxDirective):
    """``{cards} notebooks``: a card for each notebook, in reading order; ``{cards} found``: one for each paper."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        results = load_results(paths.root() / "data" / "results")
        made = {"notebooks": _notebooks, "found": _found}[self.arguments[0]](results)
        return [nodes.raw("", f'<div class="cards {self.arguments[0]}">{"".join(made)}</div>', format="html")]


def _notebooks(results: Mapping[str, Mapping]) -> Iterator[str]:
    for key in keys():
        image = (
            f'<img src="_thumbs/{key}.webp" alt="A figure of notebook {key[:2]}: {escape(_title(key))}" loading="lazy">'
            if figure_of(key)
            else ""
        )
        text = f"<b>{escape(key[:2])} {escape(_title(key))}</b><span>{escape(answer(key, results))}</span>"
        yield f'<a class="card" href="notebooks/{key}.html">{image}{text}</a>'


def _found(results: Mapping[str, Mapping]) -> Iterator[str]:
    for paper, text in summaries(results).items():
        said = re.sub("[*](.+?)[*]", r"<i>\1</i>", escape(text))
        yield f'<div class="card"><b>{paper}</b><span>{said}</span></div>'


def figure_of(key: str) -> Path | None:
    """The figure that stands for a notebook, or None where it has none."""
    found = sorted(paths.root().glob(FIGURES.get(key[:2], f"figures/{key[:2]}_*.png")))
    return found[0] if found else None


def write(app: Sphinx, problem: Exception | None) -> None:
    """Thumbnails and the page of maps, beside the built pages."""
    if problem is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_thumbs"
    folder.mkdir(exist_ok=True)
    for key in keys():
        if (found := figure_of(key)) is not None:
            with Image.open(found) as opened:
                image = opened.convert("RGB")
            image.thumbnail((WIDE, 4 * WIDE))
            image.crop((0, 0, image.width, min(image.height, WIDE * 2 // 3))).save(folder / f"{key}.webp", quality=80)
    spec = importlib.util.spec_from_file_location("maps_page", Path(__file__).parents[1] / "maps_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(Path(app.outdir) / "maps.html")


def _title(key: str) -> str:
    import nbformat

    return nbformat.read(find(key), as_version=4).cells[0].source.splitlines()[0].removeprefix("# ")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("cards", Cards)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
