"""``python docs/maps_page.py FILE``: one HTML file with ready-made maps of the free photographs, to choose from.

It holds photographs, maps and code, needs no network and no Python, and works from a file and on a phone. The maps are
the committed rows ``data/results/rows/{gallery,maps}_photographs_<network>.parquet``.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from campanion import paths
from campanion.cams.methods import label
from campanion.data.photographs import ANIMALS, photograph
from campanion.report import networks
from campanion.results.rows import read_rows, rows_path

NETWORKS = ("voc_vgg16", "voc_mlp", "resnet50", "resnet18")  # those whose rows are here are offered
NAMES = (*ANIMALS, "dog + cat", "dog + chelsea", "grace hopper")
FIRST = ("dog + cat", ("grad_cam", "score_cam", "lift_cam", "fd_cam"))  # shown when the page opens
SIDE = 420  # pixels of a photograph's longer side
PIXELS = 28  # cells of the side of a kept map of pixels: more would make the page large
PALETTES = {"papers' (jet)": "jet", "viridis": "viridis", "magma": "magma"}
TEMPLATE = Path(__file__).with_name("maps_page.html")


def write(path: Path) -> Path:
    """Write the page to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(contents(), separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
    path.write_text(TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", data), encoding="utf-8")
    return path


def contents() -> dict[str, object]:
    """What the page's code reads: photographs, palettes and, by network, photograph, class and method, the maps."""
    rows = {name: rows_of(name) for name in NETWORKS if rows_path("photographs", name, "gallery").exists()}
    rows = {name: found for name, found in rows.items() if len(found)}
    return {
        "photographs": {name: _webp(name) for name in NAMES if any(name in set(r["image"]) for r in rows.values())},
        "palettes": {shown: _palette(name) for shown, name in PALETTES.items()},
        "methods": {m: _label(m) for m in dict.fromkeys(m for r in rows.values() for m in r["method"])},
        "networks": {name: {"name": networks.name(name), "maps": _maps(found)} for name, found in rows.items()},
        "first": {"photograph": FIRST[0], "methods": FIRST[1]},
    }


def _label(method: str) -> str:
    """The method's name; options that say only how long it was computed are left out."""
    return "XGrad-CAM (LIFT-CAM's eq. 10)" if method == "xgrad_cam:lift" else label(method.partition(":orderings")[0])


def rows_of(model: str) -> pd.DataFrame:
    """What the galleries have of a network, and the maps that were made for this page alone."""
    files = [rows_path("photographs", model, name) for name in ("gallery", "maps")]
    rows = pd.concat([read_rows(f)[0] for f in files if f.exists()]).drop_duplicates(["image", "class_name", "method"])
    # Of SHAP-CAM one form is offered: the page could not tell two apart by name.
    return rows[rows["image"].isin(NAMES) & (rows["method"] != "shap_cam:orderings=10000")]


def _maps(rows: pd.DataFrame) -> dict[str, dict[str, dict[str, object]]]:
    """By photograph and class, the likelier first: probability, and by method height, width and 8-bit cells."""
    found: dict[str, dict[str, dict]] = {}
    rows = rows.sort_values("probability", ascending=False, kind="stable")
    for row in rows.itertuples():
        place = found.setdefault(row.image, {}).setdefault(row.class_name, {"p": round(row.probability, 6), "maps": {}})
        cells = np.frombuffer(row.pixels, dtype="<f2").astype(np.float32).reshape(row.height, row.width)
        if row.height > PIXELS:
            step = row.height // PIXELS
            cells = cells[: step * PIXELS, : step * PIXELS].reshape(PIXELS, step, PIXELS, step).mean((1, 3))
        low, high = float(cells.min()), float(cells.max())
        scaled = np.round(255 * (cells - low) / (high - low)) if high > low else np.zeros_like(cells)
        place["maps"][row.method] = [*cells.shape, base64.b64encode(scaled.astype(np.uint8).tobytes()).decode()]
    return found


def _webp(name: str) -> str:
    image = photograph(name).copy()
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _palette(name: str) -> str:
    """256 colours as hexadecimal digits, one after the other."""
    colours = (mpl.colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return colours.tobytes().hex()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    path = write(Path(given[0]) if given else paths.out_dir() / "maps.html")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
