"""Alternative texts for the notebooks' images: the page, the section and the text that stands above the image."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx


def describe(app: Sphinx, doctree: nodes.document) -> None:
    """Give every image without an alternative text one; a cell's metadata ``mystnb.image.alt`` goes before."""
    undescribed = [image for image in doctree.findall(nodes.image) if not image.get("alt")]
    for number, image in enumerate(undescribed, start=1):
        titles = [title.astext() for title in _titles(image)]
        above = f" {_above(image)}" if _above(image) else ""
        image["alt"] = f"Image {number} of {len(undescribed)}, {', '.join(titles)}.{above}"


def _titles(node: nodes.Node) -> list[nodes.title]:
    """Titles of the sections around a node, the outermost first."""
    found = []
    while node.parent is not None:
        node = node.parent
        if isinstance(node, nodes.section):
            found.insert(0, node.next_node(nodes.title))
    return found


def _above(image: nodes.image) -> str:
    """The section's last paragraph before the image."""
    section = image
    while not isinstance(section, nodes.section):
        section = section.parent
    text = ""
    for node in section.findall(lambda n: isinstance(n, nodes.paragraph | nodes.image)):
        if node is image:
            break
        if isinstance(node, nodes.paragraph) and node.parent is section:
            text = " ".join(node.astext().split())
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
