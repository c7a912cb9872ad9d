"""What is committed is in step with what it is made from: figures, results, checkpoints, README, links.

The notebooks' stored outputs are compared with a new run by nbval (``./reproduce.sh test``), their form and that of the
results by test_notebooks.py, the claims by test_claims.py, the rows behind a result by test_evaluation.py.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest
from campanion.__main__ import main
from campanion.notebooks import keys
from campanion.paths import sha256
from campanion.results.rows import read_rows

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIGURES = sorted({p.stem for p in (ROOT / "figures").iterdir()})
CHECKPOINTS = sorted((ROOT / "data" / "checkpoints").glob("*.safetensors"))


def names_in(path: Path) -> list[str]:
    """Patterns of the texts in a notebook's code that begin with its number: the names that its figures may have."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [re.escape(v.value) if isinstance(v, ast.Constant) else ".+" for v in node.values]
                found.append("".join(parts))
    return [name for name in found if name.startswith(f"{path.stem[:2]}_")]


@pytest.mark.parametrize("figure", FIGURES)
def test_a_notebook_draws_each_figure(figure: str) -> None:
    assert {p.suffix for p in (ROOT / "figures").glob(f"{figure}.*")} == {".pdf", ".png"}
    drawn_by = [p.stem for p in NOTEBOOKS if any(re.fullmatch(name, figure) for name in names_in(p))]
    assert len(drawn_by) == 1, drawn_by or f"no notebook saves figures/{figure}: delete it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_has_the_figures_that_it_names(path: Path) -> None:
    """Those with a fixed name, but for cells that say "Not run"; other names are checked the other way round."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    code = "\n".join(c.source for c in cells if not any(o.get("text", "").startswith("Not run") for o in c.outputs))
    named = re.findall(r"\bsave\(\s*\w+,\s*\"(\d\d_\w+)\"", code)
    assert [name for name in named if name not in FIGURES] == []


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_each_checkpoint_has_a_card_that_names_its_bytes(path: Path) -> None:
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"] == sha256(path)
    assert len(path.with_suffix(".md").read_text(encoding="utf-8")) > 100


def test_no_card_is_left_over() -> None:
    folder, known = ROOT / "data" / "checkpoints", {p.stem for p in CHECKPOINTS}
    # weights that are too large to commit: which images they got right, or their maps, are committed, and their card
    for study in ("accuracy", "stability", "fin"):
        for rows in (ROOT / "data" / "results" / "rows").glob(f"{study}_*.parquet"):
            known |= set(read_rows(rows)[1]["checkpoints"])
    assert [p.name for p in folder.iterdir() if p.stem not in known] == []


def test_the_readme_has_one_row_for_each_notebook() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d\d)\]\(notebooks/(\d\d_\w+)\.ipynb\)", readme, re.MULTILINE)
    assert [text for text, link in rows if text != link[:2]] == []
    assert [link for _, link in rows] == keys()


def test_the_answers_of_notebooks_and_readme_are_made_from_the_results() -> None:
    assert main(["answers", "--check"]) == 0


def texts() -> list[Path]:
    docs = [p for p in sorted((ROOT / "docs").glob("*.md")) if p.name != "index.md"]  # its links are of the site
    return [*NOTEBOOKS, *sorted(ROOT.glob("*.md")), *docs, ROOT / "data" / "README.md"]


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    else:
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    files = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in files if not (path.parent / link).exists()] == []
