"""``python docs/pictures.py``: the pictures of the README, from committed rows of maps.

``figures/readme_maps.png`` and ``readme_lines.png`` are drawn from ``data/results/rows``;
``figures/readme_page.webp`` is the page of :mod:`maps_page` in Chromium, a screenshot for each step.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from campanion import paths
from campanion.data.photographs import photograph
from campanion.experiments import gallery
from campanion.report import figures, networks
from PIL import Image

MODEL = "voc_mlp"
METHODS = ("grad_cam", "score_cam", "ablation_cam", "lift_cam", "shap_cam:orderings=100", "fd_cam")
PLACES = {"dog + chelsea": ("dog", "cat"), "horse": ("horse",)}
TITLES = {"shap_cam:orderings=100": "SHAP-CAM", "ablation_cam": "Ablation- CAM"}
#: Steps of the animation: what is clicked or chosen, and how long the frame stays, in milliseconds.
STEPS = (
    ("#photographs button[data-value='dog + chelsea']", 900),
    ("#classes button[data-value='dog']", 1600),
    ("#classes button[data-value='cat']", 1600),
    ("#methods input[value='grad_cam_pp']", 1200),
    ("#photographs button[data-value='horse']", 900),
    ("#classes button[data-value='horse']", 1800),
    ("#photographs button[data-value='chicken']", 1800),
)


def maps() -> None:
    """The first picture: two classes of one image and a herd, six methods."""
    rows = gallery.photographs(MODEL, "cached", METHODS, PLACES, curves=False)
    images = [photograph(name) for name, classes in PLACES.items() for _ in classes]
    fig = figures.panel(images, gallery.stacked(rows), rows=gallery.captions(rows), titles=TITLES, cmap="jet", width=8)
    _save(fig, "readme_maps")


def lines() -> None:
    """What the README's twelve lines draw."""
    places = {"horse": ("horse",)}
    rows = gallery.photographs(MODEL, "cached", ("grad_cam", "lift_cam", "fd_cam"), places, curves=False)
    fig = figures.panel([photograph("horse")], gallery.stacked(rows), rows=gallery.captions(rows), width=6)
    _save(fig, "readme_lines")


def page() -> None:
    """The page of ready-made maps, used step by step."""
    from maps_page import write
    from playwright.sync_api import sync_playwright

    file = write(paths.out_dir() / "maps.html")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    frames, times = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 900, "height": 780})
        view.goto(file.as_uri())
        view.locator("#network").select_option(MODEL)
        for selector, stay in STEPS:
            view.locator(selector).first.click()
            view.wait_for_timeout(400)
            frames.append(Image.open(io.BytesIO(view.screenshot())).convert("RGB").resize((675, 585)))
            times.append(stay)
        browser.close()
    first, *others = frames
    look = {"quality": 70, "method": 6, "loop": 0}
    first.save(paths.figures_dir() / "readme_page.webp", save_all=True, append_images=others, duration=times, **look)


def _save(fig: plt.Figure, name: str) -> None:
    """A PNG alone: nobody prints the README."""
    with plt.rc_context(figures.STYLE):
        fig.savefig(paths.figures_dir() / f"{name}.png", dpi=150, metadata={"Software": None})
    plt.close(fig)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    for make in (maps, lines, page):
        make()
    print(f"{networks.name(MODEL)}: {paths.figures_dir()}/readme_*")
