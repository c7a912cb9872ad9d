"""Samples and orders keep their promises."""

from __future__ import annotations

import hashlib

import pytest
import torch
from campanion.data.samples import Dataset, Object, Sample
from PIL import Image


class Named(Dataset):
    name = "named"
    class_names = ("a", "b")

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.labels = [0] * len(ids)
        self.card = "made for a test"

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], Image.new("RGB", (2, 2)), 0)


def test_sample_labels_and_boxes() -> None:
    objects = (Object(3, (0, 0, 2, 2)), Object(1, (1, 1, 2, 3), difficult=True), Object(3, (1, 0, 2, 2)))
    sample = Sample("x", Image.new("RGB", (4, 4)), 2, objects)
    assert sample.labels == (1, 2, 3)
    assert Sample("y", sample.image, None, objects).labels == (1, 3)
    assert torch.equal(sample.boxes(3), torch.tensor([[0.0, 0, 2, 2], [1, 0, 2, 2]]))
    assert sample.boxes(1).tolist() == [[1, 1, 2, 3]]
    assert sample.boxes(1, difficult=False).shape == sample.boxes(7).shape == (0, 4)


@pytest.mark.parametrize("box", [(2, 0, 1, 1), (0, 2, 1, 1), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1)])
def test_impossible_boxes_are_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="x0 <= x1"):
        Object(0, box)


def test_order_is_fixed_and_a_part_keeps_the_order_of_the_whole() -> None:
    data = Named([f"image {i}" for i in range(50)])
    order = data.order()
    assert sorted(order) == list(range(50))
    assert order == data.order(0) != data.order(1)
    assert order != list(range(50))
    part = Named(data.ids[10:30])
    kept = set(part.ids)
    assert [part.ids[i] for i in part.order()] == [data.ids[i] for i in order if data.ids[i] in kept]
    assert [s.id for s in data] == data.ids


def test_order_is_the_same_on_every_machine() -> None:
    order = Named([f"{i:03d}" for i in range(100)]).order()
    assert hashlib.sha256(repr(order).encode()).hexdigest()[:16] == "4e49c3095a6e5d22"
