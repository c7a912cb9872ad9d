"""``python docs/pictures.py``: the images of the README, from committed rows of maps.

``docs/images/maps.webp`` is drawn from ``data/results/rows``, ``lines.webp`` by the README's own code (which
needs the weights), ``page.webp`` is the page of :mod:`maps_page` in Chromium, a screenshot for each step.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from campanion import paths
from campanion.data.photographs import photograph
from campanion.experiments import gallery
from campanion.report import figures, networks
from PIL import Image

IMAGES = Path(__file__).parent / "images"
MODEL = "voc_vgg16"
METHODS = ("grad_cam", "score_cam", "ablation_cam", "lift_cam", "shap_cam:orderings=100", "fd_cam")
PLACES = {"dog + cat": ("dog", "cat"), "horse": ("horse",)}
TITLES = {"shap_cam:orderings=100": "SHAP-CAM", "ablation_cam": "Ablation‑CAM"}
#: Steps of the animation: what is clicked or chosen, and how long the frame stays, in milliseconds.
STEPS = (
    ("#photographs button[data-value='dog + cat']", 900),
    ("#classes button[data-value='dog']", 1600),
    ("#classes button[data-value='cat']", 1600),
    ("#methods input[value='grad_cam_pp']", 1200),
    ("#photographs button[data-value='horse']", 900),
    ("#classes button[data-value='horse']", 1800),
    ("#photographs button[data-value='chicken']", 1800),
)


def maps() -> None:
    """The first image: two classes of one image and a herd, six methods."""
    from maps_page import rows_of

    places = [(name, one, method) for name, classes in PLACES.items() for one in classes for method in METHODS]
    rows = rows_of(MODEL).set_index(["image", "class_name", "method"], drop=False).loc[places].reset_index(drop=True)
    images = [photograph(name) for name, classes in PLACES.items() for _ in classes]
    fig = figures.panel(images, gallery.stacked(rows), rows=gallery.captions(rows), titles=TITLES, cmap="jet", width=8)
    file = io.BytesIO()
    with plt.rc_context(figures.STYLE):
        fig.savefig(file, dpi=150)
    plt.close(fig)
    _keep(file, "maps")


def lines() -> None:
    """What the README's first lines of code draw: they are run, with the weights of their network."""
    code = re.search(
        r"^```python\n(.*?)^```", (paths.root() / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    with tempfile.TemporaryDirectory() as folder:
        script = code.group(1).replace("herd.png", f"{folder}/herd.png")
        subprocess.run([sys.executable, "-c", script], cwd=paths.root(), check=True)
        _keep(Path(folder) / "herd.png", "lines")


def page() -> None:
    """The page of ready-made maps, used step by step."""
    from maps_page import write
    from playwright.sync_api import sync_playwright

    file = write(paths.out_dir() / "maps.html")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    frames, times = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 900, "height": 1000})
        view.goto(file.as_uri())
        view.locator("#network").select_option(MODEL)
        for selector, stay in STEPS:
            view.locator(selector).first.click()
            view.wait_for_timeout(400)
            frames.append(Image.open(io.BytesIO(view.screenshot())).convert("RGB").resize((675, 750)))
            times.append(stay)
        browser.close()
    first, *others = frames
    look = {"quality": 70, "method": 6, "loop": 0}
    first.save(IMAGES / "page.webp", save_all=True, append_images=others, duration=times, **look)


def _keep(file: Path | io.BytesIO, name: str) -> None:
    """A WebP alone: nobody prints the README, and a clone should stay small."""
    with Image.open(file) as image:
        image.convert("RGB").save(IMAGES / f"{name}.webp", quality=88, method=6)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    for make in (maps, lines, page):
        make()
    print(f"{networks.name(MODEL)}: {IMAGES}")
