"""What ``explain`` is given: options find their methods, bad input is refused with a sentence before any work."""

from __future__ import annotations

import pytest
import torch
from campanion import explain, load_model
from nets import net, random_images
from torch import nn


def test_options_find_their_methods() -> None:
    model, images = net("mlp"), random_images()
    three = ("score_cam", "xgrad_cam", "fd_cam")
    e = explain(model, images, 1, three, score_cam={"variant": "cic"}, xgrad_cam={"variant": "lift"}, percentile=40.0)
    own = {"score_cam": {"variant": "cic"}, "xgrad_cam": {"variant": "lift"}, "fd_cam": {"percentile": 40.0}}
    for method, options in own.items():
        assert torch.equal(e.weights[method], explain(model, images, 1, method, **options).weights[method])
        assert not torch.allclose(e.weights[method], explain(model, images, 1, method).weights[method])
    # A method's own dictionary comes before an option for all.
    for options in ({"bias": 0.0, "fd_cam": {"bias": 0.3}}, {"fd_cam": {"bias": 0.3}, "bias": 0.0}):
        own = explain(model, images, 1, "fd_cam", **options).weights["fd_cam"]
        assert torch.equal(own, explain(model, images, 1, "fd_cam", bias=0.3).weights["fd_cam"])


REFUSED = [
    ({"methods": ("grad_cm",)}, r"Unknown method 'grad_cm'\. Did you mean 'grad_cam'"),
    ({"methods": ("fd_cam",), "percentil": 4}, r"Unknown option .* 'percentil'\. Did you mean 'percentile'"),
    ({"methods": ("grad_cam",), "percentile": 4}, "Unknown option for the methods asked 'percentile'"),
    ({"methods": ("fd_cam",), "fd_cam": {"thresh": 4}}, "Unknown option of fd_cam 'thresh'"),
    ({"methods": ("score_cam", "xgrad_cam"), "variant": "lift"}, "variant means different things to score_cam and"),
    ({"layer": "targets"}, r"Unknown layer 'targets'\. Did you mean 'target'"),
    ({"layer": nn.ReLU()}, "is no module of this model"),
    ({"images": torch.zeros(3, 24, 24)}, r"not \(3, 24, 24\)\. Add a batch dimension"),
    ({"images": torch.zeros(0, 3, 24, 24)}, "none of them 0"),
    ({"images": torch.zeros(2, 3, 24, 24, dtype=torch.uint8)}, r"are torch\.uint8 and the model is torch\.float64"),
    ({"images": torch.zeros(2, 3, 24, 24)}, r"images are torch\.float32 and the model is torch\.float64: convert one"),
    ({"images": torch.zeros(2, 3, 24, 24, device="meta").double()}, "images are on meta and the model is on cpu"),
    ({"images": random_images() / torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)}, r"images \[1\] hold NaN or infinite"),
    ({"images": [1, 2]}, "images must be a tensor"),
]


@pytest.mark.parametrize(("wrong", "sentence"), REFUSED, ids=[s[:30] for _, s in REFUSED])
def test_bad_input_is_refused_before_any_work(wrong: dict, sentence: str) -> None:
    model, forwards = net("mlp"), []
    model.stem.register_forward_hook(lambda *_: forwards.append(1))
    arguments = {"images": random_images(), "targets": 1, "methods": ("fd_cam",), **wrong}
    with pytest.raises(ValueError, match=sentence):
        explain(model, arguments.pop("images"), **arguments)
    assert not forwards


def test_classes_and_channels_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"targets must lie in 0\.\.4; got \[5, 5\]"):
        explain(net("mlp"), random_images(), 5)
    with pytest.raises(ValueError, match=r"cannot take images of shape \(2, 1, 24, 24\)"):
        explain(net("mlp"), random_images()[:, :1])


def test_a_wrong_class_is_refused_before_any_forward_where_the_model_names_its_classes() -> None:
    model = load_model("scenes_resnet", weights="random")
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match=r"0\.\.9; got \[10\]"):
        explain(model, torch.rand(1, 3, 64, 64), 10, methods="grad_cam")
    assert not calls
