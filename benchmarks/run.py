"""Time this library beside what a user would run instead: ``python benchmarks/run.py``; README.md explains it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import campanion.models  # noqa: E402, F401 - before torchvision: it then starts without PyTorch's compiler
import torch  # noqa: E402
from campanion.paths import write_whole  # noqa: E402
from cases import CASES, Case  # noqa: E402
from clock import high_water, machine, product_rate, summary, timed  # noqa: E402
from speed import method_table, quick_file, ratio_table, results_file, this_machine  # noqa: E402

GROUPS = ("cases", "methods", "metrics", "growth", "memory")
#: TFLOP that one call of a method on the grid may take.
LIMIT = {"cpu": 8.0, "cuda": 400.0}
QUICK_LIMIT = 0.02


def main() -> None:
    """Run what was asked for; print and keep the numbers in a JSON file, job by job."""
    options = _options()
    options.repeats = options.repeats or (1 if options.quick else 3)
    torch.set_num_threads(options.threads)
    if options.sample:
        print(json.dumps(sample(CASES[options.sample[0]], options.sample[1])))
        return
    both = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    for device in both if options.device == "auto" else (options.device,):
        file = options.out or (quick_file(device) if options.quick else results_file(device, this_machine(device)))
        if options.show:
            print(report(json.loads((file if file.exists() else results_file(device)).read_text())))
        else:
            print(report(run(options, device, file)))


def run(options: argparse.Namespace, device: str, file: Path) -> dict:
    """Do the jobs that the file does not hold yet, and write it after each."""
    here = machine(options.threads, device)
    known = jobs(options, device)
    wanted = [name for name in known if not options.only or any(fnmatch(name, p) for p in options.only)]
    if not wanted:
        raise SystemExit(f"Nothing is called {' or '.join(options.only)}; there are: {', '.join(known)}.")
    results = {"machine": here, "cases": {}} if options.quick else _earlier(file, here)
    results["rate_gflops"] = product_rate(device)
    file.parent.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        group, job = known[name]
        if name in results.setdefault(group, {}) and not options.again:
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[group][name] = job()
        results["date"] = datetime.now(UTC).date().isoformat()
        results[group] = {key: results[group][key] for key in known if key in results[group]}
        write_whole(file, json.dumps(results, indent=1) + "\n")
    return results


def jobs(options: argparse.Namespace, device: str) -> dict[str, tuple[str, Callable[[], dict]]]:
    """Every job's group and function, by name."""
    import curves
    import grid
    import growth

    found: dict[str, tuple[str, Callable[[], dict]]] = {}
    if device == "cpu" and not options.quick:
        found |= {name: ("cases", partial(measure, name, options.repeats, options.threads)) for name in CASES}
    found["insertion_deletion"] = ("metrics", partial(curves.measure, options.repeats, device, options.quick))
    for axis in growth.AXES:
        found[f"growth/{axis}"] = ("growth", partial(growth.measure, axis, options.repeats, device, options.quick))
    for kind in growth.LARGEST if not options.quick else ():  # new processes, which start slowly
        found[f"memory/{kind}"] = ("memory", partial(growth.memory, kind, options.threads, device))
    for cell in grid.cells(options.quick):
        limit = options.limit or (QUICK_LIMIT if options.quick else LIMIT[device])
        found[cell.name] = ("methods", partial(cell.measure, options.repeats, device, limit))
    return found


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
    sides = {side: {**summary(times[side]), "added_mb": round(alone[side]["added_mb"], 1)} for side in times}
    ours, peer = sides["ours"], sides["peer"]
    ratio = {clock: _ratio(case, ours[clock]["median"], peer[clock]["median"]) for clock in ("wall", "cpu")}
    return {
        "what": case.what, "against": case.against, "network": case.network, "pictures": case.batch,
        "kind": case.kind, "goal": case.goal, "ratio": ratio, "met": _met(case, *ratio.values()), **sides,
        "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def sample(case: Case, side: str) -> dict[str, float]:
    """One call in this process, which has done nothing else: its times, and the memory that it needed on top."""
    function = getattr(case.pair(), side)
    start = high_water()
    wall, cpu = timed(function)
    return {"wall": wall, "cpu": cpu, "added_mb": high_water(reset=False) - start}


def _in_new_process(name: str, side: str, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--threads", str(threads), "--sample", name, side]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def _ratio(case: Case, ours: float, peer: float) -> float:
    return peer / ours if case.kind == "speed" else ours / peer


def _met(case: Case, *ratios: float) -> bool | None:
    """Whether every ratio, by either clock, meets the goal."""
    if case.goal is None:
        return None
    return min(ratios) >= case.goal if case.kind == "speed" else max(ratios) <= case.goal


def _earlier(path: Path, here: dict[str, object]) -> dict:
    """The file's results if they were made on the same machine with the same versions, to be added to; else none."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    same = kept if kept.get("machine") == here else {}
    return {"machine": here, **{group: same.get(group, {}) for group in GROUPS}}


def report(results: dict) -> str:
    """All results as text."""
    facts = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    parts = [f"{facts}; {results['date']}"]
    if results["cases"]:
        parts.append(table(results))
    if results.get("methods"):
        parts += [method_table(results).to_string(index=False), ratio_table(results).to_string(index=False)]
    return "\n\n".join(parts)


def table(results: dict) -> str:
    """The fixed comparisons as a Markdown table."""
    head = "| network | ours | beside | ours, s | beside, s | ratio (wall) | ratio (CPU) | goal | met | memory, MB |"
    lines = [head, "|" + "---|" * 10]
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
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="names of jobs, such as vgg16_fd or 'vgg16/*/1'")
    parser.add_argument("--quick", action="store_true", help="small networks, once; the file starts anew")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: the CPU, then a GPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, help="of all but the calls that take long (3; quick: 1)")
    parser.add_argument("--limit", type=float, help=f"TFLOP that a call on the grid may take (default: {LIMIT})")
    parser.add_argument("--again", action="store_true", help="measure also what the file holds already")
    parser.add_argument("--out", type=Path, help="the JSON file (default: this machine's, here)")
    parser.add_argument("--show", action="store_true", help="print what the file holds; run nothing")
    parser.add_argument("--sample", nargs=2, metavar=("NAME", "SIDE"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
