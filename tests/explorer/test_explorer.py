"""The explorer: what a bench keeps and answers, what is drawn and saved, and how the widget follows its controls."""

from __future__ import annotations

import asyncio
import io
from base64 import b64decode
from datetime import UTC, datetime

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from campanion import explain, load_model, metrics
from campanion.data.scenes import CLASS_NAMES
from campanion.errors import MissingData
from campanion.explorer import Bench, Explorer, Knobs, bench, draw, find_class, network, pictures, png, save, search
from PIL import Image

METHODS = ("grad_cam", "fd_cam", "lift_cam")


@pytest.fixture(scope="module")
def scene():
    return pictures()["scene 28"]()


@pytest.fixture
def vgg(scene):
    return Bench(load_model("scenes_vgg"), scene, "scene 28")


def uploaded(image: Image.Image, name: str, kind: str) -> tuple[dict, ...]:
    """What a browser sends of a chosen file."""
    file = io.BytesIO()
    image.save(file, kind)
    content = file.getvalue()
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return ({"name": name, "type": "image", "size": len(content), "content": content, "last_modified": when},)


def own(**attributes: object) -> torch.nn.Module:
    """A network of ten classes with attributes of the user's."""
    model = load_model("scenes_vgg")
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


# ---- the bench
def test_a_bench_says_what_explain_says(vgg, scene):
    image = vgg.model.preprocess(scene)[None]
    for target in (vgg.predicted, 8):
        expected = explain(vgg.model, image, target, methods=METHODS)
        for method in METHODS:
            answer = vgg.explain(method, target)
            assert torch.allclose(answer.map, expected.maps[method][0], atol=1e-6)
            assert torch.allclose(answer.weights, expected.weights[method][0], atol=1e-6)
    assert vgg.explain("fd_cam:bias=0", 8).map.shape == image.shape[2:]
    assert vgg.explain("layer_cam").weights is None


def test_another_class_or_cheap_method_costs_no_forward_pass(scene):
    model, passes = load_model("scenes_resnet"), []
    model.register_forward_hook(lambda *_: passes.append(1))
    kept = Bench(model, scene)
    for target in range(len(CLASS_NAMES)):
        for method in (*METHODS, "ablation_cam"):
            kept.explain(method, target)
    assert len(passes) == 1


def test_curves_are_those_of_the_map(vgg, scene):
    image = vgg.model.preprocess(scene)[None]
    expected = metrics.insertion_deletion(
        vgg.model, image, vgg.explain("grad_cam").map[None], torch.tensor([vgg.predicted]), step=bench.STEP
    )
    found = vgg.curves("grad_cam")
    assert found is vgg.curves("grad_cam")
    assert torch.allclose(found.insertion_curve, expected.insertion_curve, atol=1e-5)
    assert torch.allclose(found.deletion, expected.deletion, atol=1e-5)


def test_what_is_kept_stays_bounded(vgg, monkeypatch):
    monkeypatch.setattr(bench, "KEPT", 5)
    monkeypatch.setattr(bench, "CLASSES", 3)
    most = 0
    for target in range(10):
        for method in METHODS:
            vgg.explain(method, target)
        most = max(most, sum(key[0] == "gradient" for key in vgg.game._kept if isinstance(key, tuple)))
    assert len(vgg._kept) == 5
    assert most == 3


def test_the_heaviest_channels_come_first(vgg):
    answer = vgg.explain("lift_cam")
    best = answer.channels(4)
    assert [w for _, w in best] == sorted(answer.weights.tolist(), reverse=True)[:4]
    assert all(float(answer.weights[k]) == w for k, w in best)


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet"])
def test_every_layer_that_is_offered_can_be_explained(name, scene):
    model = load_model(name)
    layers = Bench(model, scene).layers()
    assert model.target_layer in layers
    assert not any("classifier" in layer or layer == "fc" for layer in layers)
    for layer in layers:
        assert Bench(model, scene, layer=layer).explain("grad_cam").map.shape == (64, 64)


def test_classes_are_found_by_name():
    chances = torch.tensor([0.1, 0.5, 0.2, 0.15, 0.03, 0.02])
    names = ["tabby", "Tiger cat", "pug", "tiger", "crane", "crane"]
    assert [k for k, _, _ in search(names, chances)] == [1, 2, 3, 0, 4]
    assert search(names, chances, " TIGER ") == [(1, "Tiger cat", 0.5), (3, "tiger", 0.15)]
    assert [find_class(names, text) for text in ("tiger", "Tiger CAT", "pu", "3", "crane")] == [3, 1, 2, 3, 4]
    for wrong, sentence in (
        ("t", "part of 3 class names"),
        ("dog", "Unknown class 'dog'"),
        ("6", "0 to 5"),
        ("", "''"),
    ):
        with pytest.raises(ValueError, match=sentence):
            find_class(names, wrong)


