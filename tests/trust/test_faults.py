"""Killed, full, read-only, twice at once: a run ends with what an undisturbed one ends with, or with a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from campanion.notebooks.__main__ import main
from nbformat import v4
from refusals import LIBRARY

posix = pytest.mark.skipif(os.name != "posix", reason="processes are forked")

# One process imports torch, for seconds; its forks do the work and are killed. argv: folder, storms, kills in each.
STORM = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from campanion.report import figures
from campanion.data import open_dataset
from campanion.experiments.faithfulness import of_protocol
from campanion.experiments.runner import per_image
from campanion.models import load_model
from campanion.experiments.protocols import Protocol
from campanion.results.rows import rows_path, write_rows
from campanion.results.store import make_run, result_path, save_result
from campanion.results.statistics import paired, summarise
import matplotlib.pyplot as plt

folder, storms, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
PROTOCOL = Protocol(curves=("grad_cam", "fd_cam"), compared=("lift_cam", "xgrad_cam:lift"), orderings=4, step=0.2)
METRICS = ["insertion", "deletion", "ad"]
ASKED = of_protocol(PROTOCOL)
model, scenes = load_model("scenes_resnet"), open_dataset("scenes", n=8, size=32)
model.preprocess = type(model.preprocess)(32, model.preprocess.mean, model.preprocess.std)
record = {
    "mode": "quick", "data": "scenes", "n": 8, "weights": {"name": "m"}, "device": "CPU", "minutes": 0.0, "seed": 0,
    "settings": {}, "versions": {}, "commit": "none", "date": "2000-01-01",
}

def here(name):
    for variable in ("OUT", "RESULTS", "FIGURES"):
        os.environ[f"CAMPANION_{variable}"] = str(folder / name / variable.lower())

def work():
    rows, settings = per_image(ASKED, ASKED.subject(model, scenes))
    rows = rows.drop(columns="seconds")
    write_rows(rows, rows_path("scenes", "m"), settings)
    chosen = rows[rows["method"].isin(PROTOCOL.curves)]
    figure, axis = plt.subplots(figsize=(2, 2))
    axis.plot(chosen["insertion"])
    figures.save(figure, "a")
    save_result("21_test", [make_run(summarise(chosen, METRICS), paired(chosen, METRICS), record, "m")])

def ended():
    files = [result_path("21_test"), rows_path("scenes", "m"), *figures.paths.figures_dir().glob("a.*")]
    return {f.name: f.read_bytes().hex() for f in files}

def forked():
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child

here("calm")
work()
calm, rng, killed = ended(), random.Random(0), 0
here("timed")
work_time = time.perf_counter()
os.waitpid(forked(), 0)  # as long as those that are killed: the first work of a process takes three times as long
work_time = time.perf_counter() - work_time
for storm in range(storms):
    here(f"storm{storm}")
    wanted = killed + kills
    while killed < wanted:
        child = forked()
        time.sleep(rng.uniform(0, work_time))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            killed += 1
        else:  # it had ended before: from the beginning again
            shutil.rmtree(folder / f"storm{storm}")
    work()
    assert ended() == calm, f"storm {storm} ended otherwise"
print(json.dumps({"killed": killed, "rows": len(per_image(ASKED, ASKED.subject(model, scenes))[0])}))
"""

LIMIT = """
import resource, signal, sys, types
bare = types.ModuleType("campanion")  # without the package's own imports (torch), which take seconds
bare.__path__ = [sys.argv[2]]
sys.modules["campanion"] = bare
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
from campanion.results.rows import RowStore
try:
    with RowStore(sys.argv[1], settings={}) as store:
        for i in range(99):
            store.append([{"image": str(i), "method": "cam", "text": "x" * 2000}])
except OSError as error:
    print(error)
"""

SAVER = """
import os, sys
from campanion.results.store import load_result, make_run, save_result
record = {
    "mode": "quick", "data": "d", "n": 8, "weights": {"name": "m"}, "device": "CPU", "minutes": 0.0, "seed": 0,
    "settings": {}, "versions": {}, "commit": "none", "date": "2000-01-01",
}
row = {"method": "cam", "metric": "ad", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 5}
children = []
for process in range(4):
    child = os.fork()
    if not child:
        for i in range(8):
            save_result("21_test", [make_run([row], [], record, f"m{process}-{i}")])
        os._exit(0)
    children.append(child)
assert [os.waitpid(c, 0)[1] for c in children] == [0] * 4
print(len(load_result("21_test")["runs"]))
"""


def python(code: str, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CAMPANION_BATCH": "1", "MPLBACKEND": "agg", **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@posix
def test_killed_at_twenty_random_moments_ends_as_undisturbed(tmp_path: Path) -> None:
    """While images are measured, while rows, figure and result are written. CAMPANION_STORMS=50 kills more often."""
    storms = int(os.environ.get("CAMPANION_STORMS", "4"))
    ended = json.loads(python(STORM, tmp_path, storms, 5))
    assert ended["killed"] == 5 * storms
    assert ended["rows"] == 8 * 5  # four methods and SHAP-CAM, nothing lost or doubled


@posix
def test_a_full_disk_is_said_in_one_sentence_and_loses_no_finished_row(tmp_path: Path) -> None:
    from campanion.results.rows import RowStore

    path = tmp_path / "rows.sqlite"
    said = python(LIMIT, path, LIBRARY)
    assert said.startswith(f"Cannot write {path}: disk I/O error. Finished images are kept;")
    assert len(said.splitlines()) == 1
    with RowStore(path, settings={}) as store:
        assert [row["image"] for row in store.rows] == [str(i) for i in range(len(store.rows))]
        assert len(store.rows) >= 4


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path) -> None:
    from campanion.results.rows import RowStore

    (tmp_path / "file").touch()  # a user with all rights may write to a read-only folder, but not below a file
    with pytest.raises(OSError, match=r"Cannot write .*rows\.sqlite: .*CAMPANION_OUT"):
        RowStore(tmp_path / "file" / "rows" / "rows.sqlite", settings={})


@posix
def test_results_saved_by_four_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    folders = {f"CAMPANION_{name}": str(tmp_path / name) for name in ("OUT", "RESULTS")}
    assert python(SAVER, **folders) == "32\n"


@posix
def test_a_dead_kernel_is_noticed_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAMPANION_ROOT", str(tmp_path))
    monkeypatch.delenv("CAMPANION_OUT", raising=False)
    sources = ('mode = "cached"', "import os, signal, time\nos.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(600)")
    cells = [v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (tmp_path / "notebooks").mkdir()
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "notebooks/21_dies.ipynb")
    start = time.monotonic()
    assert main(["run", "21_dies", "--mode", "quick"]) == 1
    assert time.monotonic() - start < 60  # of which the start of the kernel takes most
    assert "Kernel died" in capsys.readouterr().err
    assert not (tmp_path / "out/quick/notebooks/21_dies.ipynb").exists()
