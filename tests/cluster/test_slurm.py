"""The workflow on a real Slurm of one node: jobs run, killed ones are gone on with, two tasks train one network.

Skipped by name where Slurm is not installed; Debian's packages slurm-wlm and munge, and root, are all that it takes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from campanion.notebooks import workflow
from campanion.results.rows import read_rows
from one_node import OneNode, free_ports, why_not

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(why_not()), reason=why_not())]
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ("30_lift_fig1_fig2_idea", "42_beyond_sanity_checks")
UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
CELLS = ("scenes_resnet20_plain_lr0.1_seed0_e2", "scenes_resnet20_abn_lr0.1_seed0_e2")


@pytest.fixture(scope="module")
def slurm() -> Iterator[OneNode]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, OneNode(Path(folder) / "s") as node:
        yield node


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What jobs need of this checkout, with places of its own for what they write."""
    for name in ("lib", "data", "configs", "profiles", "Snakefile", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        if path.stem in NOTEBOOKS or path.stem.startswith("11_"):
            shutil.copy(path, tmp_path / "notebooks")
    return tmp_path


def environment(slurm: OneNode, checkout: Path) -> dict[str, str]:
    dropped = ("CAMPANION_OUT", "CAMPANION_RESULTS", "CAMPANION_FIGURES", "CAMPANION_DATA")
    kept = {key: value for key, value in slurm.environment.items() if key not in dropped}
    return kept | {"CAMPANION_ROOT": str(checkout), "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}


def test_without_accounts_squeue_tells_which_jobs_ended(slurm: OneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    assert workflow._status(ROOT / "profiles" / "slurm-cpu") == ["--slurm-status-command", "squeue"]


def snakemake(*config: str, targets: tuple[str, ...] = ()) -> list[str]:
    """The workflow's command, as `campanion reproduce --profile profiles/slurm-cpu` starts it."""
    quick = ["--slurm-init-seconds-before-status-checks", "2", *workflow._status(ROOT / "profiles" / "slurm-cpu")]
    return [
        sys.executable, "-m", "snakemake", *targets, "--profile", "profiles/slurm-cpu", "--scheduler", "greedy", *quick,
        "--slurm-no-account", "--config", *config,
    ]  # fmt: skip


def finished(command: list[str], slurm: OneNode, checkout: Path) -> subprocess.CompletedProcess:
    run = subprocess.run(
        command, cwd=checkout, env=environment(slurm, checkout), capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    return run


def test_notebooks_run_as_jobs_without_a_gpu_and_without_an_accounting_database(slurm: OneNode, checkout: Path) -> None:
    before = {number for number, _, _ in slurm.jobs()}
    finished(snakemake("mode=quick", f"targets={','.join(NOTEBOOKS)}"), slurm, checkout)
    jobs = [job for job in slurm.jobs() if job[0] not in before]
    assert [state for _, state, _ in jobs] == ["COMPLETED", "COMPLETED"]
    for key in NOTEBOOKS:
        cells = json.loads((checkout / f"out/quick/notebooks/{key}.ipynb").read_text())["cells"]
        assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code" and cell["source"])


def test_a_killed_job_and_a_killed_snakemake_are_gone_on_with(slurm: OneNode, checkout: Path) -> None:
    files = tuple(f"out/quick/training/{cell}/{cell}.safetensors" for cell in CELLS)
    command = snakemake("mode=full", "scale=quick", "targets=11_lfi_table1_cifar", targets=files)
    before = {number for number, _, _ in slurm.jobs()}
    started = subprocess.Popen(
        command, cwd=checkout, env=environment(slurm, checkout), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    histories = [(checkout / file).with_name("history.csv") for file in files]
    deadline = time.monotonic() + 600
    while not any(history.is_file() for history in histories):  # one epoch of one training run has ended
        assert time.monotonic() < deadline, "no training run got going"
        assert started.poll() is None, "Snakemake ended before a training run got going"
        time.sleep(0.2)
    os.killpg(started.pid, signal.SIGKILL)  # before it can hand in the next job
    started.wait()
    while left := [number for number, state, _ in slurm.jobs() if number not in before and state in UNFINISHED]:
        assert time.monotonic() < deadline, "the cancelled jobs did not end"
        slurm.run("scancel", *left, check=False)
        time.sleep(1)
    kept = {history: history.read_text() for history in histories if history.is_file()}
    finished([*command[:3], "--unlock", *command[3:]], slurm, checkout)
    finished(command, slurm, checkout)
    for history, text in kept.items():
        assert history.read_text().startswith(text), "an epoch that had ended was trained again"
    assert [len(pd.read_csv(history)) for history in histories] == [2, 2]
    assert all((checkout / file).is_file() for file in files)


ROWS = """
from campanion.experiments import faithfulness
from campanion.experiments.runner import measured
rows = measured(faithfulness.question("fd", ("grad_cam", "fd_cam"), ["overall"]), "scenes_vgg@scenes", 6)
print(len(rows), "rows")
"""


def test_two_jobs_that_need_the_same_rows_wait_for_each_other(slurm: OneNode, checkout: Path) -> None:
    (checkout / "rows.py").write_text(ROWS)
    environ = environment(slurm, checkout) | {"CAMPANION_RESULTS": str(checkout / "results"), "CAMPANION_BATCH": "1"}
    command = [shutil.which("srun"), "--ntasks=2", sys.executable, str(checkout / "rows.py")]
    run = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    assert run.stderr.count("this one waits") == 1
    first, second = run.stdout.split("\n")[:2]
    assert first == second
    rows, _ = read_rows(checkout / "results/rows/fd_scenes_scenes_vgg.parquet")
    assert rows["image"].nunique() == 6
    assert first == f"{len(rows)} rows"
    assert not rows.duplicated(["image", "method"]).any()


def test_two_tasks_train_one_network(slurm: OneNode, checkout: Path) -> None:
    settings = ["epochs=1", "limit=64", "limit_test=20", "batch=16", "device=cpu", "precision=fp32"]
    (port,) = free_ports(1)
    command = [
        "--ntasks=2", sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1",
        "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=two", "--local-addr=127.0.0.1",
        "-m", "campanion", "train", "scenes_lfi", *settings, f"folder={checkout / 'out'}", "name=two", "export=null",
    ]  # fmt: skip
    run = subprocess.run(
        [shutil.which("srun"), *command], cwd=checkout, env=environment(slurm, checkout), capture_output=True,
        text=True, timeout=600,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    facts = json.loads((checkout / "out/two/two.json").read_text())
    assert facts["processes"] == 2
    assert pd.read_csv(checkout / "out/two/history.csv")["processes"].tolist() == [2]
