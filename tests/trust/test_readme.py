"""The README: short, its commands and code run, and its numbers are those of the results."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import matplotlib.pyplot as plt
import pytest
import torch
from campanion import METHODS
from campanion.__main__ import campanion
from campanion.data.photographs import photograph
from campanion.experiments import gallery
from campanion.report.figures import rgb
from campanion.results.rows import read_rows, rows_path
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_it_is_short_and_begins_with_question_image_findings_and_commands():
    assert len(TEXT.splitlines()) <= 150
    order = ("Are they?**", "docs/images/maps.webp", "<!-- found:begin", "git clone --depth 1", "PIP_EXTRA_INDEX_URL",
             "99_scoreboard.png", "<!-- notebooks:begin")  # fmt: skip
    places = [TEXT.index(part) for part in order]
    assert places == sorted(places)
    assert TEXT[: places[4]].count("\n") < 30


def test_its_images_are_there_and_no_larger_than_a_page_deserves():
    files = [ROOT / name for name in re.findall(r"\]\(((?:figures|docs/images)/[^)]+)\)", TEXT)]
    assert len(files) >= 4
    for file in files:
        with Image.open(file) as image:
            assert image.width >= 600
        assert file.stat().st_size < 1_500_000


def test_its_methods_are_those_that_there_are():
    part = TEXT[TEXT.index("## Methods") : TEXT.index("Where papers disagree")]
    named = set(re.findall(r"`([a-z_]+)`", part)) - {"campanion"}
    assert named == set(METHODS)
    assert f"a library: {len(METHODS)} methods" in TEXT


@pytest.mark.parametrize("line", [ln for b in blocks("bash") for ln in b.splitlines() if " -m campanion " in ln])
def test_its_commands_are_understood(line, monkeypatch):
    words = shlex.split(line, comments=True)[3:]
    command = campanion
    while isinstance(command, click.Group):
        command, words = command.get_command(click.Context(command), words[0]), words[1:]
    monkeypatch.chdir(ROOT)
    assert command.make_context(command.name, words).params


@pytest.mark.real_data
def test_its_code_makes_its_image(real_weights, monkeypatch, tmp_path):
    code = blocks("python")[0]
    assert len(code.splitlines()) == 12
    monkeypatch.setattr("campanion.pictures.open_picture", lambda path: photograph(Path(path).stem))
    monkeypatch.chdir(tmp_path)
    made: dict[str, object] = {}
    exec(code, made)
    plt.close(made["figure"])
    rows, _ = read_rows(rows_path("photographs", "voc_vgg16", "maps"))
    kept = rows[(rows["image"] == "horse") & (rows["class_name"] == "horse") & rows["method"].isin(made["methods"])]
    assert set(kept["method"]) == set(made["methods"])
    for method, maps in gallery.stacked(kept).items():
        assert torch.allclose(made["e"].maps[method], maps, atol=0.02)
    ours = rgb(Image.open(tmp_path / "herd.png").convert("RGB"))
    shown = rgb(Image.open(ROOT / "docs" / "images" / "lines.webp").convert("RGB"))
    assert ours.shape == shown.shape
    assert abs(ours - shown).mean() < 0.03
