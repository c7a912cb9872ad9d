"""The tables of the benchmarks: by hand, and of the committed measurements."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from campanion import paths
from campanion.errors import MissingResult

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import speed


def side(cpu, gflop=1.0, mb=5.0, runs=3):
    times = {"median": cpu, "min": 0.9 * cpu, "max": 1.1 * cpu}
    return {"cpu": times, "wall": {k: 2 * v for k, v in times.items()}, "gflop": gflop, "added_mb": mb, "runs": runs}


def entry(method, sides, batch=2, left_out=None):
    return {
        "network": "net", "method": method, "batch": batch, "sides": sides, "left_out": left_out or {},
        "rate_gflops": {"cpu": 50.0, "wall": 25.0}, "load_before": 1.0, "load_after": 3.0,
    }  # fmt: skip


RESULTS = {
    "machine": {"processor": "P", "cores": 2, "threads": 1, "torch": "2"}, "date": "2026-01-01",
    "rate_gflops": {"cpu": 50.0, "wall": 25.0},
    "methods": {
        "net/forward/2": entry("forward", {"campanion": side(0.5)}),
        "net/fd_cam/2": entry("fd_cam", {"campanion": side(1.0, 20.0), "authors": side(8.0, runs=1)}),
        "net/rise/2": entry("rise", {}, left_out={"campanion": "about 9 TFLOP a call, above the limit of 8"}),
        "net/fd_cam/1": entry("fd_cam", {"campanion": side(0.7)}, batch=1),
    },
    "metrics": {
        "insertion_deletion": {
            "forward_gflop": 2.0, "sides": {"campanion": side(1.0, 100.0), "quantus": side(3.0, 60.0)}
        },
    },
    "growth": {
        "growth/channels": {
            "lines": {"fd_cam": {"x": [1, 10, 100], "cpu": [1.0, 1.0, 100.0], "wall": [1.0, 1.0, 1.0]}}
        },
    },
    "memory": {"memory/images": {"x": [100, 1000], "mb": [500.0, 505.0], "seconds": [1.0, 10.0]}},
}  # fmt: skip


def test_a_methods_cost_by_hand():
    forward, fd = speed.method_table(RESULTS).to_dict("records")  # fd_cam at batch 1 has no forward pass to compare
    assert forward["forwards"] == 1
    expected = {"network": "net", "batch": 2, "method": "fd_cam", "seconds": 0.5, "forwards": 2.0, "gflop": 10.0}
    assert fd == {**expected, "share": 40.0, "mb": 5.0}


def test_a_ratio_by_hand():
    (row,) = speed.ratio_table(RESULTS).to_dict("records")
    assert (row["library"], row["ratio"], row["once"]) == ("authors", 8.0, True)
    assert (row["low"], row["high"]) == pytest.approx((7.2 / 1.1, 8.8 / 0.9))
    assert speed.left_out(RESULTS).side.tolist() == ["campanion"]


def test_a_gpus_clock_is_the_wall():
    results = {**RESULTS, "machine": {**RESULTS["machine"], "card": "G"}}
    assert speed.method_table(results).share.tolist()[1] == 100 * 20 / 2 / 25
    assert speed.machine_line(results).startswith("G; ")


def test_a_scored_image_is_the_unit_of_curves():
    table = speed.curves_table(RESULTS).set_index("library")
    assert table.scored.to_dict() == {"campanion": 50, "quantus": 30}
    assert table.ratio.to_dict() == {"campanion": 1, "quantus": 5}


def test_the_power_of_growth_is_the_last_slope():
    (row,) = speed.exponents(RESULTS).to_dict("records")
    assert row["power"] == pytest.approx(2)
    assert (row["from"], row["to"]) == (10, 100)


def test_tradeoff_joins_by_network_and_method():
    rows = [
        {"method": m, "metric": "overall", "mean": 0.3, "low": 0.2, "high": 0.4, "n": 9} for m in ("fd_cam", "rise")
    ]
    (point,) = speed.tradeoff({"runs": [{"model": "net", "rows": rows}]}, RESULTS).to_dict("records")
    assert (point["method"], point["seconds"], point["overall"]) == ("fd_cam", 0.7, 0.3)


def on(processor, **ratios):
    """Results of another machine: our time 1, that of the authors' loop as given, by method."""
    methods = {f"net/{m}/2": entry(m, {"campanion": side(1.0), "authors": side(ratio)}) for m, ratio in ratios.items()}
    return {**RESULTS, "machine": {**RESULTS["machine"], "processor": processor}, "methods": methods, "metrics": {}}


