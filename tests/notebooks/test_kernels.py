"""Kernels that are forked from a process with PyTorch imported: the same notebook, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from campanion.notebooks import kernels
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kernels are forked on Linux alone")
CELLS = (
    "import os, sys\nprint(os.getpid(), os.getppid(), 'torch' in sys.modules, 'pandas' in sys.modules)",
    "import torch\nprint(torch.get_num_threads(), os.environ['ASKED'], os.getcwd())",
    "import pandas as pd\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\npd.DataFrame({'a': [1.5]})",
    "pd.DataFrame([range(30)])",  # as wide as in a notebook
    "(torch.eye(64) @ torch.ones(64, 64)).sum().item()",
)


def execute(folder: Path, name: str, cells: tuple[str, ...] = CELLS) -> list[list]:
    """The outputs of each cell."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(book, folder / "in.ipynb")
    done = papermill.execute_notebook(
        str(folder / "in.ipynb"), str(folder / name), kernel_name="python3", progress_bar=False, cwd=str(folder),
        **kernels.manager(),
    )  # fmt: skip
    return [cell["outputs"] for cell in done.cells]


def test_a_forked_kernel_gives_the_outputs_of_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("ASKED", "yes")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert kernels.manager() == {}
    own = execute(tmp_path, "own.ipynb")
    with kernels.server() as found:
        monkeypatch.setenv(kernels.SOCKET, found[kernels.SOCKET])
        forked = [execute(tmp_path, f"{i}.ipynb") for i in range(2)]
        with pytest.raises(papermill.exceptions.PapermillExecutionError, match="on purpose"):
            execute(tmp_path, "wrong.ipynb", ("raise ValueError('on purpose')",))
    assert kernels.manager() == {}  # the server has ended
    assert own[0][0]["text"].split()[2:] == ["False", "False"]
    pids = set()
    for outputs in forked:
        pid, parent, torch_there, pandas_there = outputs[0][0]["text"].split()
        assert (torch_there, pandas_there) == ("True", "True")
        assert int(parent) not in (1, os.getpid())
        pids.add(int(pid))
        assert outputs[1:] == own[1:]
    assert own[1][0]["text"].startswith("2 yes")
    assert any("image/png" in output.get("data", {}) for output in own[2])
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_forked_kernel_ends_by_itself_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals, send = [], LocalProvisioner.send_signal

    async def recorded(self: LocalProvisioner, number: int) -> None:
        signals.append(number)
        await send(self, number)

    monkeypatch.setattr(LocalProvisioner, "send_signal", recorded)
    cell = "import atexit, campanion, matplotlib.pyplot\natexit.register(open('ended', 'w').write, 'yes')"
    with kernels.server() as found:
        monkeypatch.setenv(kernels.SOCKET, found[kernels.SOCKET])
        execute(tmp_path, "1.ipynb", (cell,))
    assert signal.SIGTERM not in signals  # Jupyter waits for two seconds and a half before it ends a kernel
    assert (tmp_path / "ended").read_text() == "yes"
