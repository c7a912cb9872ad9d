"""Data sets: one registry, one kind of sample, readers for real images and generated scenes."""

from __future__ import annotations

from campanion import torchvision_start  # noqa: F401 - before any import of torchvision
from campanion.data.registry import DATASETS, open_dataset
from campanion.data.samples import Dataset, Object, Sample
from campanion.pictures import open_picture

__all__ = ["DATASETS", "Dataset", "Object", "Sample", "open_dataset", "open_picture"]
