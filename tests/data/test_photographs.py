"""Free photographs: each opens, is named with its source, and lies where it is said to lie beside another."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from campanion import load_model, paths
from campanion.data.photographs import ANIMALS, PHOTOGRAPHS, beside, classes_of, halves, photograph, sources
from campanion.data.voc import CLASS_NAMES

FOLDER = paths.root() / "data" / "pictures"


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_every_photograph_opens(name):
    image = photograph(name)
    assert image.mode == "RGB"
    assert min(image.size) >= 300
    assert np.asarray(image).std() > 20  # of something


def test_every_file_has_its_source_and_its_class():
    with (FOLDER / "SOURCES.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {p.name for p in FOLDER.glob("*.webp")} == {f"{n}.webp" for n in ANIMALS}
    assert all(row["licence"] == "public domain" and row["author"] and row["source"] for row in rows)
    assert all(row["source"].startswith("https://commons.wikimedia.org/") for row in rows)
    assert sources().count(":") == len(rows)
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) < 600_000


def test_the_classes_are_those_of_the_networks():
    imagenet = load_model("squeezenet1_1", weights="random").class_names
    for name in PHOTOGRAPHS:
        assert classes_of(name, imagenet) == PHOTOGRAPHS[name]
    assert classes_of("dog + cat", CLASS_NAMES) == ("dog", "cat")
    assert classes_of("pig", CLASS_NAMES) == ()
    assert {c for name in PHOTOGRAPHS for c in classes_of(name, CLASS_NAMES)} <= set(CLASS_NAMES)


def test_two_photographs_lie_where_their_boxes_are():
    both = np.asarray(beside("dog", "cat")).astype(int)
    height, width = both.shape[:2]
    for name, (box,) in zip(("dog", "cat"), halves(width, height), strict=True):
        x0, y0, x1, y1 = map(int, box)
        assert (x1 - x0, y1 - y0) == (width // 2, height)
        source = photograph(name)
        part = source.height * 3 / 4
        left = (source.width - part) / 2
        wanted = source.resize((x1 - x0, y1 - y0), 1, box=(left, 0, left + part, source.height))
        assert np.abs(both[y0:y1, x0:x1] - np.asarray(wanted)).mean() < 1


def test_halves_cover_a_map_once():
    left, right = halves(224, 100)
    assert torch.equal(left[:, 2], right[:, 0])
    assert float((left[0, 2] - left[0, 0]) * 100 + (right[0, 2] - right[0, 0]) * 100) == 224 * 100


def test_an_unknown_photograph_is_named():
    with pytest.raises(ValueError, match="'hen'"):
        photograph("hen")
