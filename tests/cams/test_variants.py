"""Names that stand for a method with options."""

from __future__ import annotations

import pytest
from campanion import explain
from campanion.cams import METHODS
from campanion.cams.variants import ROWS, label, parse
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
    ],
)
def test_a_name_stands_for_a_method_and_its_options(name, expected):
    assert parse(name) == expected


@pytest.mark.parametrize(
    ("name", "word"), [("fd_kam", "fd_cam"), ("fd_cam:bais=1", "bias"), ("grad_cam:lift", "variant")]
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
    picture = open_dataset("scenes", n=1)[0].image
    names = {name for p in PROTOCOLS.values() for name in (*p.curves, *p.compared)} - {"score_cam", "group_cam"}
    for name in sorted(names):
        model = models[{"lfi_cam": "scenes_lfi", "cam": "scenes_lfi", "abn": "scenes_abn"}.get(name, "scenes_vgg")]
        image = model.preprocess(picture)[None]
        method, options = parse(name)
        assert explain(model, image, methods=method, **{method: options}).maps[method].isfinite().all()
        assert label(name) != name


def test_labels():
    assert label("fd_cam_ng_off") == "FD-CAM, no groups, off"
    assert label("fd_cam:bias=0,switch=off") == "FD-CAM (bias=0, switch=off)"
    assert label("plain") == "plain"
    assert {label(name) for name in METHODS} == {m.title for m in METHODS.values()}
