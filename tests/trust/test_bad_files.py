"""Malformed annotations, results, weights and settings: read, or refused in one sentence of our own."""

from __future__ import annotations

import copy
import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from campanion.data import coco, imagenet, voc, vqa
from campanion.models.weights import read_weights
from campanion.results.rows import RowStore
from campanion.results.store import load_result
from campanion.training.checkpoint import load_state, save_state
from campanion.training.settings import read_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from safetensors.torch import save

DRAWN = settings(derandomize=True, deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
VALUES = st.sampled_from(
    [None, -1, 0, 3, 10**30, 0.5, float("nan"), float("inf"), True, "cat", "", "../../x", [], [1], [[0, 0, 1, 1]], {}]
)
BOX = {"name": "person", "box_xyxy": [1, 2, 30, 40], "iscrowd": 0}
QUESTION = {"image": "a.jpg", "question_id": 7, "question": "why", "answer": "b", "answer_type": "x", "answers": ["b"]}
IMAGE = {"image": "a.jpg", "width": 50, "height": 60, "objects": [BOX]}
VOC_IMAGE = IMAGE | {"split": "val", "difficult_only": []}
INSTANCES = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 50, "height": 60}],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0}],
}
ROW = {"method": "cam", "metric": "ad", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 5}
RECORD = {
    "mode": "full", "data": "x", "n": 5, "weights": {"name": "x"}, "device": "x", "minutes": 1.0, "seed": 0,
    "settings": {}, "versions": {"torch": "x"}, "commit": "x", "date": "x",
}  # fmt: skip
RUN = {"model": "m", "data": "d", "mode": "full", "rows": [ROW], "differences": [], "provenance": RECORD}
RESULT = {"notebook": "21_test", "schema": 1, "runs": [RUN]}
XML = (
    "<annotation><size><width>50</width><height>60</height></size><object><name>{name}</name><bndbox><xmin>1</xmin>"
    "<ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)


def folder_with(folder: Path, name: str, content: bytes, images: str | None = None) -> Path:
    """``folder`` with the file ``name``; an empty ``a.jpg`` in its folder ``images``."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    if images:
        (folder / images).mkdir(parents=True, exist_ok=True)
        (folder / images / "a.jpg").touch()
    return folder


def csv_of(rows: list[dict]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


LABELS = [{"image": "a.jpg", "class_index": 3, "width": 50, "height": 60, "boxes_xyxy": "[[1, 2, 3, 4]]"}]
CONFIG = {"data": "cifar10", "network": "resnet20", "epochs": 2, "lr": 0.1, "drops": [0.5], "options": {}, "seed": 1}

# name -> (the content of a good file, what reads it from an empty folder)
JSON: dict[str, tuple[object, Callable[[Path, bytes], object]]] = {
    "coco": (INSTANCES, lambda f, c: coco.read_instances(folder_with(f, "a.json", c) / "a.json")),
    "coco sample": ([IMAGE], lambda f, c: coco.read_sample(folder_with(f, "a.json", c) / "a.json")),
    "voc sample": (
        [VOC_IMAGE],
        lambda f, c: voc.read_sample(folder_with(f, "annotations.json", c, "JPEGImages"), "val"),
    ),
    "vqa sample": ([QUESTION], lambda f, c: vqa.open_vqa(folder_with(f, "vqa/questions.json", c)).questions[0]),
    "result": (RESULT, lambda f, c: load_result("21_test", folder_with(f, "21_test.json", c))),
}


def spoilt(good: object, data: st.DataObject) -> object:
    """``good`` with one to three of its values replaced or left out."""
    content = copy.deepcopy(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place, parent = content, None
        while isinstance(place, dict | list) and place and (parent is None or data.draw(st.integers(0, 3))):
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            parent, place = place, place[key]
        if parent is None:
            break
        if data.draw(st.booleans()) and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = copy.deepcopy(data.draw(VALUES))
    return content


def bytes_of(good: bytes, data: st.DataObject) -> bytes:
    """``good`` with some bytes changed, or cut short."""
    content = bytearray(good)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    return bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else bytes(content)


def read(reader: Callable[[Path, bytes], object], content: bytes) -> tuple[object, str | None]:
    with tempfile.TemporaryDirectory() as folder:
        return refused(lambda: reader(Path(folder), content))


@pytest.mark.parametrize("kind", JSON)
@DRAWN
@given(st.data())
def test_json_with_other_values(kind: str, data: st.DataObject) -> None:
    good, reader = JSON[kind]
    read(reader, json.dumps(spoilt(good, data)).encode())


@pytest.mark.parametrize("kind", JSON)
@DRAWN
@given(st.data())
def test_json_with_other_bytes(kind: str, data: st.DataObject) -> None:
    good, reader = JSON[kind]
    read(reader, bytes_of(json.dumps(good).encode(), data))


def saved_state(folder: Path) -> bytes:
    save_state(folder, {"epoch": 1, "weights": torch.zeros(3)})
    return (folder / "state.pt").read_bytes()


def weights_npz() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, weight=np.arange(6.0))
    return stream.getvalue()


def rows_file() -> bytes:
    path = Path(tempfile.mkdtemp()) / "rows.sqlite"
    with RowStore(path, settings={"seed": 0}) as store:
        store.append([{"image": "a", "method": "cam", "x": 1}])
    return path.read_bytes()


def open_rows(folder: Path, content: bytes) -> int:
    with RowStore(folder_with(folder, "rows.sqlite", content) / "rows.sqlite", settings={"seed": 0}) as store:
        return len(store.frame())


FILES: dict[str, tuple[Callable[[], bytes], Callable[[Path, bytes], object]]] = {
    "voc xml": (
        lambda: XML.format(name="dog").encode(),
        lambda f, c: voc.read_annotation(folder_with(f, "a.xml", c) / "a.xml"),
    ),
    "imagenet xml": (
        lambda: XML.format(name="n01440764").encode(),
        lambda f, c: imagenet.read_boxes(folder_with(f, "a.xml", c) / "a.xml"),
    ),
    "imagenet csv": (
        lambda: csv_of(LABELS),
        lambda f, c: imagenet.read_sample(folder_with(f, "labels.csv", c, "images")),
    ),
    "npz": (weights_npz, lambda f, c: read_weights(folder_with(f, "a.npz", c) / "a.npz")),
    "safetensors": (
        lambda: save({"weight": torch.arange(6.0)}),
        lambda f, c: read_weights(folder_with(f, "a.safetensors", c) / "a.safetensors"),
    ),
    "state": (
        lambda: saved_state(Path(tempfile.mkdtemp())),
        lambda f, c: load_state(folder_with(f, "state.pt", c)),
    ),
    "rows": (rows_file, open_rows),
    "settings": (
        lambda: yaml.safe_dump(CONFIG).encode(),
        lambda f, c: read_config(folder_with(f, "a.yaml", c) / "a.yaml"),
    ),
}


@pytest.mark.parametrize("kind", FILES)
@DRAWN
@given(st.data())
def test_files_with_other_bytes(kind: str, data: st.DataObject) -> None:
    good, reader = FILES[kind]
    read(reader, bytes_of(good(), data))


@DRAWN
@given(st.data())
def test_settings_with_other_values(data: st.DataObject) -> None:
    read(FILES["settings"][1], yaml.safe_dump(spoilt(CONFIG, data)).encode())


@pytest.mark.parametrize("kind", [*JSON, *FILES])
def test_the_good_files_are_read(kind: str) -> None:
    good, reader = JSON.get(kind) or FILES[kind]
    found, sentence = read(reader, good() if callable(good) else json.dumps(good).encode())
    assert sentence is None
    assert found
