"""The benchmarks compare like with like: on a small network, ours and the peer give the same numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import cases
import clock
import curves
import grid
import peers
import run
import steps
from campanion.data.scenes import scene
from campanion.game.game import ChannelGame
from speed import this_machine

CHANNELS = 140  # more than one of the authors' batches of 128


class SmallVGG(nn.Module):
    """A VGG's form: features that end in ReLU and pooling, and a classifier of three linear layers."""

    target_layer = "features.1"

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, CHANNELS, 5, 4), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(
            nn.Linear(4 * CHANNELS, 40), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(40, 30), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(30, 6),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@pytest.fixture
def small() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    model = SmallVGG().eval()
    with torch.no_grad():
        model.classifier[-1].bias.fill_(2.0)  # grad-cam divides by the logit, which must not be negative
    return model, cases.random_images(1, 32)


@pytest.mark.parametrize("name", [name for name, case in cases.CASES.items() if case.kind == "speed"])
def test_ours_and_the_peer_give_the_same_numbers(name: str, small: tuple[nn.Module, Tensor]) -> None:
    model, images = small
    pair = cases.CASES[name].build(model, images)
    ours, peer = pair.ours(), pair.peer()
    assert ours.shape == peer.shape
    assert peer.std() > 1e-4
    assert (ours - peer).abs().max() <= 2e-3 * peer.abs().max()
    assert torch.corrcoef(torch.stack([ours.flatten(), peer.flatten()]))[0, 1] > 0.999999
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_captum_walks_the_orderings_given(small: tuple[nn.Module, Tensor]) -> None:
    pair = cases.shapley(16, orderings=3)(*small)
    ours, peer = pair.ours(), pair.peer()
    assert (ours - peer).abs().max() <= 2e-3 * peer.abs().max()
    assert (ours - cases.shapley(16, orderings=1)(*small).ours()).abs().max() > 1e-4


def test_what_makes_it_fast_changes_no_value(small: tuple[nn.Module, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = small[0].double(), small[1].double()
    with torch.no_grad():
        model.classifier[0].bias[:30] = -100.0  # three hidden units in four are never active
        model.features[0].bias[: CHANNELS // 2] = -100.0  # half of the channels are dead
    game = ChannelGame.of(model, images)
    rows = torch.rand(300, CHANNELS, generator=torch.Generator().manual_seed(0)) < 0.5
    rows[150:] = rows[:150]
    rows[150:, : CHANNELS // 2] = ~rows[:150, : CHANNELS // 2]  # other dead channels: the same coalitions
    evaluated, widths = [], []
    whole, product = ChannelGame.value_of_image, torch.mm
    monkeypatch.setattr(
        ChannelGame, "value_of_image", lambda self, b, r, *a: evaluated.append(len(r)) or whole(self, b, r, *a)
    )
    monkeypatch.setattr(torch, "mm", lambda a, b, **options: widths.append(a.shape[1]) or product(a, b, **options))
    values = game.value(rows, 2)[0]
    monkeypatch.undo()
    with torch.no_grad():
        naive = peers.tail(model)(game.activations * rows[:, :, None, None])[:, 2]
    assert evaluated == [150]
    assert min(widths) <= 10
    assert (values - naive).abs().max() < 1e-10
    assert naive.std() > 1e-3


@pytest.mark.parametrize(("kind", "ratio", "met"), [("speed", 2.0, True), ("cost", 0.5, True)])
def test_ratio_and_goal(kind: str, ratio: float, met: bool) -> None:
    case = cases.Case("", "", "", cases.fd, 1.0, kind)
    assert run._ratio(case, ours=1.0, peer=2.0) == ratio
    assert run._met(case, ratio) is met
    assert run._met(case, ratio, 1 / ratio) is not met


def test_results_of_another_machine_are_not_kept(tmp_path: Path) -> None:
    here, file = run.machine(threads=1), tmp_path / "results.json"
    assert run._earlier(file, here)["cases"] == {}
    file.write_text('{"machine": {"threads": 9}, "cases": {"vgg16_fd": {}}}')
    assert run._earlier(file, here)["cases"] == {}
    file.write_text(f'{{"machine": {run.json.dumps(here)}, "cases": {{"vgg16_fd": {{}}}}}}')
    assert run._earlier(file, here)["cases"] == {"vgg16_fd": {}}


#: Least correlation of the pixels of two maps. torchcam and grad-cam enlarge Score-CAM's masks in ways of their own,
#: and grad-cam guards the fraction of Grad-CAM++ by a constant.
LEAST = {"score_cam": 0.98, "grad_cam_pp": 0.98}


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet"])
@pytest.mark.parametrize("method", [m for m in grid.OURS if m in (*grid.GRAD_CAM, *grid.TORCHCAM, *grid.CAPTUM)])
def test_every_library_makes_the_map_that_ours_is_timed_beside(name: str, method: str) -> None:
    if method == "cam" and name == "scenes_vgg":
        pytest.skip("CAM is not defined on it")
    _maps_agree(name, method)


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet"])
@pytest.mark.parametrize("method", ["fd_cam", "shap_cam"])
def test_the_loops_make_the_map_that_ours_is_timed_beside(name: str, method: str) -> None:
    _maps_agree(name, method)


def _maps_agree(name: str, method: str) -> None:
    images = torch.stack([cases.network(name).preprocess(scene(seed).image) for seed in (28, 31)])
    made = {side: function().flatten(1) for side, function in grid.sides(cases.network(name), method, images).items()}
    assert len(made) > 1
    for side, maps in made.items():
        for ours, theirs in zip(made["campanion"], maps, strict=True):
            assert theirs.std() > 0, side
            correlation = torch.corrcoef(torch.stack([ours, theirs]))[0, 1]
            assert correlation > LEAST.get(method, 0.999), (side, float(correlation))


def test_every_library_scores_the_same_curves() -> None:
    model = cases.network("scenes_resnet")
    images = torch.stack([model.preprocess(scene(seed).image) for seed in (28, 31)])
    made = {side: f() for side, f in curves.sides(model, images, curves.smooth_maps(2, 64), steps=16).items()}
    torch.testing.assert_close(made["campanion"], made["torchcam"].float(), atol=1e-5, rtol=0)
    assert made["quantus"][0] == pytest.approx(made["campanion"][1].item(), abs=0.03)


@pytest.mark.parametrize("inference", [False, True])
def test_arithmetic_is_counted_in_every_mode(inference: bool) -> None:
    with clock.Arithmetic() as counter, torch.inference_mode(inference):
        nn.Conv2d(3, 5, 3)(torch.ones(2, 3, 8, 8))
        nn.Linear(7, 11)(torch.ones(13, 7))
    assert counter.flop == 2 * (2 * 5 * 36 * 27 + 13 * 7 * 11)


def test_memory_of_a_call_is_seen() -> None:
    found = clock.in_turn({"64 MB": lambda: torch.ones(2**24).sum(), "nothing": lambda: None}, repeats=1)
    assert 60 < found["64 MB"]["added_mb"] < 80
    assert found["nothing"]["added_mb"] < 5
    assert found["64 MB"]["runs"] == 1


def test_what_takes_too_long_is_left_out_with_its_reason() -> None:
    entry = grid.Cell("scenes_resnet", "score_cam", 1).measure(1, "cpu", limit=1e-6)
    assert entry["sides"] == {}
    assert set(entry["left_out"]) == {"campanion", "grad-cam", "torchcam"}
    assert "above the limit" in entry["left_out"]["torchcam"]


def test_a_library_that_cannot_take_the_network_is_left_out_with_its_reason() -> None:
    def cannot() -> None:
        raise RuntimeError("modified in place: [1, 2]")

    failed: dict[str, str] = {}
    found = clock.in_turn({"campanion": lambda: None, "peer": cannot}, 1, failed=failed)
    assert list(found) == ["campanion"]
    assert failed == {"peer": "fails: modified in place"}
    with pytest.raises(RuntimeError, match="modified"):
        clock.in_turn({"campanion": cannot}, 1, failed=failed)


def test_measuring_elsewhere_replaces_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPANION_ROOT", str(tmp_path))
    first = tmp_path / "benchmarks" / "results.json"
    first.parent.mkdir()
    first.write_text('{"machine": {"processor": "not this one"}, "cases": {"vgg16_fd": {}}}')
    before = first.read_bytes()
    monkeypatch.setattr("sys.argv", ["run.py", "--device", "cpu", "--only", "growth/orderings"])
    monkeypatch.setattr(run, "jobs", lambda *_: {"growth/orderings": ("growth", lambda: {"lines": {}})})
    run.main()
    assert first.read_bytes() == before
    (written,) = first.parent.glob("results_*.json")
    assert run.json.loads(written.read_text())["machine"]["processor"] == this_machine()


def test_jobs_are_found_by_pattern_and_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(run, "jobs", lambda *_: {n: ("methods", lambda n=n: done.append(n) or {}) for n in "ab"})
    options = SimpleNamespace(threads=1, quick=False, only=["b"], again=False)
    file = tmp_path / "results.json"
    run.run(options, "cpu", file)
    options.only = None
    results = run.run(options, "cpu", file)
    assert done == ["b", "a"]
    assert list(results["methods"]) == ["a", "b"]
    options.only = ["c*"]
    with pytest.raises(SystemExit, match="there are: a, b"):
        run.run(options, "cpu", file)


def test_cells_of_a_run_and_their_seconds(tmp_path: Path) -> None:
    ran = {"cell_type": "code", "metadata": {"papermill": {"duration": 2.5}}, "source": ["import x\n", "x.y()"]}
    waiting = {"cell_type": "code", "metadata": {"papermill": {"duration": None}}, "source": ["z"]}
    text = {"cell_type": "markdown", "metadata": {"papermill": {"duration": 0.01}}, "source": ["words"]}
    (tmp_path / "07_it.ipynb").write_text(run.json.dumps({"cells": [text, ran, waiting]}))
    expected = {"notebook": "07_it", "cell": 1, "seconds": 2.5, "begins": "import x"}
    assert steps.cells(tmp_path).to_dict("records") == [expected]
