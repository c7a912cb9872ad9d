"""What ``benchmarks/run.py`` measured, as tables: every method's cost, the ratios to other libraries, how cost grows.

Each machine that was measured has a file of its own (:func:`results_file`).

Ratios and shares of the machine are of processor seconds on a CPU, which other work on the machine disturbs least,
and of elapsed seconds on a GPU.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from campanion import paths
from campanion.errors import MissingResult, unknown

OURS = "campanion"
ENTRY = ("network", "batch", "method")


def measured(mode: str, device: str = "auto") -> dict:
    """The results of the benchmarks, with the training's under ``"training"``.

    Args:
        mode: ``"cached"`` reads the committed file of the first machine; ``"quick"`` measures this project's small
            networks once, in half a minute; ``"full"`` goes on with what the file of this machine lacks.
        device: of a run; ``"auto"`` is the CPU and then a GPU where there is one. What is returned is the CPU's,
            unless ``"cuda"`` is requested.

    Raises:
        MissingResult: nothing was measured yet; the sentence names the command.
        ValueError: unknown mode.
        RuntimeError: the measurement failed; with the end of what it printed.
    """
    if mode not in ("cached", "quick", "full"):
        raise ValueError(unknown("mode", mode, ("cached", "quick", "full")))
    folder = paths.root() / "benchmarks"
    if mode != "cached":
        options = ["--quick", "--device", "cpu" if device == "auto" else device] if mode == "quick" else []
        run = subprocess.run([sys.executable, str(folder / "run.py"), *options], capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"benchmarks/run.py {' '.join(options)} failed:\n{run.stderr[-2000:]}")
    machine = this_machine(device) if mode == "full" else None
    file = quick_file(device) if mode == "quick" else results_file(device, machine)
    return {**_read(file), "training": _read(folder / "training.json")}


def quick_file(device: str) -> Path:
    """Where a quick run's numbers go."""
    return paths.out_dir() / "quick" / f"benchmarks_results{'_cuda' if device == 'cuda' else ''}.json"


def results_file(device: str = "auto", machine: str | None = None) -> Path:
    """The committed file of the processor, or card, called ``machine``; None: of the first that was measured, which has
    ``results.json`` (``results_cuda.json``). Others have a file with their name at the end, so that none is replaced.
    """
    first = paths.root() / "benchmarks" / ("results_cuda.json" if device == "cuda" else "results.json")
    if machine is None or not first.exists() or place(_read(first)) == machine:
        return first
    return first.with_name(f"{first.stem}_{re.sub('[^a-z0-9]+', '-', machine.lower()).strip('-')}.json")


def other_machines(results: Mapping) -> list[dict]:
    """The committed results of every other processor, or card, than ``results`` are of; the first measured first."""
    first = results_file("cuda" if "card" in results["machine"] else "cpu")
    files = [first, *sorted(first.parent.glob(f"{first.stem}_*.json"))]
    of_kind = [other for other in map(_read, filter(Path.exists, files)) if _clock(other) == _clock(results)]
    return [other for other in of_kind if place(other) != place(results)]


def place(results: Mapping) -> str:
    """Name of the card or processor that the numbers are of."""
    return results["machine"].get("card") or results["machine"]["processor"]


def this_machine(device: str = "auto") -> str:
    """Name of this machine's card (``"cuda"``) or processor, with its vector instructions if they are not AVX-512:
    virtual machines of several generations of a processor share a name, and differ by a factor of three.
    """
    if device == "cuda":
        return torch.cuda.get_device_name()
    listed = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:(.+)", listed.read_text() if listed.is_file() else "", re.MULTILINE)
    name, vectors = named[1].strip() if named else platform.processor(), torch.backends.cpu.get_cpu_capability()
    return name if vectors == "AVX512" else f"{name}, {vectors}"


def _read(file: Path) -> dict:
    if not file.exists():
        raise MissingResult(f"No benchmark at {file}: run `python benchmarks/run.py`.")
    return json.loads(file.read_text(encoding="utf-8"))


