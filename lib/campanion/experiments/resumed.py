"""Take a measurement of one image over many images: resumable, and never mixed between settings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import nn

from campanion.data import Dataset, Sample
from campanion.progress import track
from campanion.results import provenance
from campanion.results.rows import RowStore, read_rows, rows_path, running_path


def per_image(
    measure: Callable[[Sample], Sequence[Mapping[str, object]]],
    model: nn.Module,
    data: Dataset,
    settings: Mapping[str, object],
    name: str,
    limit: int | None = None,
    key: Sequence[str] = ("image", "method"),
    fresh: bool = False,
    unit: str = "image",
) -> pd.DataFrame:
    """Rows ``measure(sample)`` of at least the first ``limit`` images of ``data.order(settings["seed"])``.

    Finished images are kept in ``out/rows/<name>_<data>_<model>.jsonl`` or committed, and not measured again.

    Args:
        measure: gives the rows of an image; each has the columns of ``key``.
        model: that is measured.
        settings: all that decides the numbers, from :func:`campanion.experiments.evaluation.settings_of`.
        name: of the rows.
        limit: images (None: all).
        key: columns that name a row, that of ``data.ids`` first.
        fresh: forget what is finished.
        unit: what the progress bar counts.

    Returns:
        The rows, with seconds (of the whole image, in each of its rows), device and torch.

    Raises:
        ValueError: the rows' file was made with other settings (it names the difference).

    >>> per_image(lambda sample: [{"image": sample.id, "method": "none"}], model, data, settings, "example", limit=10)
    """
    path = running_path(data.name, settings["model"], name)
    if fresh:
        path.unlink(missing_ok=True)
    made_on = {
        "device": provenance.device_name(next(model.parameters()).device),
        "torch": provenance.versions()["torch"],
    }
    with RowStore(path, key, settings=settings) as store:
        if not len(store):
            _take_committed(store, rows_path(data.name, settings["model"], name), key[0])
        todo = [i for i in data.order(settings["seed"])[:limit] if data.ids[i] not in store.done]
        for i in track(todo, f"{settings['model']} on {data.name}", unit=unit):
            start = time.perf_counter()
            rows = measure(data[i])
            seconds = round(time.perf_counter() - start, 3)
            store.append({**row, **made_on, "seconds": seconds} for row in rows)
        return store.frame()


def _take_committed(store: RowStore, path: Path, one: str) -> None:
    """Start from the rows that the repository holds, where they were made with the same settings."""
    if not path.exists():
        return
    frame, settings = read_rows(path)
    if settings != store.settings:
        return
    for _, rows in frame.groupby(one, sort=False):
        store.append({k: v for k, v in row.items() if not _missing(v)} for row in rows.to_dict("records"))


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
