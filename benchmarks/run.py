"""Time this library beside what a user would run instead: ``python benchmarks/run.py``; README.md explains it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import torch  # noqa: E402
from cases import CASES, Case  # noqa: E402

PACKAGES = ("torch", "torchvision", "captum", "grad-cam", "numpy")


def main() -> None:
    """Run the cases asked for, print a table, and keep the numbers in a JSON file, case by case."""
    options = _options()
    if options.show:
        print(table(json.loads(options.out.read_text())))
        return
    torch.set_num_threads(options.threads)
    if options.sample:
        print(json.dumps(sample(CASES[options.sample[0]], options.sample[1])))
        return
    results = _earlier(options.out, machine(options.threads))
    for name in options.only or CASES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results["cases"][name] = measure(name, options.repeats, options.threads)
        results["cases"] = {key: results["cases"][key] for key in CASES if key in results["cases"]}
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


def measure(name: str, repeats: int, threads: int) -> dict[str, object]:
    """Times of both sides in turn, ``repeats`` times after one unmeasured call, and the memory of each on its own.

    A slow peer runs once, in the process that measures its memory.
    """
    case = CASES[name]
    load = os.getloadavg()[0]
    alone = {side: _in_new_process(name, side, threads) for side in ("ours", "peer")}
    pair = case.pair()
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}
    if case.slow:
        times["peer"].append((alone["peer"]["wall"], alone["peer"]["cpu"]))
    else:
        pair.peer()
    pair.ours()
    for _ in range(repeats):
        times["ours"].append(timed(pair.ours))
        if not case.slow:
            times["peer"].append(timed(pair.peer))
    sides = {side: _summary(times[side], alone[side]) for side in times}
    ours, peer = sides["ours"], sides["peer"]
    ratio = {clock: _ratio(case, ours[clock]["median"], peer[clock]["median"]) for clock in ("wall", "cpu")}
    return {
        "what": case.what, "against": case.against, "network": case.network, "pictures": case.batch,
        "kind": case.kind, "goal": case.goal, "ratio": ratio, "met": _met(case, *ratio.values()), **sides,
        "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call; the second counts all threads of this process and no other's work."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def sample(case: Case, side: str) -> dict[str, float]:
    """One call in this process, which has done nothing else: its times, and the memory that it needed on top."""
    function = getattr(case.pair(), side)
    start = _high_water()
    wall, cpu = timed(function)
    return {"wall": wall, "cpu": cpu, "added_mb": _high_water(reset=False) - start}


def _high_water(reset: bool = True) -> float:
    """Most resident memory in MB so far; on Linux, since the last reset, which makes it the present amount."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _in_new_process(name: str, side: str, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--threads", str(threads), "--sample", name, side]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def _summary(times: list[tuple[float, float]], alone: dict[str, float]) -> dict[str, object]:
    clocks = dict(zip(("wall", "cpu"), zip(*times, strict=True), strict=True))
    summary: dict[str, object] = {
        clock: {"median": statistics.median(each), "min": min(each), "max": max(each)} for clock, each in clocks.items()
    }
    return {**summary, "runs": len(times), "added_mb": round(alone["added_mb"], 1)}


def _ratio(case: Case, ours: float, peer: float) -> float:
    return peer / ours if case.kind == "speed" else ours / peer


def _met(case: Case, *ratios: float) -> bool | None:
    """Whether every ratio, by either clock, meets the goal."""
    if case.goal is None:
        return None
    return min(ratios) >= case.goal if case.kind == "speed" else max(ratios) <= case.goal


def machine(threads: int) -> dict[str, object]:
    """What the times depend on."""
    return {
        "processor": _processor(), "cores": os.cpu_count(), "threads": threads, "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _earlier(path: Path, here: dict[str, object]) -> dict:
    """The file's results if they were made on the same machine with the same versions, to be added to; else none."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    cases = kept["cases"] if kept.get("machine") == here else {}
    return {"machine": here, "date": datetime.now(UTC).date().isoformat(), "cases": cases}


def table(results: dict) -> str:
    """The results as a Markdown table."""
    facts = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    head = "| network | ours | beside | ours, s | beside, s | ratio (wall) | ratio (CPU) | goal | met | memory, MB |"
    lines = [f"{facts}; {results['date']}", "", head, "|" + "---|" * 10]
    for row in results["cases"].values():
        sign = {"speed": "≥", "cost": "≤"}[row["kind"]]
        goal = "-" if row["goal"] is None else f"{sign} {row['goal']:g}"
        met = {True: "yes", False: "no", None: "-"}[row["met"]]
        memory = f"{row['ours']['added_mb']:.0f} / {row['peer']['added_mb']:.0f}"
        lines.append(
            f"| {row['network']} | {row['what']} | {row['against']} | {_span(row['ours'])} | {_span(row['peer'])} "
            f"| {row['ratio']['wall']:.3g} | {row['ratio']['cpu']:.3g} | {goal} | {met} | {memory} |"
        )
    return "\n".join(lines)


def _span(side: dict) -> str:
    wall = side["wall"]
    if side["runs"] == 1:
        return f"{wall['median']:.3g} (once)"
    return f"{wall['median']:.3g} ({wall['min']:.3g}-{wall['max']:.3g})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="of all but the peers that take minutes")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--show", action="store_true", help="print the table of --out again; run nothing")
    parser.add_argument("--sample", nargs=2, metavar=("NAME", "SIDE"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
