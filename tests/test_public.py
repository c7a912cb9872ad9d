"""The names that other people's code may use: each is there, under the name that the documentation gives it."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields

import campanion
import pytest

NAMES = {
    "campanion": ("explain", "load_model", "METHODS", "Explanation", "__version__"),
    "campanion.game": ("ChannelGame",),
    "campanion.models": ("build_model", "load_model"),
    "campanion.metrics": (
        "insertion_deletion", "confidence", "pointing_game", "energy_pointing_game", "stability_iou", "shap_cosine",
        "micro", "macro", "box_masks",
    ),
    "campanion.pictures": ("open_picture",),
    "campanion.data": ("open_dataset",),
    "campanion.data.scenes": ("scene",),
    "campanion.cams.methods": ("method",),
    "campanion.results": ("load_result", "load_results"),
    "campanion.training": ("train",),
    "campanion.experiments.runner": ("ask", "Question", "Answer"),
}  # fmt: skip
METHODS = (
    "cam", "grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam", "score_cam", "group_cam", "ablation_cam", "shap_cam",
    "lift_cam", "fd_cam", "lfi_cam", "abn", "cameras", "rise", "lime", "gradient", "smooth_grad",
    "integrated_gradients", "xrai", "lrp_cam", "lime_cam",
)  # fmt: skip
ARGUMENTS = {
    "campanion.explain": ("model", "images", "targets", "methods", "layer"),
    "campanion.models.build_model": ("name", "attention", "generation", "stem", "num_classes"),
    "campanion.metrics.insertion_deletion": ("model", "images", "maps", "targets", "step", "baseline"),
    "campanion.game.ChannelGame.of": ("model", "images", "layer"),
    "campanion.game.ChannelGame.value": ("target",),
    "campanion.game.ChannelGame.shapley": ("target", "orderings", "generator", "antithetic"),
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_the_name_is_there(module, name):
    assert getattr(importlib.import_module(module), name) is not None


def test_every_method_is_there_and_no_more():
    assert set(campanion.METHODS) == set(METHODS)


@pytest.mark.parametrize("path", ARGUMENTS)
def test_the_arguments_keep_their_names(path):
    module = importlib.import_module(".".join(path.split(".")[: 1 + (path.count(".") > 1)]))
    function = module
    for part in path.split(".")[1 + (path.count(".") > 1) :]:
        function = getattr(function, part)
    assert set(ARGUMENTS[path]) <= set(inspect.signature(function).parameters)


def test_an_explanation_keeps_its_fields():
    known = {field.name for field in fields(campanion.Explanation)}
    assert known >= {"maps", "raw", "weights", "degenerate", "targets", "scores"}


@pytest.mark.parametrize("name", ["activations", "logits", "contributions", "head", "value", "shapley"])
def test_a_game_keeps_its_members(name):
    assert hasattr(campanion.game.ChannelGame, name)
