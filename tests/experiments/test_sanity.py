"""Randomised networks and the similarity of maps, against scipy's definition by hand and Quantus."""

from __future__ import annotations

import threading

import pytest
import torch
from campanion.data import open_dataset
from campanion.experiments.runner import ask, per_image
from campanion.metrics.randomisation import learned_layers, randomised, rank_correlation, structure
from campanion.models import load_model
from cells import study
from torch import nn

sanity = study(42)


@pytest.fixture(scope="module")
def model():
    return load_model("scenes_resnet")


def differing(a: nn.Module, b: nn.Module) -> set[str]:
    return {
        n.rsplit(".", 1)[0] for (n, p), q in zip(a.named_parameters(), b.parameters(), strict=True) if not p.equal(q)
    }


def test_cascading_goes_from_the_output_down_and_leaves_the_model_alone(model):
    before = {name: p.clone() for name, p in model.named_parameters()}
    names = learned_layers(model)
    copies = list(randomised(model, "cascading"))
    assert [name for name, _ in copies] == names
    assert isinstance(model.get_submodule(names[0]), nn.Linear)
    for i, (_, network) in enumerate(copies, start=1):
        assert differing(model, network) == set(names[:i])
    assert all(p.equal(before[name]) for name, p in model.named_parameters())


def test_independent_changes_one_layer_with_the_same_weights(model):
    cascade, alone = dict(randomised(model, "cascading")), dict(randomised(model, "independent"))
    for name, network in alone.items():
        assert differing(model, network) == {name}
        assert network.get_submodule(name).weight.equal(cascade[name].get_submodule(name).weight)


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_what_is_not_drawn_is_shared_and_nothing_of_the_users_is_written(order):
    """With a lock, which no copy takes."""
    first = nn.Conv2d(3, 4, 3)
    net = nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    net.lock = threading.Lock()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, weight = net(images), first.weight.clone()
        for name, network in randomised(net, order):
            assert not network(images).isnan().any()
            for (n, p), q in zip(net.named_parameters(), network.parameters(), strict=True):
                below = order == "cascading" and name == "0"
                assert (p.data_ptr() == q.data_ptr()) != (n.startswith(f"{name}.") or below)
    assert torch.equal(net(images), before)
    assert torch.equal(first.weight, weight)
    assert net.lock.acquire(blocking=False)


@pytest.mark.parametrize(
    "norm",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_a_weight_that_a_norm_computes_is_refused(norm):
    network = nn.Sequential(norm(nn.Conv2d(3, 4, 3, bias=False)), nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(1, 3, 5, 5))
    with pytest.raises(ValueError, match="The weight of 0 is computed by a norm or parametrization"):
        next(randomised(network))


def test_a_patched_forward_cannot_be_copied():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    net[0].forward = lambda x: x
    with pytest.raises(ValueError, match="patched"):
        next(randomised(net))


def test_the_layers_are_those_that_quantus_randomises(model):
    pytest.importorskip("quantus")
    from quantus.helpers.model.pytorch_model import PyTorchModel

    theirs = [name for name, _ in PyTorchModel(model, channel_first=True).get_random_layer_generator("independent", 0)]
    ours = learned_layers(model)
    assert [name for name in theirs if name in ours] in (ours, ours[::-1])
    assert all(isinstance(model.get_submodule(name), nn.BatchNorm2d) for name in set(theirs) - set(ours))


def test_rank_correlation_by_hand():
    a = torch.tensor([[[0.1, 0.2], [0.3, 0.4]], [[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.5], [0.5, 0.5]]])
    b = torch.tensor([[[1.0, 4.0], [9.0, 16.0]], [[4.0, 3.0], [2.0, 1.0]], [[4.0, 3.0], [2.0, 1.0]]])
    assert rank_correlation(a, b).tolist() == pytest.approx([1, -1, 0])
    # one swap of neighbours among four: 1 - 6 * 2 / (4 * 15)
    swapped = torch.tensor([[[0.2, 0.1], [0.3, 0.4]]])
    assert float(rank_correlation(a[:1], swapped)) == pytest.approx(0.8)


def test_structure_of_equal_and_of_inverted_maps():
    maps = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    assert structure(maps, maps).tolist() == pytest.approx([1, 1])
    assert structure(maps, 1 - maps).max() < 0
    with pytest.raises(ValueError, match="7 x 7"):
        structure(maps[:, :5], maps[:, :5])
    with pytest.raises(ValueError, match="one size"):
        rank_correlation(maps, maps[:1])


def test_rows_know_what_was_randomised(model, out):
    asked = sanity.question(methods=("lift_cam", "ablation_cam"))
    rows, _ = per_image(asked, asked.subject(model, open_dataset("scenes", n=2)))
    layers = learned_layers(model)
    assert len(rows) == 2 * 2 * (2 * len(layers) + 1)
    assert (rows[(rows["order"] == "cascading") & (rows["depth"] == 1)]["rank"] < 0.999).all()
    # On a linear head LIFT-CAM is Ablation-CAM, whatever the weights.
    both = rows.pivot(index=["image", "order", "depth"], columns="method", values="rank")
    assert (both["lift_cam"] - both["ablation_cam"]).abs().max() < 1e-3
    answer = sanity.summary(rows, None)
    drawn = answer.extra["curves"]
    assert drawn["layers"] == layers
    mean = rows[(rows.method == "lift_cam") & (rows.order == "cascading") & (rows.depth == 1)]["rank"].mean()
    assert drawn["cascading"]["rank"]["lift_cam"][0] == pytest.approx(mean, abs=1e-4)
    means = answer.means.set_index(["method", "metric"])["mean"]
    assert means["lift_cam", "rank_output"] == pytest.approx(mean)
    deepest = rows[(rows.method == "lift_cam") & (rows.order == "cascading") & (rows.depth == len(layers))]
    assert means["lift_cam", "ssim_all"] == pytest.approx(deepest["ssim"].mean())


def test_a_result_has_both_ends_and_the_curves(out):
    asked = sanity.question(methods=["cam"])
    (run,) = ask("42_test", "quick", asked, [], 2, quick=("scenes_resnet@scenes",))["runs"]
    assert {r["metric"] for r in run["rows"]} == set(sanity.METRICS)
    found = run["extra"]["curves"]
    assert len(found["cascading"]["rank"]["cam"]) == len(found["layers"])


def test_bad_input(model):
    with pytest.raises(ValueError, match="cascading"):
        next(randomised(model, "downwards"))
    with pytest.raises(ValueError, match="no convolution"):
        next(randomised(nn.ReLU()))
