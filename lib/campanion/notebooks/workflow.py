"""What ``campanion reproduce`` does in a checkout: tests, figures, the site, and the runs of the Snakefile."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path

import yaml

from campanion import paths
from campanion.errors import unknown
from campanion.notebooks import kernels, keys, log_dir, needs_of, notebooks_dir, text

SCOREBOARD = "99_scoreboard"
ROOM = 2  # GB of free disk for a run


def targets(words: Iterable[str]) -> list[str]:
    """The notebooks that ``words`` name: whole names, beginnings (21), papers (lfi, fd, lift) or all; each once."""
    known, chosen = keys(), {}
    if not known:
        raise ValueError("There is no notebook in notebooks/: is this a whole checkout?")
    for word in words:
        matches = [k for k in known if word and (word == "all" or k.startswith(word) or k[3:].startswith(f"{word}_"))]
        if not matches:
            raise ValueError(unknown("target", word, ["all", "lfi", "fd", "lift", *known]))
        chosen |= dict.fromkeys(matches)
    return list(chosen)


def check_room() -> None:
    """OSError unless results and logs can be written, and the disk has :data:`ROOM` GB left."""
    top = paths.root()
    for folder in ("out", "logs"):
        with suppress(OSError):
            (top / folder).mkdir(exist_ok=True)
        if not (top / folder).is_dir() or not os.access(top / folder, os.W_OK):
            raise OSError(f"Cannot write to {top / folder}: results and logs go there.")
    if (free := shutil.disk_usage(top).free / 1e9) < ROOM:
        raise OSError(f"A run needs about {ROOM} GB of free disk, and only {free:.0f} GB are free here.")


def run_snakemake(
    mode: str, chosen: Sequence[str], limit: int | None, scale: str | None, cores: int | None, profile: Path | None,
    dry: bool,
) -> int:  # fmt: skip
    """Run what is missing of the notebooks ``chosen`` (all, if empty); returns the exit status."""
    start = time.monotonic()
    words = ["--rerun-incomplete", "--keep-going", "--show-failed-logs", "--scheduler", "greedy"]
    # Not "code" and "input": an edit of a rule must never make a committed checkpoint be trained again.
    words += ["--quiet", "host", "reason", "--rerun-triggers", "mtime", "params"]
    if profile is not None:
        words += ["--profile", str(profile.resolve()), *(["--cores", str(cores)] if cores else []), *_status(profile)]
    else:  # one full run at a time, and so many training runs share a GPU
        words += ["--cores", str(cores or "all"), "--resources", "card=1", "gpu_cells=4"]
    words += ["--dry-run"] * dry
    settings = {"mode": mode, "limit": limit, "scale": scale, "targets": ",".join(chosen)}
    words += ["--config", *(f"{name}={value}" for name, value in settings.items() if value)]
    cache, many_short = str(paths.root() / ".snakemake" / "cache"), profile is None and mode != "full"
    with kernels.server() if many_short else nullcontext({}) as address:
        status = _python("-m", "snakemake", *words, XDG_CACHE_HOME=cache, **address)
    seconds = time.monotonic() - start
    if status:
        print(f"\nNot everything could be run: see logs/{mode}/. The same command goes on.", file=sys.stderr)
        return 1
    if not dry:
        _summary(mode, whole=not chosen, seconds=seconds)
    return 0


def _python(*words: str, **variables: str) -> int:
    """Run Python in the checkout, with more environment variables; returns its exit status."""
    return subprocess.run([sys.executable, *words], cwd=paths.root(), env=os.environ | variables).returncode


def _status(profile: Path) -> list[str]:
    """How Snakemake learns that a Slurm job ended: squeue where the cluster keeps no accounts (sacct fails)."""
    settings = yaml.safe_load((profile / "config.yaml").read_text(encoding="utf-8")) or {}
    if settings.get("executor") != "slurm" or "slurm-status-command" in settings:
        return []
    with suppress(OSError):
        if subprocess.run(["sacct", "-X", "--noheader"], capture_output=True).returncode == 0:
            return []
    return ["--slurm-status-command", "squeue"]


def _summary(mode: str, whole: bool, seconds: float) -> None:
    """Say what was made and where it is; what the scoreboard's notebook printed, provenance too, goes into a file."""
    folder = paths.root() / "out" / mode
    scoreboard, file = folder / "notebooks" / f"{SCOREBOARD}.ipynb", ""
    if whole and scoreboard.is_file():
        (folder / "scoreboard.txt").write_text(text(scoreboard), encoding="utf-8")
        file = f"   every claim with its provenance: out/{mode}/scoreboard.txt"
    figures, results = ("out/quick/figures", "out/quick/results") if mode == "quick" else ("figures", "data/results")
    print(f"\nDone in {seconds // 60:.0f} min {seconds % 60:.0f} s.")
    print(f"Notebooks: out/{mode}/notebooks/   figures: {figures}/   results: {results}/   logs: logs/{mode}/{file}")


