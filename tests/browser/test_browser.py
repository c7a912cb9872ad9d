"""What a reader meets: JupyterLab, started for real on this machine, with its notebooks run and used in Chromium."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import nbformat
import pytest
from campanion import paths
from campanion.notebooks import notebooks_dir
from PIL import Image

pytestmark = pytest.mark.browser

#: by notebook the controls that are turned, and what to choose; None turns a slider by one step
KNOBS = {
    "14_lfi_fig1_fig6_stability": [("threshold", None), ("scene", None)],
    "30_lift_fig1_fig2_idea": [("order", "smallest first"), ("kept", None)],
    "42_beyond_sanity_checks": [("depth", None), ("method", "grad_cam")],
}
BOOKS = ("00_start_here", *KNOBS, "40_explore")
PATIENCE = 120_000  # milliseconds: a busy machine may take a minute to import torch
BAD = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
# Every cell in the page whether in view or not, and no question about news.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}


@pytest.fixture(scope="module")
def lab(page, tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Address and token of a JupyterLab with copies of the notebooks that were never run; nothing of the user's own."""
    folder = tmp_path_factory.mktemp("lab")
    for book in BOOKS:
        notebook = nbformat.read(notebooks_dir() / f"{book}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        (folder / "notebooks").mkdir(exist_ok=True)
        nbformat.write(notebook, folder / "notebooks" / f"{book}.ipynb")
    for name, setting in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, address = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    own = {name: str(folder / name) for name in ("config", "data", "runtime", "settings", "workspaces", "ipython")}
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": own["config"], "JUPYTER_DATA_DIR": own["data"], "JUPYTER_RUNTIME_DIR": own["runtime"],
        "JUPYTERLAB_SETTINGS_DIR": own["settings"], "JUPYTERLAB_WORKSPACES_DIR": own["workspaces"],
        "IPYTHONDIR": own["ipython"], "CAMPANION_OUT": str(folder / "out"),
        "CAMPANION_FIGURES": str(folder / "figures"), "CAMPANION_BATCH": "0", "JUPYTER_TOKEN": token,
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", "--allow-root",
               f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               f"--ServerApp.root_dir={folder / 'notebooks'}"]  # fmt: skip
    log = folder / "lab.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=folder)
    try:
        for _ in range(120):
            if status(f"{address}/api?token={token}") == 200:
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.5)
        else:
            pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")
        yield address, token
    finally:
        server.terminate()  # ends its kernels too
        server.wait(30)


def status(address: str) -> int:
    """HTTP status of an address; 0 when nobody answers."""
    try:
        return urllib.request.urlopen(address, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def run_all(page, lab: tuple[str, str], book: str) -> None:
    """Open a notebook, run all of its cells, and see that none failed or warned."""
    address, token = lab
    page.goto(f"{address}/doc/tree/{book}.ipynb?token={token}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()

    def connected() -> bool:  # cells that are run before are forgotten
        with urllib.request.urlopen(f"{address}/api/sessions?token={token}", timeout=30) as reply:
            kernels = [each["kernel"] for each in json.load(reply) if each["path"] == f"{book}.ipynb"]
        return any(kernel["connections"] and kernel["execution_state"] == "idle" for kernel in kernels)

    until(page, connected)
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts = page.locator(".jp-CodeCell .jp-InputArea-prompt")

    def finished() -> bool:
        done = all(re.fullmatch(r"\[\d+\]:", text.strip()) for text in prompts.all_inner_texts())
        return done or page.locator(BAD).count() > 0

    until(page, finished)
    shoot(page, book)
    assert page.locator(BAD).all_inner_texts() == []


def fingerprint(page) -> str:
    """The SHA-256 of the image that the explorer shows."""
    return page.locator("img.widget-image").evaluate(
        """async image => { const bytes = await (await fetch(image.src)).arrayBuffer();
        const hash = await crypto.subtle.digest('SHA-256', bytes);
        return bytes.byteLength + '-' + Array.from(new Uint8Array(hash)).join('.') }"""
    )


def until(page, condition: Callable[[], bool]) -> None:
    """Wait for ``condition``; the test fails when it does not come true."""
    end = time.monotonic() + PATIENCE / 1000
    while not condition():
        if time.monotonic() > end:
            shoot(page, "failed")
            pytest.fail("What was waited for did not come; out/browser/failed.png shows the page.")
        page.wait_for_timeout(100)


def shoot(page, name: str) -> None:
    folder = paths.out_dir() / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def test_a_stranger_is_turned_away(lab):
    assert status(f"{lab[0]}/api/contents") == 403


def test_start_here_runs(page, lab):
    run_all(page, lab, "00_start_here")
    assert page.locator(".jp-CodeCell .jp-RenderedImage img").count() == 2
    page.locator(".jp-CodeCell .jp-RenderedImage img").last.scroll_into_view_if_needed()
    shoot(page, "00_start_here")


def test_the_explorer_answers(page, lab, tmp_path):
    run_all(page, lab, "40_explore")
    page.locator("img.widget-image").scroll_into_view_if_needed()
    seen = [fingerprint(page)]
    shoot(page, "40_explore")

    def answer(act) -> None:
        act()
        until(page, lambda: fingerprint(page) != seen[-1])
        assert fingerprint(page) not in seen
        seen.append(fingerprint(page))
        assert page.locator(BAD).count() == 0

    classes = page.locator(".widget-select select")
    assert classes.locator("option").count() == 5
    answer(lambda: page.locator(".widget-checkbox", has_text="Layer-CAM").locator("input").check())
    assert re.search(r"forward pass \d+ ms · .*Layer-CAM \d+ ms", page.locator(".widget-html").last.inner_text())
    page.locator(".widget-text", has_text="class").locator("input").fill("arrow")
    until(page, lambda: classes.locator("option").first.inner_text().startswith("arrow"))  # the list is searched
    answer(lambda: classes.select_option(index=0))
    answer(lambda: page.locator(".widget-dropdown", has_text="palette").locator("select").select_option("jet"))
    shoot(page, "40_another_class")

    photo = Image.new("RGB", (300, 200), "orange")
    photo.paste("purple", (0, 0, 100, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo.save(tmp_path / "mine.jpg", exif=exif)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="upload a picture").click()
    answer(lambda: chooser.value.set_files(tmp_path / "mine.jpg"))
    assert page.locator(".widget-dropdown", has_text="picture").locator("select").input_value() == "mine.jpg"
    shoot(page, "40_uploaded")

    (tmp_path / "text.jpg").write_text("not an img")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="upload a picture").click()
    chooser.value.set_files(tmp_path / "text.jpg")
    page.get_by_text("text.jpg: The image of 10 bytes is not an image").wait_for()
    assert page.locator(BAD).count() == 0
    page.get_by_role("button", name="save PNG, PDF, NPZ").click()
    page.get_by_text("mine.jpg_scenes_vgg_").wait_for()


@pytest.mark.parametrize("key", KNOBS, ids=lambda key: key[:2])
def test_the_knobs_of_a_notebook_turn(page, lab, key):
    run_all(page, lab, key)
    page.locator("img.widget-image").scroll_into_view_if_needed()
    seen = [fingerprint(page)]
    for control, value in KNOBS[key]:
        if value is None:
            page.locator(".widget-slider", has_text=control).locator(".noUi-handle").press("ArrowRight")
        else:
            page.locator(".widget-dropdown", has_text=control).locator("select").select_option(value)
        until(page, lambda: fingerprint(page) not in seen)
        seen.append(fingerprint(page))
    assert page.locator(BAD).count() == 0
    shoot(page, f"{key[:2]}_knobs_turned")
