"""Everything that computes does so on the network's device: tried on a pretended accelerator, without a GPU.

Each function runs once on the CPU and once with network and images elsewhere (:mod:`elsewhere`), where any operation
on tensors of both devices fails; both must give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pandas as pd
import pytest
import torch
from campanion import METHODS, explain, load_model, metrics
from campanion.data import open_dataset
from campanion.data.questions import SceneQuestions
from campanion.data.samples import Dataset, Sample
from campanion.data.scenes import scene
from campanion.experiments import convergence, faithfulness, groups, pointing
from campanion.experiments import fin as fin_study
from campanion.experiments.gallery import measure as measure_gallery
from campanion.experiments.protocols import PROTOCOLS
from campanion.experiments.runner import Question
from campanion.experiments.stability import compare_maps, others
from campanion.game.game import ChannelGame
from campanion.metrics.randomisation import rank_correlation, structure
from campanion.models.vqa import load_vqa
from campanion.training import loop as training
from campanion.training.batches import augment, draw, normalise
from campanion.training.parts import evaluate
from campanion.training.settings import make_config
from cells import study
from elsewhere import DEVICE, Elsewhere, moved, pretended
from nets import NETS, net, random_images
from torch import Tensor, nn

SHORT = {"rise": {"masks": 20}, "lime_cam": {"samples": 30}, "lime": {"samples": 20}, "shap_cam": {"orderings": 5}}
KINDS = ("linear", "mlp", "pixel", "convolutions")  # a network with each kind of head; the others ask only the game
GAME = ("ablation_cam", "fd_cam", "lift_cam", "lrp_cam", "shap_cam", "grad_cam", "score_cam")

#: What measures an image for a table: name -> (network, function of the network and a sample that gives rows).
MEASURES = {
    **{
        f"faithfulness {name}": (
            {"lfi_maps": "scenes_lfi", "abn_maps": "scenes_abn"}.get(name, "scenes_vgg"),
            faithfulness.of_protocol(replace(protocol, step=0.1, orderings=min(protocol.orderings, 20))),
        )
        for name, protocol in PROTOCOLS.items()
    },
    "orderings": ("scenes_vgg", study(31).question(counts=(1, 2), simulations=2)),
    "convergence": ("scenes_vgg", convergence.question(8, (1, 2, 4), (1,))),
    "pointing": (
        "scenes_vgg",
        pointing.rows_question("pointing", ("grad_cam", "fd_cam", "gradient", pointing.CENTRE, pointing.RANDOM)),
    ),
    "sanity": ("scenes_vgg", study(42).question(methods=("grad_cam", "fd_cam"))),
    "fin": ("scenes_lfi", fin_study.QUESTION),
    "costs": ("scenes_resnet", study(30).QUESTION),
    "gallery": (
        "scenes_resnet",
        lambda model, sample: measure_gallery(
            model, {"one": sample.image}, {"one": [model.class_names[sample.label]]}, ("fd_cam", "gradient"), step=0.1
        ).to_dict("records"),
    ),
    "groups": ("scenes_vgg", groups.question()),
    "group examples": (
        "scenes_vgg",
        lambda model, sample: _records(groups.examples(ChannelGame.of(model, _image(model, sample)), 2, 3)),
    ),
}  # fmt: skip
TIMES = {"seconds", "seconds_per_image"}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class One(Dataset):
    """A data set of one sample."""

    name, card, class_names = "one", "a single image", ()

    def __init__(self, sample: Sample) -> None:
        self.sample, self.ids, self.labels = sample, [sample.id], [sample.label]

    def __getitem__(self, index: int) -> Sample:
        return self.sample


def _image(model: nn.Module, sample: Sample) -> Tensor:
    return model.preprocess(sample.image)[None].to(next(model.parameters()).device)


def _records(frame: pd.DataFrame) -> list[dict]:
    return frame.to_dict("records")


def rows_of(measure: Question | Callable, model: nn.Module, sample: Sample) -> list[dict]:
    """The rows of one image."""
    if isinstance(measure, Question):
        return measure.measure(measure.subject(model, One(sample)), sample)
    return measure(model, sample)


def same(near: object, far: object) -> None:
    """The same numbers, whatever they lie in; what was computed elsewhere is still there."""
    if isinstance(near, torch.Tensor):
        assert isinstance(far, Elsewhere), "a result came back to the CPU"
        torch.testing.assert_close(far.cpu(), near, rtol=1e-4, atol=1e-5, equal_nan=True)
    elif isinstance(near, dict):
        assert near.keys() == far.keys()
        for key in near.keys() - TIMES:
            same(near[key], far[key])
    elif isinstance(near, list | tuple):
        assert len(near) == len(far)
        for a, b in zip(near, far, strict=True):
            same(a, b)
    elif isinstance(near, float):
        # Sums in another order can swap two pixels of a curve, which moves its score by a few 1e-5.
        assert math.isclose(near, far, rel_tol=1e-3, abs_tol=2e-4) or (math.isnan(near) and math.isnan(far))
    else:
        assert near == far


def attempt(method: str, model: nn.Module, images: Tensor) -> object:
    """Maps, weights and classes, or what kind of refusal it is."""
    try:
        found = explain(model, images, methods=method, **SHORT.get(method, {}))
    except (ValueError, RuntimeError) as error:
        if "two devices" in str(error):
            raise
        return type(error).__name__
    return {"maps": found.maps[method], "weights": found.weights.get(method, found.scores), "target": found.targets}


def test_the_pretended_device_refuses_what_a_gpu_refuses():
    with pretended():
        a, b = torch.ones(2, 3, device=DEVICE), torch.ones(2, 3)
        assert isinstance(a, Elsewhere)
        assert (a + 1).sum().item() == 12
        assert (a * torch.tensor(2.0)).tolist() == [[2.0] * 3] * 2  # a scalar may meet it
        assert a[torch.tensor([0])].shape == (1, 3)  # and CPU indices
        assert not isinstance(a.cpu(), Elsewhere)
        for wrong in (lambda: a + b, lambda: torch.cat([a, b]), lambda: b @ a.T, lambda: torch.where(b > 0, a, a)):
            with pytest.raises(RuntimeError, match="two devices"):
                wrong()
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(2, device=DEVICE, generator=torch.Generator())
        with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
            a.numpy()


@pytest.mark.parametrize("name", NETS)
def test_every_method_stays_on_the_networks_device(name):
    model, images = net(name, dtype=torch.float32), random_images(dtype=torch.float32)
    for method in sorted(METHODS if name in KINDS else GAME):
        near = attempt(method, model, images)
        with pretended():
            far = attempt(method, moved(model), images.to(DEVICE))
        same(near, far)


@pytest.mark.parametrize("name", ["scenes_lfi", "scenes_abn", "scenes_lfi_nofin"])
def test_learned_maps_stay_on_the_networks_device(name):
    model = load_model(name)
    images = torch.stack([model.preprocess(scene(seed).image) for seed in (0, 1)])
    for method in ("abn" if name == "scenes_abn" else "lfi_cam", "grad_cam", "score_cam"):
        near = attempt(method, model, images)
        with pretended():
            far = attempt(method, moved(model), images.to(DEVICE))
        same(near, far)


@pytest.mark.parametrize("name", MEASURES)
def test_every_table_is_measured_on_the_networks_device(name):
    network, measure = MEASURES[name]
    model, sample = load_model(network), open_dataset("scenes", n=3)[2]
    near = rows_of(measure, model, sample)
    with pretended():
        far = rows_of(measure, moved(model), sample)
    same(near, far)


def test_questions_are_answered_on_the_networks_device():
    model, questions, asked = load_vqa("vqa_scenes"), SceneQuestions(2), study(37).QUESTION
    near = asked.measure(asked.subject(model, questions), questions[0])
    with pretended():
        far = asked.measure(asked.subject(moved(model), questions), questions[0])
    same(near, far)


@pytest.mark.parametrize("baseline", ["blur", "blur51", "zero"])
@pytest.mark.parametrize("score", ["softmax", "sigmoid", "logit"])
def test_curves(baseline, score):
    model, images = net("linear", dtype=torch.float32), random_images(size=48, dtype=torch.float32)
    maps, targets = torch.rand(2, 3, 48, 48), torch.tensor([1, 2])

    def run(model, images, maps, targets):
        found = metrics.insertion_deletion(model, images, maps, targets, step=0.2, baseline=baseline, score=score)
        return [found.insertion, found.deletion, found.insertion_curve, found.deletion_curve]

    near = run(model, images, maps, targets)
    with pretended():
        far = run(moved(model), images.to(DEVICE), maps.to(DEVICE), targets.to(DEVICE))
    same(near, far)


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
def test_confidence(score):
    model, images = net("mlp", dtype=torch.float32), random_images(dtype=torch.float32)
    maps, targets = torch.rand(2, 3, 24, 24), torch.tensor([1, 2])
    near = metrics.confidence(model, images, maps, targets, score=score)
    with pretended():
        far = metrics.confidence(moved(model), images.to(DEVICE), maps.to(DEVICE), targets.to(DEVICE), score=score)
        far = [far.iic, far.average_drop, far.add]
    same([near.iic, near.average_drop, near.add], far)


def test_the_other_metrics():
    maps, more = torch.rand(4, 12, 12), torch.rand(4, 12, 12)
    boxes = [torch.tensor([[1.0, 2.0, 6.0, 9.0]])] * 4

    def run(maps, more):
        return [
            *(metrics.stability_iou(maps, more, variant=variant) for variant in ("paper", "official")),
            metrics.energy_pointing_game(maps, boxes), metrics.pointing_game(maps, boxes, tolerance=2),
            metrics.shap_cosine(maps.flatten(1), more.flatten(1)),
        ]  # fmt: skip

    near = run(maps, more)
    with pretended():
        far = run(maps.to(DEVICE), more.to(DEVICE))
        for metric in (rank_correlation, structure):  # SciPy's and scikit-image's: the result is on the CPU
            assert torch.equal(metric(maps.to(DEVICE), more.to(DEVICE)), metric(maps, more))
    same(near, far)


def test_stability():
    a, b = torch.rand(6, 4, 4), torch.rand(6, 4, 4)
    near = compare_maps(a, b, b[others(6)], 16)
    with pretended():
        far_a, far_b = a.to(DEVICE), b.to(DEVICE)
        far = compare_maps(far_a, far_b, far_b[others(6)], 16)
    same(near, far)


@pytest.mark.parametrize("kind", ["shift_flip", "resized_crop_flip"])
def test_training_images(kind):
    pixels = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    drawn = draw(torch.arange(5), kind, 16, torch.Generator().manual_seed(0))
    near = normalise(augment(pixels, drawn), (0.5,) * 3, (0.2,) * 3)
    with pretended():
        far = normalise(augment(pixels.to(DEVICE), drawn), (0.5,) * 3, (0.2,) * 3)
    same(near, far)


@pytest.mark.parametrize("attention", [None, "abn", "lfi"])
def test_training(attention, tmp_path, monkeypatch):
    settings = {
        "data": "scenes", "network": "resnet20", "attention": attention, "size": 32, "limit": 12, "limit_test": 7,
        "epochs": 1, "batch": 6, "device": "cpu", "name": "tiny", "folder": str(tmp_path),
    }  # fmt: skip

    def losses() -> list[dict]:
        run = training.Run(make_config(settings))
        assert next(run.network.parameters()).device == run.device
        return [run.epoch(0), evaluate(run.network, run.test, accelerator=run.accelerator)]

    def placed(config):
        accelerator = make(config)
        accelerator.state.device = DEVICE
        return accelerator

    near, make, build = losses(), training.make_accelerator, training.build_network
    monkeypatch.setattr(training, "make_accelerator", placed)
    monkeypatch.setattr(training, "build_network", lambda *given: moved(build(*given)))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    with pretended():
        far = losses()
    same(near, far)
