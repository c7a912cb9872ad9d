"""The bias of FD-CAM: weights against the method itself, the rules against their definitions."""

from __future__ import annotations

import pytest
import torch
from campanion import explain, load_model
from campanion.data import open_dataset
from campanion.experiments.subject import Subject
from campanion.game.game import ChannelGame
from cells import study

fd_bias = study(24)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(load_model("scenes_vgg"), open_dataset("scenes"))


def test_rows_are_the_methods_own_weights(subject: Subject) -> None:
    sample = subject.data[0]
    rows = {row["method"]: row for row in fd_bias.measure(subject, sample)}
    assert tuple(rows) == (*fd_bias.BIASES, "grad_cam")
    image = subject.image(sample)
    live = ChannelGame.of(subject.model, image).activations[0].flatten(1).any(1)
    for bias in (0, 0.25, 0.5, 1):
        name = "fd_cam" if bias == 0.5 else f"fd_cam:bias={bias}"
        weights = explain(subject.model, image, methods=(name,)).weights[name][0, live]
        assert rows[f"b={bias:g}"]["negative"] == pytest.approx(100 * (weights < 0).double().mean().item())
        assert rows[f"b={bias:g}"]["b"] == bias
    shares = [rows[f"b={b:g}"]["negative"] for b in fd_bias.FIXED]
    assert shares == sorted(shares)
    assert shares[0] == 0 < shares[-1]


def test_the_rules() -> None:
    class Game:
        """Three channels with gradients -1, 0 and 3."""

        def gradient(self, _target: torch.Tensor) -> torch.Tensor:
            return torch.tensor([-1.0, 0.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)

    factor = torch.tensor([[1.0, 2.0, 2.5]])  # e^s
    strengths = torch.tensor([[0.0, 0.25, 1.0]]) * factor
    found = fd_bias.biases(Game(), torch.tensor([0]), strengths)
    assert float(found["b=mean"]) == pytest.approx((0 + 0.5 + 2.5) / 3)
    # a_0 = 1 / 4; the factor of a channel with a = 0 cannot be told from its strength
    assert float(found["b=zero"]) == pytest.approx(0.25 * (2 + 2.5) / 2)


def test_the_summary_compares_with_the_papers_bias(subject: Subject) -> None:
    import pandas as pd

    rows = pd.DataFrame([row for i in range(3) for row in fd_bias.measure(subject, subject.data[i])])
    answer = fd_bias.summary(rows, subject)
    means = pd.DataFrame(answer.means).set_index(["method", "metric"])["mean"]
    assert means["b=0.5", "negative"] == pytest.approx(rows[rows.method == "b=0.5"]["negative"].mean())
    assert answer.extra["channels"] == 64
    assert set(answer.differences["reference"]) == {"b=0.5"}