def test_machines_are_compared_where_both_were_measured():
    first = {**RESULTS, "metrics": {}}
    (row,) = speed.machines_table(first, [on("Q", fd_cam=4.0, rise=2.0)]).to_dict("records")
    expected = {"network": "net", "batch": 2, "method": "fd_cam", "library": "authors", "ratio": 8.0, "there": 4.0}
    assert row == {**expected, "machine": "Q"}
    curves = {"insertion_deletion": {**RESULTS["metrics"]["insertion_deletion"], "network": "net", "pictures": 2}}
    table = speed.machines_table({**RESULTS, "metrics": curves}, [{**on("Q", fd_cam=4.0), "metrics": curves}])
    assert table[["method", "library", "ratio", "there"]].to_numpy().tolist() == [
        ["fd_cam", "authors", 8.0, 4.0], ["curves", "quantus", 5.0, 5.0]
    ]  # fmt: skip
    assert speed.machines_table(first, []).empty
    two = speed.machines_table(first, [on("Q", fd_cam=4.0), on("R", fd_cam=3.0)])
    assert two.index.is_unique, "rows of a machine are chosen by masks"
    assert [*two.machine] == ["Q", "R"]


def test_fixed_comparisons_of_two_machines_stand_side_by_side():
    case = {"network": "net", "what": "fd_cam", "against": "the loop", "kind": "speed", "goal": 6}
    met, missed = {"ratio": {"cpu": 7.0, "wall": 9.0}, "met": True}, {"ratio": {"cpu": 5.0, "wall": 9.0}, "met": False}
    here = {**RESULTS, "cases": {"both": {**case, **met}, "here": {**case, **met}}}
    there = {**on("Q"), "cases": {"both": {**case, **missed}, "there": {**case, **missed, "goal": None}}}
    table = speed.cases_table(here, there).fillna(-1)[["goal", "P", "P, met", "Q", "Q, met"]]
    assert table.to_numpy().tolist() == [
        ["at least 6", 7.0, "yes", 5.0, "no"],
        ["at least 6", 7.0, "yes", -1, "-"],
        ["-", -1, "-", 5.0, "no"],
    ]


def test_a_processor_without_avx_512_is_another_machine(monkeypatch):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    wide = speed.this_machine()
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert speed.this_machine() == f"{wide}, AVX2"


def test_every_machine_has_a_file_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("CAMPANION_ROOT", str(tmp_path))
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    assert speed.results_file("cpu", "P") == folder / "results.json"  # the first that is measured
    (folder / "results.json").write_text(json.dumps(RESULTS))
    assert speed.results_file("cpu", "P") == speed.results_file() == folder / "results.json"
    other = speed.results_file("cpu", "Intel(R) Xeon(R) Processor")
    assert other == folder / "results_intel-r-xeon-r-processor.json"
    other.write_text(json.dumps(on("Intel(R) Xeon(R) Processor")))
    card = {**RESULTS, "machine": {**RESULTS["machine"], "card": "G"}}
    (folder / "results_cuda.json").write_text(json.dumps(card))
    (folder / "results_cuda_h.json").write_text(json.dumps({**card, "machine": {**card["machine"], "card": "H"}}))
    assert speed.results_file("cuda", "G").name == "results_cuda.json"
    assert speed.results_file("cuda", "H").name == "results_cuda_h.json"
    assert [speed.place(r) for r in speed.other_machines(RESULTS)] == ["Intel(R) Xeon(R) Processor"]
    assert [speed.place(r) for r in speed.other_machines(on("Intel(R) Xeon(R) Processor"))] == ["P"]
    assert [speed.place(r) for r in speed.other_machines(card)] == ["H"]


def test_modes(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'quick'"):
        speed.measured("quik")
    monkeypatch.setenv("CAMPANION_ROOT", str(tmp_path))
    with pytest.raises(MissingResult, match="run `python benchmarks/run"):
        speed.measured("cached")


def test_the_notebook_shows_the_committed_measurements():
    results = speed.measured("cached")
    notebook = json.loads((paths.root() / "notebooks" / "41_beyond_speed.ipynb").read_text(encoding="utf-8"))
    printed = "".join(
        line for cell in notebook["cells"] for out in cell.get("outputs", []) for line in out.get("text", [])
    )
    assert speed.machine_line(results) in printed
    slower = speed.ratio_table(results).query("ratio < 1")
    assert f"{len(slower)} of {len(speed.ratio_table(results))} comparisons" in printed
