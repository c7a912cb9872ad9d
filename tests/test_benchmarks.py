"""The benchmarks compare like with like: on a small network, ours and the peer give the same numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import cases
import run
from campanion.game import ChannelGame

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
    return model, cases.pictures(1, 32)


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
    whole, linear = ChannelGame.value_of_image, nn.functional.linear
    monkeypatch.setattr(
        ChannelGame, "value_of_image", lambda self, b, r, *a: evaluated.append(len(r)) or whole(self, b, r, *a)
    )
    monkeypatch.setattr(nn.functional, "linear", lambda z, *a: widths.append(z.shape[-1]) or linear(z, *a))
    values = game.value(rows, 2)[0]
    monkeypatch.undo()
    with torch.no_grad():
        naive = cases.vgg_tail(model)(game.activations * rows[:, :, None, None])[:, 2]
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
