"""The page of ready-made maps: one file, opened as a file, that draws what the library would draw."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from campanion import paths
from campanion.cams.maps import min_max_map, upsample
from campanion.experiments import gallery
from campanion.results.rows import read_rows, rows_path

pytestmark = pytest.mark.browser
MODEL = "voc_mlp"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("maps_page", paths.root() / "docs" / "maps_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write(tmp_path_factory.mktemp("maps") / "maps.html")


def pixels(page, which: int) -> np.ndarray:
    """Pixels [H, W, 4] of a canvas."""
    found = (
        page.locator("#maps canvas")
        .nth(which)
        .evaluate("c => [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]")
    )
    return np.array(found[2:]).reshape(found[1], found[0], 4)


def settled(page, figures: int) -> None:
    page.wait_for_function(f"document.querySelectorAll('#maps figure').length === {figures}")


def test_the_page_is_one_small_file(file):
    text = file.read_text("utf-8")
    assert file.stat().st_size < 4_000_000
    assert "http://" not in text
    assert "https://" not in text
    assert "/*DATA*/" not in text


def test_a_click_draws_other_maps(page, file):
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_viewport_size({"width": 1180, "height": 900})
    page.goto(file.as_uri())
    page.locator("#network").select_option(MODEL)
    page.locator('#photographs button[data-value="dog + chelsea"]').click()
    while page.locator("#methods input:checked").count():
        page.locator("#methods input:checked").first.uncheck()
    settled(page, 1)
    for method in ("grad_cam", "fd_cam"):
        page.locator(f'#methods input[value="{method}"]').check()
    settled(page, 3)
    page.locator('#classes button[data-value="cat"]').click()
    settled(page, 3)
    cat = pixels(page, 1)
    page.locator('#classes button[data-value="dog"]').click()
    page.get_by_role("img", name="Grad-CAM, dog, dog + chelsea").wait_for()
    dog = pixels(page, 1)
    left = slice(None), slice(0, dog.shape[1] // 2)
    assert np.abs(cat - dog).mean() > 3
    red = dog[..., 0].astype(int) - dog[..., 2]
    assert red[left].max() > red[slice(None), slice(dog.shape[1] // 2, None)].max()  # jet's red lies on the dog
    page.locator("#opacity").fill("0")
    page.locator("#contour").uncheck()
    assert np.array_equal(pixels(page, 1), pixels(page, 0))
    assert problems == []


def test_the_maps_are_the_librarys(page, file):
    page.goto(file.as_uri())
    rows, _ = read_rows(rows_path("photographs", MODEL, "gallery"))
    rows = rows[(rows["image"] == "horse") & (rows["class_name"] == "horse") & (rows["height"] == 7)]
    assert len(rows) > 5
    for row in rows.itertuples():
        drawn = page.evaluate(
            f"Array.from(enlarge(data.networks.{MODEL}.maps.horse.horse.maps[{json.dumps(row.method)}], 224, 224))"
        )
        wanted = gallery.unpacked(row)[0]
        assert torch.allclose(torch.tensor(drawn).reshape(224, 224), wanted, atol=0.01)
    raw = torch.rand(1, 7, 7, generator=torch.Generator().manual_seed(0))
    wanted = min_max_map(upsample(raw, (20, 30)))[0][0]
    bytes_ = (255 * (raw - raw.min()) / (raw.max() - raw.min())).round().to(torch.uint8).flatten().tolist()
    drawn = page.evaluate(f"Array.from(enlarge([7, 7, btoa(String.fromCharCode(...{bytes_}))], 30, 20))")
    assert torch.allclose(torch.tensor(drawn).reshape(20, 30), wanted, atol=0.01)


def test_it_fits_a_phone(page, file):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(file.as_uri())
    page.locator("#maps canvas").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.set_viewport_size({"width": 1400, "height": 1000})
