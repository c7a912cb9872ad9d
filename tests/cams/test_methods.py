"""Names that stand for a method with options."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from campanion import explain
from campanion.cams import METHODS
from campanion.cams.methods import ROWS, label, parse
from campanion.data import open_dataset
from campanion.experiments.protocols import PROTOCOLS
from campanion.models import load_model
from campanion.report.papers import published


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fd_cam", ("fd_cam", {})),
        ("xgrad_cam:lift", ("xgrad_cam", {"variant": "lift"})),
        ("fd_cam:bias=0.25", ("fd_cam", {"bias": 0.25})),
        ("fd_cam:grouped=False,switch=off", ("fd_cam", {"grouped": False, "switch": "off"})),
        ("fd_cam_linear", ("fd_cam", {"combination": "linear", "bias": 0})),
        ("cameras:sizes=(8,12)", ("cameras", {"sizes": (8, 12)})),
        ("shap_cam: orderings=4, tolerance=None", ("shap_cam", {"orderings": 4, "tolerance": None})),
    ],
)
def test_a_name_stands_for_a_method_and_its_options(name, expected):
    assert parse(name) == expected


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("fd_kam", "fd_cam"),
        ("fd_cam:bais=1", "bias"),
        ("grad_cam:lift", "variant"),
        ("fd_cam:bias=much", "fd_cam: bias must be a number between -1e9 and 1e9, not 'much'"),
        ("fd_cam:grouped=perhaps", "grouped must be a valid boolean"),
        ("shap_cam:orderings=0", "orderings must be a whole number and at least 1, not 0"),
    ],
)
def test_a_wrong_name_or_option_is_refused(name, word):
    with pytest.raises(ValueError, match=word):
        parse(name)


def test_every_row_of_the_ablation_tables_has_a_meaning():
    printed = {*published("fd", "table3").method, *published("fd", "table4").method}
    assert printed == {"fd_cam", *ROWS}
    assert printed == set(PROTOCOLS["fd_ablation"].curves)


def test_every_name_of_a_protocol_can_be_explained():
    models = {name: load_model(name) for name in ("scenes_vgg", "scenes_lfi", "scenes_abn")}
    scene = open_dataset("scenes", n=1)[0].image
    names = {name for p in PROTOCOLS.values() for name in (*p.curves, *p.compared)} - {"score_cam", "group_cam"}
    for name in sorted(names):
        model = models[{"lfi_cam": "scenes_lfi", "cam": "scenes_lfi", "abn": "scenes_abn"}.get(name, "scenes_vgg")]
        image = model.preprocess(scene)[None]
        assert explain(model, image, methods=name).maps[name].isfinite().all()
        assert label(name) != name


def test_labels():
    assert label("fd_cam_ng_off") == "FD-CAM, no groups, off"
    assert label("fd_cam:bias=0,switch=off") == "FD-CAM (bias=0, switch=off)"
    assert label("plain") == "plain"
    assert {label(name) for name in METHODS} == {m.title for m in METHODS.values()}


def test_variants_of_one_method_are_compared_in_one_call():
    model = load_model("scenes_vgg")
    images = torch.stack([model.preprocess(s.image) for s in open_dataset("scenes", n=2)])
    names = ("xgrad_cam", "xgrad_cam:lift", "fd_cam", "fd_cam:bias=0", "score_cam:cic")
    both = explain(model, images, 1, names)
    assert tuple(both.maps) == names
    alone = {
        "xgrad_cam:lift": explain(model, images, 1, "xgrad_cam", variant="lift").maps["xgrad_cam"],
        "fd_cam:bias=0": explain(model, images, 1, "fd_cam", fd_cam={"bias": 0}).maps["fd_cam"],
        "score_cam:cic": explain(model, images, 1, "score_cam", variant="cic").maps["score_cam"],
    }
    for name, expected in alone.items():
        assert torch.equal(both.maps[name], expected)
    assert not torch.equal(both.maps["xgrad_cam"], both.maps["xgrad_cam:lift"])
    assert not torch.equal(both.weights["fd_cam"], both.weights["fd_cam:bias=0"])


def test_options_of_a_name_stand_before_those_of_the_call():
    model = load_model("scenes_vgg")
    image = model.preprocess(open_dataset("scenes", n=1)[0].image)[None]
    e = explain(model, image, 1, ("fd_cam:bias=0", "fd_cam"), bias=0.25)
    assert torch.allclose(e.weights["fd_cam:bias=0"] - e.weights["fd_cam"], torch.tensor(0.25), atol=1e-6)
    e = explain(model, image, 1, ("fd_cam:bias=0", "fd_cam"), fd_cam={"bias": 0.25, "switch": "off"})
    assert torch.allclose(e.weights["fd_cam:bias=0"] - e.weights["fd_cam"], torch.tensor(0.25), atol=1e-6)


def test_options_are_of_the_type_that_their_annotation_says():
    fd, shap, noise = METHODS["fd_cam"], METHODS["shap_cam"], METHODS["smooth_grad"]
    assert fd.check("bias", np.float32(0.5)) == 0.5
    assert shap.check("orderings", np.int64(3)) == 3
    assert METHODS["cameras"].check("sizes", [8, 12]) == (8, 12)
    for entry, option, value in (
        (fd, "bias", True), (fd, "bias", float("nan")), (fd, "bias", "0"), (fd, "grouped", 1), (fd, "switch", None),
        (shap, "orderings", 2.0), (shap, "orderings", None), (shap, "generator", 0), (noise, "samples", 10**12),
        (METHODS["cameras"], "sizes", ()), (METHODS["cameras"], "sizes", (8, 0)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"{entry.name}: {option} must be "):
            entry.check(option, value)