def machine_line(results: Mapping) -> str:
    """Device, threads, versions and load, for the foot of a table."""
    facts, rate = results["machine"], results["rate_gflops"]
    entries = [e for part in ("cases", "methods", "metrics", "growth") for e in results.get(part, {}).values()]
    loads = [entry[key] for entry in entries for key in ("load_before", "load_after") if key in entry]
    versions = ", ".join(f"{k} {v}" for k, v in facts.items() if k not in ("processor", "cores", "threads", "card"))
    where = place(results) if "card" in facts else f"{place(results)}, {facts['threads']} of {facts['cores']} cores"
    clock = _clock(results)
    return (
        f"{where}; {versions}; float32; a 2048 x 2048 matrix product runs at {rate[clock]:.0f} GFLOP/s; "
        f"load average {min(loads):.1f} to {max(loads):.1f} on {facts['cores']} cores; {results['date']}"
    )


def _sides(results: Mapping, ours: bool) -> pd.DataFrame:
    """A row per network, batch, method and library, of this project's or of the others: its numbers by our clock."""
    clock = _clock(results)
    return pd.DataFrame(
        [
            {**_named(entry), "library": library, **{time: side[clock][time] for time in ("median", "min", "max")},
             "gflop": side["gflop"], "mb": side["added_mb"], "once": side["runs"] == 1,
             "rate": entry["rate_gflops"][clock]}
            for entry in results["methods"].values()
            for library, side in entry["sides"].items()
            if (library == OURS) == ours
        ],
        columns=[*ENTRY, "library", "median", "min", "max", "gflop", "mb", "once", "rate"],
    )  # fmt: skip


def method_table(results: Mapping) -> pd.DataFrame:
    """One row per network, batch and method of ours.

    Columns: ``seconds`` an image (median), ``forwards`` (what the call costs in forward passes of the same
    batch), ``gflop`` an image (convolutions and matrix products that were done), ``share`` of the rate of a large
    matrix product in per cent, ``mb`` beyond what was held before the call.
    """
    ours = _sides(results, True)
    forward = ours.loc[ours["method"] == "forward", ["network", "batch", "median"]]
    table = ours.merge(forward, on=["network", "batch"], suffixes=("", "_forward"))
    share = 100 * table["gflop"] / table["median"] / table["rate"]
    forwards = table["median"] / table["median_forward"]
    table = table.assign(seconds=table["median"] / table["batch"], forwards=forwards, share=share)
    table["gflop"] /= table["batch"]
    return table[[*ENTRY, "seconds", "forwards", "gflop", "mb", "share"]]


def ratio_table(results: Mapping) -> pd.DataFrame:
    """One row per network, batch, method and library: its time over ours (``ratio``), the memory of both.

    ``low`` and ``high``: the ratio of its fastest call to our slowest, and of its slowest to our fastest; ``once``:
    its call took long and was made once. A side that was left out has no row (:func:`left_out`).
    """
    table = _sides(results, False).merge(_sides(results, True), on=list(ENTRY), suffixes=("", "_ours"))
    table["ratio"] = table["median"] / table["median_ours"]
    table["low"], table["high"] = table["min"] / table["max_ours"], table["max"] / table["min_ours"]
    table = table.rename(columns={"mb_ours": "ours_mb", "mb": "their_mb"})
    return table[[*ENTRY, "library", "ratio", "low", "high", "once", "ours_mb", "their_mb"]]


def machines_table(results: Mapping, others: Sequence[Mapping]) -> pd.DataFrame:
    """The ratios of the first machine (``ratio``) beside those of each other (``machine``, ``there``), where both were
    measured; scoring the curves is the method ``"curves"``.
    """
    first, keys = _all_ratios(results), [*ENTRY, "library"]
    parts = [
        first.merge(_all_ratios(other).rename(columns={"ratio": "there"}), on=keys).assign(machine=place(other))
        for other in others
    ]
    return pd.concat(parts or [pd.DataFrame(columns=[*keys, "ratio", "there", "machine"])], ignore_index=True)


