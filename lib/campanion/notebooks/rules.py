"""What a committed notebook looks like: :func:`strip` makes it so, :func:`problems` says where it is not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from campanion import paths

LARGEST = 1_000_000  # bytes; larger notebooks are often not shown by viewers on the web

# papermill and nbclient write times and paths here on every run; widget state keeps GitHub from showing the page.
_EXTRA_KEYS = [
    "metadata.papermill", "metadata.widgets", "metadata.language_info.version", "cell.metadata.papermill",
    "cell.metadata.execution",
]  # fmt: skip
_ABSOLUTE = re.compile(r"(?<![\w./:~-])(?:/(?:home|Users|root|tmp|mnt|opt|private|var|content)/|[A-Z]:\\\\?\w)")
_INSTALL = re.compile(r"^\s*[!%]\s*(?:pip|conda|mamba|uv)\b", re.MULTILINE)
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]{6,16}(?=>)")  # in the text of an object that is shown otherwise
_NOWHERE = "0x000000000000"  # still an address, which nbval's sanitizer knows (tests/nbval_sanitize.cfg)
_BAR = re.compile(r"\d+%\||\bit/s\]|\bs/it\]")


def strip(source: str) -> str:
    """A notebook's JSON without what changes from run to run: two runs of a deterministic one give the same bytes."""
    import nbformat
    from nbstripout import strip_output

    notebook = nbformat.reads(source, as_version=4)
    notebook = strip_output(notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=_EXTRA_KEYS)
    for cell in notebook.cells:
        if cell.metadata.get("tags") == []:  # papermill gives every cell an empty list
            del cell.metadata["tags"]
        for data in (out["data"] for out in cell.get("outputs", []) if "text/plain" in out.get("data", {})):
            data["text/plain"] = _ADDRESS.sub(_NOWHERE, data["text/plain"])
    return nbformat.writes(notebook) + "\n"


def problems(path: Path) -> list[str]:
    """Everything that keeps a notebook from being committed, one sentence each; an empty list when nothing does."""
    import nbformat

    try:
        source = path.read_text(encoding="utf-8")
        raw = json.loads(source)  # the file itself: nbformat gives missing ids while it reads
        ids = [cell.get("id") for cell in raw.get("cells", [])]
        if raw.get("nbformat_minor", 0) < 5 or None in ids or len(set(ids)) < len(ids):
            return ["has cells without an id of their own (nbformat 4.5)"]
        notebook = nbformat.reads(source, as_version=nbformat.NO_CONVERT)
        nbformat.validate(notebook)
    except (ValueError, nbformat.ValidationError) as error:
        return [f"is not a valid notebook: {str(error).splitlines()[0]}"]
    faults = [*_structure(notebook), *_metadata(notebook), *_contents(notebook)]
    if path.stat().st_size >= LARGEST:
        faults.append(f"has {path.stat().st_size / 1e6:.1f} MB; less than {LARGEST / 1e6:.0f} MB is allowed")
    return faults


def _structure(notebook) -> Iterator[str]:
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    tagged = [c for c in code if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        yield f"has {len(tagged)} cells tagged parameters; one is needed"
    elif not re.search(r"^mode\s*(?::[^=\n]+)?=\s*[\"']cached[\"']", tagged[0].source, re.MULTILINE):
        yield 'has a parameters cell that does not say mode = "cached"'
    if any("injected-parameters" in c.metadata.get("tags", []) for c in code):
        yield "was run with parameters other than its defaults (it has an injected-parameters cell)"
    if [c.execution_count for c in code] != list(range(1, len(code) + 1)):
        yield "was not run once from top to bottom (its execution counts are not 1, 2, 3, ...)"


def _metadata(notebook) -> Iterator[str]:
    kernel = notebook.metadata.get("kernelspec", {})
    if kernel.get("name") != "python3" or kernel.get("language") != "python":
        yield "has a kernelspec other than python3 with language python"
    for name in ("widgets", "papermill"):
        if name in notebook.metadata:
            yield f"keeps {name} metadata"
    if any({"papermill", "execution"} & set(c.metadata) for c in notebook.cells):
        yield "keeps papermill or execution metadata in its cells"


def _contents(notebook) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells, start=1):
        outputs = cell.get("outputs", [])
        text = "\n".join([cell.source, *map(_text, outputs)])
        faults = {
            "holds an absolute path": _ABSOLUTE.search(text) or str(paths.root()) in text,
            "installs packages; requirements.txt does that": cell.cell_type == "code" and _INSTALL.search(cell.source),
            "stores an error": any(out.output_type == "error" for out in outputs),
            "stores a warning or other text of stderr": any(out.get("name") == "stderr" for out in outputs),
            "stores a progress bar": any(_BAR.search(_text(out)) for out in outputs),
        }
        yield from (f"cell {number} {fault}" for fault, is_so in faults.items() if is_so)


def _text(output) -> str:
    """The readable part of an output: streams and text of every kind, no images."""
    data = output.get("data", {})
    parts = [output.get("text", ""), *(v for k, v in data.items() if k.startswith("text/"))]
    return "\n".join(p if isinstance(p, str) else "".join(p) for p in parts)