def test_bad_requests_are_named(vgg, scene):
    for call, sentence in (
        (lambda: vgg.explain("fd_cm"), "fd_cam"),
        (lambda: vgg.explain("fd_cam", 10), "0..9"),
        (lambda: vgg.explain("abn"), "attention branch"),
        (lambda: Bench(vgg.model, scene, layer="features.99"), "Unknown layer"),
        (lambda: Bench(torch.nn.Conv2d(3, 3, 1), scene), "no .preprocess"),
        (lambda: Bench(own(class_names=["healthy", "rust"]), scene), "gives 10 logits, but its .class_names has 2"),
        (lambda: Bench(own(preprocess=np.asarray), scene), "images must be a tensor"),
        (lambda: draw(vgg, METHODS, palette="jett"), "no palette 'jett'"),
        (lambda: draw(vgg, METHODS, opacity=1.5), "opacity"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()


# ---- images and networks
def test_images_of_a_folder(tmp_path, scene):
    scene.convert("CMYK").save(tmp_path / "b.jpg")
    scene.convert("L").save(tmp_path / "a.PNG")
    (tmp_path / "notes.txt").write_text("no image")
    found = pictures(tmp_path)
    assert list(found)[-2:] == ["a.PNG", "b.jpg"]
    assert "chelsea" in found
    assert {found[name]().mode for name in ("a.PNG", "b.jpg")} == {"RGB"}
    with pytest.raises(MissingData, match="no folder"):
        pictures(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingData, match="holds no image"):
        pictures(tmp_path / "empty")


def test_choosing_a_network_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    monkeypatch.setattr("campanion.data.weights.fetch_weights", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(MissingData, match="fetch weights/vgg16"):
        network("vgg16")


# ---- figure and files
def pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"), dtype=int)


def test_the_figure_holds_what_was_asked(vgg):
    before = plt.get_fignums()
    figure = draw(vgg, METHODS, curves=True)
    assert [ax.get_title() for ax in figure.axes[:4]] == ["heart, 100\u00a0%", "Grad-CAM", "FD-CAM", "LIFT-CAM"]
    texts = [text.get_text() for text in figure.axes[4].texts]
    assert sum("\n" in text for text in texts) == 5 * len(METHODS)
    assert [ax.get_title().partition(":")[0] for ax in figure.axes[5:]] == ["insertion", "deletion"]
    areas = [text.get_text() for text in figure.axes[5].get_legend().get_texts()]
    assert areas[1] == f"{float(vgg.curves('fd_cam').insertion):.3f} FD-CAM"
    assert plt.get_fignums() == before
    drawn = next(ax for ax in figure.axes if ax.get_title() == "FD-CAM").images[-1].get_array()
    assert np.allclose(drawn, vgg.explain("fd_cam").map)


def test_opacity_and_palette_change_only_the_colours(vgg):
    plain = pixels(draw(vgg, METHODS, opacity=0, channels=0))
    assert np.array_equal(plain, pixels(draw(vgg, METHODS, opacity=0, palette="jet", channels=0)))
    jet = pixels(draw(vgg, METHODS, palette="jet", channels=0))
    assert not np.array_equal(jet, pixels(draw(vgg, METHODS, channels=0)))
    left = plain.shape[1] // 5
    assert np.array_equal(plain[:, : left - 10], jet[:, : left - 10])  # the image itself


def test_a_network_whose_activation_is_a_layer_is_saved(scene, tmp_path):
    kept = Bench(own(activation=torch.nn.ReLU()), scene, "scene 28")
    with np.load(save(kept, ["grad_cam"], tmp_path)[2]) as numbers:
        assert "ReLU" in str(numbers["options"])


def test_saved_files_hold_the_numbers(vgg, tmp_path):
    made = save(vgg, METHODS, tmp_path / "new", 8, curves=True)
    assert [path.name for path in made] == [f"scene-28_scenes_vgg_arrow.{kind}" for kind in ("png", "pdf", "npz")]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in made)
    Image.open(made[0]).verify()
    with np.load(made[2], allow_pickle=False) as file:
        assert list(file["methods"]) == list(METHODS)
        assert (file["class_name"], file["target"], file["layer"]) == ("arrow", 8, "features.14")
        assert np.array_equal(file["maps"][2], vgg.explain("lift_cam", 8).map)
        assert np.array_equal(file["weights_fd_cam"], vgg.explain("fd_cam", 8).weights)
        assert file["probabilities"].sum() == pytest.approx(1, abs=1e-5)
        assert np.array_equal(file["deletion_fd_cam"], vgg.curves("fd_cam", 8).deletion_curve[0])
    first = [path.read_bytes() for path in made[:2]]
    assert [path.read_bytes() for path in save(vgg, METHODS, tmp_path / "new", 8, curves=True)[:2]] == first
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="Choose another folder"):
        save(vgg, METHODS, tmp_path / "file")


# ---- the widget
def test_the_widget_follows_its_controls(tmp_path):
    shown = Explorer(out=tmp_path)
    seen = [shown.image.value]

    def changed() -> bool:
        seen.append(shown.image.value)
        return seen[-1] not in seen[:-1] and shown.status.value == ""

    assert shown.target.label == "heart (100\u00a0%)"
    assert [index for _, index in shown.target.options] == [
        k for k, _, _ in search(CLASS_NAMES, shown.bench.probabilities)
    ]
    shown.methods["ablation_cam"].value = True
    assert changed()
    assert "Ablation-CAM" in shown.times.value
    shown.query.value = "arr"
    assert [index for _, index in shown.target.options] == [8, 6]  # the chosen class stays in sight
    shown.target.value = 8
    assert changed()
    shown.palette.value = "jet"
    assert changed()
    shown.opacity.value = 0.9
    assert changed()
    shown.layer.value = "features.12"
    assert changed()
    assert (shown.bench.layer, shown.target.value) == ("features.12", 8)
    shown.model.value = "scenes_resnet"
    assert changed()
    assert (shown.layer.value, shown.target.value) == ("layer3", shown.bench.predicted)
    shown.curves.value = True
    assert changed()
    shown.button.click()
    assert len(list(tmp_path.iterdir())) == 3
    assert "scene-28_scenes_resnet" in shown.status.value


def test_a_page_never_shows_a_new_list_with_the_old_choice(monkeypatch):
    shown, sent = Explorer(model="scenes_vgg"), []
    monkeypatch.setattr(
        shown.target, "send_state", lambda key: sent.append({key} if isinstance(key, str) else set(key))
    )
    chosen = shown.target.value
    shown.query.value = "arr"
    assert shown.target.value == chosen
    assert shown.target.index > 0  # it stands behind what the search finds
    assert [names for names in sent if names & {"_options_labels", "index"}] == [{"_options_labels", "index"}]


def test_an_uploaded_image_is_explained_and_kept_once():
    shown = Explorer()
    before = shown.image.value
    for colour in ((0, 200, 0, 0), (200, 0, 90, 0)):
        shown.upload.value = uploaded(Image.new("CMYK", (50, 80), colour), "<b>mine.jpg", "JPEG")
        assert shown.picture.value == "<b>mine.jpg"
        assert shown.image.value != before
        before = shown.image.value
    assert shown.upload.value == ()
    assert list(shown._added) == ["<b>mine.jpg"]
    shown.upload.value = ({**uploaded(Image.new("L", (9, 9)), "<i>bad.png", "PNG")[0], "content": b"text"},)
    assert "&lt;i&gt;bad.png" in shown.status.value
    assert shown.picture.value == "<b>mine.jpg"


def test_what_cannot_be_shown_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    network.cache_clear()
    shown = Explorer(methods=("grad_cam", "abn"))
    assert shown.status.value.startswith("ABN: abn needs a network with an attention branch")
    assert "Grad-CAM" in shown.times.value
    shown.model.value = "vgg16"
    assert "fetch weights/vgg16" in shown.status.value
    assert (shown.image.value, shown.image.layout.display, shown.times.value) == (b"", "none", "")
    shown.button.click()
    assert "fetch weights/vgg16" in shown.status.value
    shown.model.value = "scenes_vgg"
    assert (shown.image.value != b"", shown.image.layout.display) == (True, None)
    shown.folder.value = str(tmp_path / "none")
    assert "no folder" in shown.status.value


def test_of_quick_changes_the_last_one_wins(monkeypatch):
    computed = []
    real = Bench.explain

    def counted(self, method, target=None):
        computed.append((method, target))
        return real(self, method, target)

    async def use() -> Explorer:
        shown = Explorer(methods=("grad_cam",))
        monkeypatch.setattr(Bench, "explain", counted)
        for target in (0, 1, 2, 7, 8):
            shown.query.value = CLASS_NAMES[target]
            shown.target.value = target
            await asyncio.sleep(0)
        shown.palette.value = "jet"
        while shown._task is not None:
            await asyncio.sleep(0.01)
        return shown

    shown = asyncio.run(use())
    assert {target for _, target in computed} == {8}  # the earlier ones were not begun
    assert shown.image.value == png(draw(shown.bench, ["grad_cam"], 8, palette="jet"))


def test_two_classes_two_networks_and_fd_cams_options_stand_together():
    shown = Explorer(methods=("grad_cam", "fd_cam"))
    one = Image.open(io.BytesIO(shown.image.value)).size
    shown.bias.value = 0
    shown.theta.value = 20
    assert shown.chosen == ["grad_cam", "fd_cam:bias=0,percentile=20"]
    wanted = explain(shown.bench.model, shown.bench.image, shown.target.value, methods=(shown.chosen[1],))
    assert torch.equal(shown.bench.explain(shown.chosen[1]).map, wanted.maps[shown.chosen[1]][0])
    shown.other_class.value = 8
    two = Image.open(io.BytesIO(shown.image.value)).size
    assert two == (one[0], 2 * one[1])
    shown.other_model.value = "scenes_resnet"
    assert shown.times.value.count("forward pass") == 3
    shown.other_class.value, shown.other_model.value = None, "-"
    assert Image.open(io.BytesIO(shown.image.value)).size == one


# ---- knobs of other pages
def test_knobs_follow_and_their_strip_is_stored(monkeypatch):
    monkeypatch.delenv("CAMPANION_BATCH", raising=False)
    asked = []

    def figure(b, kind, mark):
        asked.append((b, kind, mark))
        made = plt.figure(figsize=(2, 1))
        made.text(0.1, 0.5, f"{b} {kind} {mark}")
        plt.close(made)
        return made

    shown = Knobs(figure, [{"b": 0.25}, {"b": 1.0, "kind": "y"}], b=(0.0, 1.0, 0.25), kind=["x", "y"], mark=False)
    assert asked == [(0.25, "x", False)]
    before = shown.image.value
    shown.controls["kind"].value = "y"
    assert asked[-1] == (0.25, "y", False)
    assert shown.image.value != before
    monkeypatch.setenv("CAMPANION_BATCH", "1")
    stored = shown._repr_mimebundle_()
    assert set(stored) == {"image/png", "text/plain"}
    assert asked[-2:] == [(0.25, "x", False), (1.0, "y", False)]
    strip = Image.open(io.BytesIO(b64decode(stored["image/png"])))
    single = Image.open(io.BytesIO(before))
    assert strip.size == (single.width, 2 * single.height)
    assert "b = 1.0, kind = y" in stored["text/plain"]
    assert stored == shown._repr_mimebundle_()


def test_a_knob_that_fails_says_why_and_goes_on(monkeypatch):
    monkeypatch.delenv("CAMPANION_BATCH", raising=False)

    def figure(b):
        if b > 1:
            raise ValueError("b is at most 1.")
        return plt.figure(figsize=(1, 1))

    shown = Knobs(figure, [{"b": 0}], b=(0, 3))
    shown.controls["b"].value = 2
    assert (shown.status.value, shown.image.value) == ("b is at most 1.", b"")
    shown.controls["b"].value = 1
    assert shown.status.value == ""
    assert shown.image.value != b""
    with pytest.raises(ValueError, match="No control can be made of b"):
        Knobs(figure, [], b=object())


def test_a_stored_notebook_shows_an_image_and_no_widget(monkeypatch):
    monkeypatch.delenv("CAMPANION_BATCH", raising=False)
    shown = Explorer(picture=Image.new("RGB", (40, 30), "teal"), model=load_model("scenes_resnet"))
    live = shown._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in live
    monkeypatch.setenv("CAMPANION_BATCH", "1")
    stored = shown._repr_mimebundle_()
    assert set(stored) == {"image/png", "text/plain"}
    assert stored["text/plain"].startswith("Explorer: picture in SceneResNet, class ")
    assert stored["image/png"] == Explorer(shown._added["picture"], "scenes_resnet")._repr_mimebundle_()["image/png"]


def test_an_image_that_is_neither_a_name_nor_a_file_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"Unknown image or file 'scen 28'\. Did you mean 'scene 28'"):
        Explorer("scen 28", load_model("scenes_resnet"))