def run_tests() -> int:
    """Style, tests, and the committed notebooks against what they store; every part runs, whatever fails."""
    start = time.monotonic()
    # A file's tests stay in one process: they share what is costly to make, and a notebook's cells their kernel.
    spread = ["-n", str(min(os.cpu_count() or 1, 8)), "--dist", "loadfile", "--no-loadscope-reorder"]
    nbval = ["-p", "tests.nbval_rounding", "--nbval", "--nbval-current-env", "--nbval-cell-timeout", "600"]
    nbval += ["--nbval-sanitize-with", "tests/nbval_sanitize.cfg", "-p", "no:cacheprovider", "notebooks"]
    # The figures that nbval's run saves go elsewhere, so that testing leaves the checkout as it is.
    drafts = {"CAMPANION_FIGURES": str(paths.root() / "out" / "test" / "figures"), "CAMPANION_DRAFT": "1"}
    failed = False
    for module, *words in (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["pytest", *spread],  # also checks the results' files
        ["campanion", "notebooks", "check"],
        ["campanion", "answers", "--check"],
        ["pytest", *spread, *nbval],
    ):
        variables = {"CAMPANION_BATCH": "1", "OMP_NUM_THREADS": "1"} | (drafts if "--nbval" in words else {})
        failed |= _python("-m", module, *words, **variables) != 0
    print("Some tests failed; see above." if failed else f"All tests passed in {time.monotonic() - start:.0f} s.")
    return int(failed)


def draw_figures(cores: int | None = None) -> int:
    """Every figure of ``figures/`` from the committed results; the notebooks are run, their files stay as they are."""
    start, names, failed = time.monotonic(), keys(), 0

    def draw(key: str) -> subprocess.CompletedProcess:
        copy = paths.out_dir() / "figures" / f"{key}.ipynb"
        command = ["-m", "campanion", "notebooks", "run", key, "--mode", "cached", "--output", str(copy)]
        variables = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, *command], env=variables, capture_output=True, text=True)

    with ThreadPoolExecutor(cores or os.cpu_count()) as pool:
        for number, (key, run) in enumerate(zip(names, pool.map(draw, names), strict=True), start=1):
            print(f"{number:2d} of {len(names)}  {key}: {'failed' if run.returncode else 'drawn'}", flush=True)
            if run.returncode:
                failed += 1
                print(run.stderr, file=sys.stderr)
    print(f"{len(names) - failed} notebooks in {time.monotonic() - start:.0f} s; figures: {paths.figures_dir()}")
    return int(failed > 0)


def build_site() -> int:
    """The pages of the notebooks, the library and the scoreboard, into ``out/site``."""
    start, failed = time.monotonic(), _python("docs/build.py") != 0
    if not failed:
        print(f"The site is out/site/index.html; it took {time.monotonic() - start:.0f} s.")
    return int(failed)


def open_jupyter() -> int:
    """JupyterLab, listening on this machine only."""
    return _python("-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", "notebooks/00_start_here.ipynb")


# ---- what the Snakefile asks, when it makes its plan
def wanted(config: dict) -> list[str]:
    """The notebooks of a run: those of ``targets``, or all."""
    return str(config["targets"]).split(",") if config.get("targets") else keys()


def executed(config: dict, chosen: Iterable[str]) -> list[str]:
    """The executed copies of notebooks in the mode of this run."""
    return [f"out/{config.get('mode', 'quick')}/notebooks/{key}.ipynb" for key in chosen]


@cache
def digest(*patterns: str) -> str:
    """Changes when a file's content does; as inputs, whole folders would fill every message and follow files' times."""
    files = sorted(path for pattern in patterns for path in Path().glob(pattern) if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


def source(key: str) -> str:
    """The code of a notebook: running it again in place changes its file, but asks for no new run in another mode."""
    cells = json.loads((notebooks_dir() / f"{key}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def voc_heads(key: str) -> list[str]:
    """The VOC classifiers, for a notebook that needs VOC's classes."""
    needs = set(needs_of(notebooks_dir() / f"{key}.ipynb"))
    return [f"data/checkpoints/voc_{head}.safetensors" for head in ("mlp", "linear") if {"voc2007", "coco-voc"} & needs]


def last_time(mode: str, key: str) -> str:
    """How long a notebook took when it last ran in this mode, off its log: read before the log is written anew."""
    log = log_dir(mode) / f"{key}.txt"
    times = re.findall(r"done in (\d+) s", log.read_text(encoding="utf-8")) if log.exists() else []
    return f"{times[-1]} s last time" if times else "not timed here yet"