def _all_ratios(results: Mapping) -> pd.DataFrame:
    keys = [*ENTRY, "library", "ratio"]
    parts = [ratio_table(results)[keys]]
    if results.get("metrics"):
        (entry,) = results["metrics"].values()
        curves = curves_table(results).query("library != @OURS")
        parts.append(curves.assign(network=entry["network"], batch=entry["pictures"], method="curves")[keys])
    return pd.concat(parts)


def cases_table(results: Mapping, other: Mapping) -> pd.DataFrame:
    """The fixed comparisons of two machines: the goal, and each one's ratio and whether it meets it, where measured."""
    rows = []
    for name, case in {**results["cases"], **other["cases"]}.items():
        sign = "at least" if case["kind"] == "speed" else "at most"
        row = {"network": case["network"], "ours": case["what"], "beside": case["against"]}
        row["goal"] = "-" if case["goal"] is None else f"{sign} {case['goal']}"
        for machine in (results, other):
            measured_case = machine["cases"].get(name, {"ratio": {}, "met": None})
            row[place(machine)] = measured_case["ratio"].get(_clock(machine), np.nan)
            row[f"{place(machine)}, met"] = {True: "yes", False: "no", None: "-"}[measured_case["met"]]
        rows.append(row)
    return pd.DataFrame(rows)


def left_out(results: Mapping) -> pd.DataFrame:
    """What was not run, and why."""
    rows = [
        {**_named(entry), "side": side, "why": why}
        for entry in results["methods"].values()
        for side, why in entry["left_out"].items()
    ]
    return pd.DataFrame(rows, columns=[*ENTRY, "side", "why"])


def curves_table(results: Mapping) -> pd.DataFrame:
    """Insertion and deletion by each library: seconds, images scored, milliseconds a scored image, its ratio."""
    (entry,), clock = results["metrics"].values(), _clock(results)
    rows = []
    for library, side in entry["sides"].items():
        seconds, scored = side[clock]["median"], side["gflop"] / entry["forward_gflop"]
        row = {"library": library, "seconds": seconds, "scored": scored}
        rows.append({**row, "ms_each": 1e3 * seconds / scored, "mb": side["added_mb"]})
    frame = pd.DataFrame(rows)
    return frame.assign(ratio=frame["ms_each"] / frame["ms_each"][frame["library"] == OURS].item())


def exponents(results: Mapping) -> pd.DataFrame:
    """Of every line of growth the slope at its end, in log-log: time grows as x to this power between the last two."""
    clock, rows = _clock(results), []
    for name, entry in results["growth"].items():
        for method, line in entry["lines"].items():
            x, seconds = (np.log(np.asarray(line[key][-2:], float)) for key in ("x", clock))
            row = {"grows with": name.partition("/")[2], "method": method, "from": line["x"][-2], "to": line["x"][-1]}
            power = float(np.diff(seconds)[0] / np.diff(x)[0])
            rows.append(row | {"power": power, "ms at the end": 1e3 * line[clock][-1]})
    return pd.DataFrame(rows)


def tradeoff(faithfulness: Mapping, results: Mapping) -> pd.DataFrame:
    """``overall`` of a result, and seconds from image to map, one image at a time, of every method that has both."""
    seconds = _sides(results, True).query("batch == 1").set_index(["network", "method"])["median"]
    rows = []
    for run in faithfulness["runs"]:
        for row in run["rows"]:
            key = run["model"], row["method"]
            if row["metric"] == "overall" and key in seconds.index:
                interval = {name: row[name] for name in ("method", "low", "high", "n")}
                rows.append({"network": run["model"], "seconds": seconds[key], "overall": row["mean"], **interval})
    return pd.DataFrame(rows)


def _named(entry: Mapping) -> dict[str, object]:
    return {name: entry[name] for name in ENTRY}


def _clock(results: Mapping) -> str:
    return "wall" if "card" in results["machine"] else "cpu"
