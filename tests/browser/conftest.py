"""An empty page of a headless Chromium, for every test of this folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 120_000  # milliseconds: a busy machine may take a minute to import torch


@pytest.fixture(scope="module")
def page() -> Iterator:
    """An empty page of a headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    with sync_api.sync_playwright() as playwright:
        installed = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(installed).exists():
            pytest.skip("no Chromium: `apt-get install chromium`, or `python -m playwright install chromium`")
        # Chromium's own sandbox refuses to start for root, as which containers run; the page is this machine's.
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"] if root else [])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()
