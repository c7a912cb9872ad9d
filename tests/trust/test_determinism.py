"""The same seed gives the same bytes; batch size and threads move numbers by rounding only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from campanion import METHODS, explain
from nets import net, random_images

#: How far another number of threads may move a mean: float32 sums in another order, and pixels of nearly equal value
#: that change places in insertion and deletion.
THREADS_TOLERANCE = 1e-3

# Studies a small network on two scenes, twice; prints both result files. Time and date are left out.
STUDY = """
import json, sys
import torch
from campanion.experiments import faithfulness
from campanion.experiments.protocols import Protocol
from campanion.experiments.runner import ask
from campanion.results.store import result_path

METHODS = ("grad_cam", "fd_cam", "score_cam")
faithfulness.PROTOCOLS = {"cams": Protocol(curves=METHODS, compared=("lift_cam",), step=0.25)}
question = faithfulness.question("cams", METHODS, ["insertion", "deletion", "ad"])
texts = []
for _ in range(2):
    ask("21_test", "quick", question, [], 2, quick=("scenes_resnet@scenes",))
    result = json.loads(result_path("21_test").read_text())
    for run in result["runs"]:
        for key in ("minutes", "date"):
            run["provenance"].pop(key)
    texts.append(json.dumps(result))
print(json.dumps({"threads": torch.get_num_threads(), "texts": texts}))
"""


def studied(folder: Path, threads: int) -> dict:
    places = {f"CAMPANION_{name}": str(folder / name) for name in ("OUT", "RESULTS")}
    own = {"OMP_NUM_THREADS": str(threads), "CAMPANION_BATCH": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", STUDY], env={**os.environ, **places, **own}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_results_are_the_same_bytes_on_repeat_and_the_same_numbers_on_more_threads(tmp_path: Path) -> None:
    one, two = studied(tmp_path / "one", 1), studied(tmp_path / "two", 2)
    assert (one["threads"], two["threads"]) == (1, 2)
    assert one["texts"][0] == one["texts"][1]
    assert two["texts"][0] == two["texts"][1]
    for a, b in zip(*(json.loads(each["texts"][0])["runs"] for each in (one, two)), strict=True):
        assert [(r["method"], r["metric"]) for r in a["rows"]] == [(r["method"], r["metric"]) for r in b["rows"]]
        for row, other in zip(a["rows"], b["rows"], strict=True):
            scale = 100 if row["metric"] == "ad" else 1  # per cent
            assert other["mean"] == pytest.approx(row["mean"], abs=scale * THREADS_TOLERANCE), row


SEEDED = [name for name, method in METHODS.items() if "generator" in method.options and name != "lime"]


@pytest.mark.parametrize("method", SEEDED)
def test_random_methods_repeat_with_their_seed_and_leave_the_global_one_alone(method: str) -> None:
    model, images = net("mlp", dtype=torch.float32), random_images(dtype=torch.float32)
    model.fc3.weight.data *= 50  # LIME's penalty leaves nothing of small logits
    known = METHODS[method].options
    fewer = {name: 8 for name in ("masks", "samples", "orderings") if name in known}

    def maps(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return explain(model, images, 1, method, **fewer, generator=generator).raw[method]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = maps(4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)  # whatever others draw
    assert torch.equal(maps(4), first)
    assert not torch.equal(maps(5), first)


@pytest.mark.parametrize("method", ["rise", "shap_cam"])
def test_another_default_dtype_draws_the_same(method: str) -> None:
    model, images = net("mlp", dtype=torch.float32), random_images(dtype=torch.float32)
    fewer = {"rise": {"masks": 8}, "shap_cam": {"orderings": 8}}[method]
    expected = explain(model, images, 1, method, **fewer).raw[method]
    torch.set_default_dtype(torch.float64)
    try:
        found = explain(model, images, 1, method, **fewer).raw[method]
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)
