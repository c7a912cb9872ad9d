"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# shap compiles with numba for tens of seconds what takes milliseconds for eight players.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


@pytest.fixture
def real_weights() -> Path:
    """Folder of the real ImageNet weights; skips without it."""
    folder = Path(os.environ.get("CAMPANION_DATA", "")) / "weights"
    if not os.environ.get("CAMPANION_DATA") or not folder.is_dir():
        pytest.skip("CAMPANION_DATA is unset or has no weights/")
    return folder


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own for what a study writes."""
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path / "out"))
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("CAMPANION_BATCH", "1")
    return tmp_path
