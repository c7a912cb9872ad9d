"""What each method must do when a network is changed in a way whose effect is known from the formulas.

======================  =====================================  ===================================================
change                  response                               exceptions, from their formulas
======================  =====================================  ===================================================
scale logit c by 3      maps stay: weights are linear in the   Grad-CAM++ (g^2 beside g^3), LIME-CAM (a lasso's
                        logit, or min-max normalised (FD-CAM)  penalty is absolute), all that see probabilities,
                                                               Score-CAM's softmax over channels
add 2 to every logit    maps stay: gradients and differences   none: a softmax does not see it, LIME's intercept
                        do not see it                          takes it up
add 2 to logit c alone  maps stay                              all that see probabilities
permute the channels    maps stay, weights permute             Group-CAM (chunks of neighbours), SHAP- and LIME-CAM
                                                               (other random coalitions)
add a dead channel      maps stay, weights of the others too   FD-CAM (percentiles and min-max run over all channels,
                                                               dead ones too), Group-CAM (its chunks), SHAP- and
                                                               LIME-CAM (other random coalitions)
======================  =====================================  ===================================================

A head of two linear layers with a ReLU between is the network here. With a linear head SHAP-CAM is exact, so that it
has no exception.
"""

from __future__ import annotations

import pytest
import torch
from campanion import explain
from torch import Tensor, nn

CHANNELS, CLASSES, TARGET = 9, 4, 1
METHODS = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "xgrad_cam lift", "layer_cam", "score_cam", "score_cam cic", "group_cam",
    "group_cam each", "ablation_cam", "shap_cam", "lift_cam", "lrp_cam", "lime_cam", "fd_cam", "fd_cam probability",
    "fd_cam alone", "rise", "gradient", "integrated_gradients",
)  # fmt: skip
OPTIONS: dict[str, dict[str, object]] = {
    "xgrad_cam lift": {"variant": "lift"}, "score_cam cic": {"variant": "cic"}, "group_cam": {"groups": 3},
    "group_cam each": {"groups": 100}, "shap_cam": {"orderings": 20}, "lime_cam": {"samples": 30},
    "fd_cam": {"percentile": 30.0}, "fd_cam probability": {"score": "probability", "percentile": 30.0},
    "fd_cam alone": {"grouped": False}, "rise": {"masks": 20}, "integrated_gradients": {"steps": 5},
}  # fmt: skip
PROBABILITIES = {"score_cam", "group_cam", "group_cam each", "rise", "fd_cam probability"}
RANDOM = {"shap_cam", "lime_cam"}
CHANGES: dict[str, set[str]] = {
    "scale": PROBABILITIES | {"grad_cam_pp", "score_cam cic", "lime_cam"},
    "shift all": set(),
    "shift one": PROBABILITIES,
    "permute": RANDOM | {"group_cam"},
    "dead": RANDOM | {"group_cam", "fd_cam", "fd_cam probability", "fd_cam alone"},
}


class Net(nn.Module):
    target_layer = "target"

    def __init__(self, channels: int, deep: bool) -> None:
        super().__init__()
        self.stem, self.target, self.pool = nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()
        self.first = nn.Linear(channels, 6 if deep else CLASSES)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(6, CLASSES)) if deep else nn.Sequential()

    @property
    def last(self) -> nn.Linear:
        return self.rest[1] if len(self.rest) else self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.first(self.target(self.stem(x)).mean((2, 3))))


def network(deep: bool) -> Net:
    torch.manual_seed(1)
    model = Net(CHANNELS, deep).double().eval()
    with torch.no_grad():
        model.last.weight *= 20  # logits large enough for LIME's penalty, and not so large that a softmax saturates
    return model


@torch.no_grad()
def changed(change: str, deep: bool) -> tuple[Net, Tensor]:
    """The network after the change, and where its channels were before (an order of them)."""
    model, order = network(deep), torch.arange(CHANNELS)
    if change == "scale":
        model.last.weight[TARGET] *= 3
        model.last.bias[TARGET] *= 3
    elif change == "shift all":
        model.last.bias += 2
    elif change == "shift one":
        model.last.bias[TARGET] += 2
    elif change == "permute":
        order = torch.tensor([4, 0, 7, 2, 8, 1, 3, 6, 5])
        for layer, dimension in ((model.stem, 0), (model.first, 1)):
            layer.weight.copy_(layer.weight.index_select(dimension, order))
        model.stem.bias.copy_(model.stem.bias[order])
    else:
        larger = Net(CHANNELS + 1, deep).double().eval()
        larger.rest.load_state_dict(model.rest.state_dict())
        larger.stem.weight[:CHANNELS], larger.stem.weight[CHANNELS] = model.stem.weight, 0
        larger.stem.bias[:CHANNELS], larger.stem.bias[CHANNELS] = model.stem.bias, -1  # never above 0: dead
        larger.first.weight[:, :CHANNELS], larger.first.weight[:, CHANNELS] = model.first.weight, 5
        larger.first.bias.copy_(model.first.bias)
        model = larger
    return model, order


def explained(model: Net, method: str) -> tuple[Tensor, Tensor | None]:
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    name = method.partition(" ")[0]
    found = explain(model, images, TARGET, name, **OPTIONS.get(method, {}))
    return found.maps[name], found.weights.get(name)


def same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-6)  # LRP's epsilon is 1e-9, and the rest rounding of float64


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", METHODS)
def test_response(method: str, change: str) -> None:
    model, order = changed(change, deep=True)
    before, weights = explained(network(deep=True), method)
    after, new = explained(model, method)
    if method in CHANGES[change]:
        assert not same(before, after)
        return
    assert before.any()
    assert same(before, after)
    if weights is not None and change in ("permute", "dead"):
        assert same(new[:, :CHANNELS], weights[:, order])
    if weights is not None and change == "scale":
        factor = 1 if method.startswith("fd_cam") else 3
        assert same(new, factor * weights)


@pytest.mark.parametrize("change", ["scale", "shift all", "shift one", "permute", "dead"])
def test_shap_cam_of_a_linear_head_is_exact_so_it_has_no_exception(change: str) -> None:
    model, order = changed(change, deep=False)
    before, weights = explained(network(deep=False), "shap_cam")
    after, new = explained(model, "shap_cam")
    assert same(before, after)
    assert same(new[:, :CHANNELS], (3 if change == "scale" else 1) * weights[:, order])


@pytest.mark.parametrize("change", ["scale", "shift all", "permute", "dead"])
def test_cam_takes_the_classifiers_weights(change: str) -> None:
    model, order = changed(change, deep=False)
    before, weights = explained(network(deep=False), "cam")
    after, new = explained(model, "cam")
    assert same(before, after)
    assert same(new[:, :CHANNELS], (3 if change == "scale" else 1) * weights[:, order])
    if change == "dead":
        assert (new[:, CHANNELS] == 5).all()  # CAM looks at no activation: a dead channel keeps its weight


@pytest.mark.parametrize("method", ["ablation_cam", "shap_cam", "lift_cam", "lrp_cam", "score_cam", "score_cam cic"])
def test_a_dead_channel_is_worth_nothing(method: str) -> None:
    """It changes no logit: the null player of the game. Gradients do not see that it is dead."""
    _, weights = explained(changed("dead", deep=True)[0], method)
    assert same(weights[:, CHANNELS], torch.zeros(4, dtype=torch.float64))
    _, slopes = explained(changed("dead", deep=True)[0], "grad_cam")
    assert slopes[:, CHANNELS].any()
