"""The command line: ``campanion``, its ``explain``, and what it refuses."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import torch
from campanion.__main__ import main
from campanion.cams.explain import explain
from campanion.data.scenes import scene
from campanion.explorer.files import overlay
from campanion.models import load_model
from campanion.paths import sha256
from PIL import Image


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "my photo.png"
    scene(28, size=96, n_objects=2).image.save(path)
    return path


@pytest.fixture
def ask(tmp_path, capsys):
    """Explain something with the small network; returns the exit status, the files' names and what was printed."""

    def run(*words, methods="grad_cam"):
        given = ["--model", "scenes_vgg", "--methods", methods, "--channels", "0", "--out", tmp_path / "out"]
        status = main(["explain", *map(str, [*given, *words])])
        made = sorted(path.name for path in (tmp_path / "out").glob("*.npz"))
        return status, made, capsys.readouterr()

    return run


def test_alone_it_prints_the_commands(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    for command in ("explain", "train", "grid", "trained", "scoreboard", "data", "notebooks", "reproduce.sh"):
        assert command in printed


def test_it_writes_the_files_and_names_them(photo, tmp_path, capsys):
    given = ["explain", str(photo), "--model", "scenes_vgg", "--methods", "lift_cam,fd_cam,", "--class", "arr"]
    assert main([*given, "--out", str(tmp_path / "out"), "--palette", "jet", "--curves"]) == 0
    printed = capsys.readouterr().out
    stem = "my-photo_scenes_vgg_arrow_lift_cam+fd_cam_palettejet_curves"
    names = [f"{stem}.{kind}" for kind in ("npz", "pdf", "png")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert all(name in printed for name in names)
    rows = [line.split() for line in printed.splitlines() if line.startswith(("LIFT-CAM", "FD-CAM"))]
    with np.load(tmp_path / "out" / names[0]) as file:
        assert [float(row[1]) for row in rows] == [pytest.approx(s, abs=6e-4) for s in file["seconds"]]
        assert file["class_name"] == "arrow"
        assert file["insertion_fd_cam"].shape == (29,)
        assert (file["image"], file["image_sha256"]) == (str(photo), sha256(photo))
        assert (file["image_size"].tolist(), file["layer"], file["model"]) == ([96, 96], "features.14", "scenes_vgg")
        options, versions = (json.loads(str(file[key])) for key in ("options", "versions"))
        assert options["look"]["palette"] == "jet"
        assert options["methods"] == ["lift_cam", "fd_cam"]
        assert versions["torch"] == torch.__version__.partition("+")[0]
        model = load_model("scenes_vgg")
        image = model.preprocess(scene(28, size=96, n_objects=2).image)[None]
        found = explain(model, image, int(file["target"]), ("lift_cam", "fd_cam"))
        for i, name in enumerate(("lift_cam", "fd_cam")):
            np.testing.assert_allclose(file["maps"][i], found.maps[name][0], atol=1e-6)
    assert (tmp_path / "out" / names[1]).read_bytes().startswith(b"%PDF")
    Image.open(tmp_path / "out" / names[2]).verify()


def test_several_images_and_folders_and_a_bad_one(photo, tmp_path, ask):
    for i, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        scene(i, size=64).image.save(tmp_path / folder / "a.png")
    (tmp_path / "two" / "bad.jpg").write_text("no image")
    (tmp_path / "two" / "notes.txt").write_text("not looked at")
    status, made, printed = ask(photo, tmp_path / "one", tmp_path / "two", tmp_path / "none.jpg")
    assert status == 1
    assert [name.partition("_")[0] for name in made] == ["my-photo", "one-a-png", "two-a-png"]
    assert [line.partition(": ")[0] for line in printed.err.splitlines()] == [
        str(tmp_path / "two" / "bad.jpg"), str(tmp_path / "none.jpg"),
    ]  # fmt: skip
    assert printed.out.count("explained: ") == 3


def test_namesakes_and_other_options_replace_nothing(photo, tmp_path, ask):
    (tmp_path / "other").mkdir()
    scene(5, size=64).image.save(tmp_path / "other" / "my photo.png")
    asked = [[], ["--layer", "features.8"], ["--opacity", "0.3"], ["--class", "disc"], ["--activation", "sigmoid"]]
    for count, words in enumerate(asked, start=1):
        status, made, printed = ask(photo, *words)
        assert (status, printed.err, len(made)) == (0, "", count)
    _, made, _ = ask(photo, methods="fd_cam:bias=0,switch=off,grad_cam")
    assert len(made) == 6
    assert sum("fd_cam-bias-0-switch-off+grad_cam" in name for name in made) == 1
    _, made, _ = ask(tmp_path / "other" / "my photo.png", "--class", "disc")
    assert len(made) == 7
    assert sum(name.startswith("other-my-photo-png_scenes_vgg_disc_grad_cam") for name in made) == 1


def test_what_is_there_is_replaced_by_force_alone(photo, tmp_path, ask):
    _, (name,), _ = ask(photo)
    first = (tmp_path / "out" / name).stat().st_mtime_ns
    status, made, printed = ask(photo)
    assert (status, made) == (2, [name])
    assert "is there already: --force" in printed.err
    assert (tmp_path / "out" / name).stat().st_mtime_ns == first
    assert ask(photo, "--force")[0] == 0
    assert (tmp_path / "out" / name).stat().st_mtime_ns > first


def test_standard_input(photo, tmp_path, ask, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(photo.read_bytes())))
    status, made, _ = ask("-")
    assert status == 0
    assert made[0].startswith("stdin_")
    with np.load(tmp_path / "out" / made[0]) as file:
        assert file["image_sha256"] == sha256(photo)


def test_a_network_of_ones_own(photo, tmp_path, ask, monkeypatch):
    lines = (
        "from campanion import load_model",
        "def net():",
        "    model = load_model('scenes_resnet').train()",
        "    model.class_names = [f'kind {k}' for k in range(10)]",
        "    del model.activation",
        "    return model",
    )
    (tmp_path / "mine.py").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    status, made, printed = ask(photo, "--model", "mine:net", "--class", "kind 3")
    assert (status, made) == (0, ["my-photo_mine-net_kind-3_grad_cam_channels0.npz"]), printed.err
    image = load_model("scenes_resnet").preprocess(Image.open(photo).convert("RGB"))[None]
    expected = explain(load_model("scenes_resnet"), image, 3, methods="grad_cam").maps["grad_cam"][0]
    with np.load(tmp_path / "out" / made[0]) as numbers:
        assert np.allclose(numbers["maps"][0], expected, atol=1e-6)
    (tmp_path / "made.py").write_text("import mine\nready = mine.net()")
    assert ask(photo, "--model", "made:ready", "--class", "kind 3")[0] == 0


def test_a_network_of_ones_own_in_a_wrapper_and_what_is_wrong_with_one(photo, tmp_path, ask, monkeypatch):
    lines = (
        "import torch",
        "from campanion import load_model",
        "def wrapped(): return torch.nn.DataParallel(load_model('scenes_vgg'))",
        "def named(names):",
        "    model = load_model('scenes_vgg')",
        "    model.class_names = names",
        "    return model",
        "def letters(): return named(set('abcdefghij'))",
        "def numbers(): return named(dict(zip('abcdefghij', range(10))))",
        "def layered():",
        "    model = torch.nn.Sequential(load_model('scenes_vgg'))",
        "    model.class_names, model.preprocess = list('abcdefghij'), torch.nn.Identity()",
        "    return model",
        "def misfit(): return load_model('scenes_vgg').load_state_dict({})",
    )
    (tmp_path / "mine2.py").write_text("\n".join(lines))
    (tmp_path / "typo.py").write_text("def net(:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    status, made, printed = ask(photo, "--model", "mine2:wrapped", "--class", "star", "--layer", "features.12")
    assert (status, made) == (0, ["my-photo_mine2-wrapped_star_features.12_grad_cam_channels0.npz"]), printed.err
    for place, sentence in {
        "mine2:letters": ".class_names is a list of words in the order of the logits",
        "mine2:numbers": ".class_names is a list of words",
        "mine2:layered": "A Sequential runs its .preprocess as a layer",
        "mine2:misfit": "mine2:misfit cannot be made: RuntimeError: Error(s) in loading state_dict",
        "typo:net": "typo:net cannot be made: SyntaxError",
    }.items():
        status, _, printed = ask(photo, "--model", place, "--class", "b")
        assert status == 2
        assert sentence in printed.err


def test_an_overlay_has_the_size_of_the_image(tmp_path, ask):
    scene(28, size=224, n_objects=2).image.resize((300, 200)).save(tmp_path / "wide.png")
    assert ask(tmp_path / "wide.png", "--overlay")[0] == 0
    (path,) = (tmp_path / "out").glob("*_grad_cam_overlay.png")
    assert Image.open(path).size == (300, 200)


def test_an_overlay_is_the_colour_of_the_map_at_its_opacity():
    image = Image.new("RGB", (4, 2), (100, 100, 100))
    laid = np.asarray(overlay(image, torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2), 0.6, "gray"))
    assert laid[0, 0].tolist() == [80, 80, 80]  # a third of 0.6 black
    assert laid[0, 3].tolist() == [193, 193, 193]  # 0.6 white


def test_sixteen_bits_of_which_few_are_used_are_mentioned(tmp_path, ask):
    grey = np.arange(64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "dark.png")
    Image.fromarray(grey * 16).save(tmp_path / "bright.png")
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "dark.tif")
    status, made, printed = ask(tmp_path / "dark.png", tmp_path / "bright.png", tmp_path / "dark.tif")
    assert (status, len(made)) == (0, 3)
    lines = printed.err.splitlines()
    for name, line in zip(("dark.png", "dark.tif"), lines, strict=True):
        assert f"{name} has 16 bits, but no value above 4,095 of 65,535" in line


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--methods", "fd_cm"], "Unknown method 'fd_cm'"),
        (["--methods", ","], "--methods names none"),
        (["--methods", "abn"], "abn needs a network"),
        (["--model", "scenes_vg"], "Unknown model 'scenes_vg'"),
        (["--model", "vgg16"], "No weights of vgg16"),
        (["--model", "no_such:net"], "The network no_such:net cannot be made: ModuleNotFoundError: No module named"),
        (["--model", "math:nothing"], "cannot be made: AttributeError: module 'math' has no attribute 'nothing'"),
        (["--model", "math:sin"], "cannot be made: TypeError: math.sin() takes exactly one argument"),
        (["--model", "c:/net.pth"], "mine:network is the torch.nn.Module that network() of mine.py in this folder"),
        (["--model", "collections:OrderedDict"], "'collections.OrderedDict' object has no attribute 'eval'"),
        (["--model", "torch.nn:Identity"], "This network has no .preprocess"),
        (["--methods", "Grad-CAM"], "Did you mean 'grad_cam'"),
        (["--class", "dog"], "Unknown class 'dog'"),
        (["--class", "higher"], "one output; this one has 10"),
        (["--layer", "features.99"], "Unknown layer"),
        (["--palette", "jett"], "no palette 'jett'"),
        (["--opacity", "2"], "opacity"),
        (["--channels", "-1"], "--channels"),
        (["--out", "{photo}"], "Cannot write to"),
        (["--activation", "relu"], "'relu' is not one of 'softmax', 'sigmoid'"),
        (["--metods", "x"], "'--methods'"),
        (["--device", "gpu"], "--device gpu: Expected one of cpu, cuda"),
    ],
)
def test_one_sentence_and_status_2(given, sentence, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    monkeypatch.setenv("CAMPANION_OFFLINE", "1")
    given = [text.format(photo=photo) for text in given]
    assert main(["explain", str(photo), "--model", "scenes_vgg", *given]) == 2
    written = capsys.readouterr()
    assert sentence in written.err
    assert len(written.err.strip().splitlines()) == 1
    assert written.out == ""
    assert not (tmp_path / "out").exists()  # no empty folder is left behind


def test_images_that_are_none(tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "text.jpg", tmp_path / "none.jpg", tmp_path / "empty"):
        assert main(["explain", str(path), "--model", "scenes_vgg"]) == 2
        assert str(path) in capsys.readouterr().err


def test_an_unknown_command(capsys):
    assert main(["explian"]) == 2
    assert "Unknown command 'explian'. Did you mean 'explain'?" in capsys.readouterr().err


def test_a_package_that_an_extra_brings_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for name in [name for name in sys.modules if name.startswith(("campanion.report", "campanion.results"))]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["scoreboard"]) == 2
    assert "needs the package pandas" in capsys.readouterr().err
