"""The command line: ``python -m campanion`` and its ``explain``."""

from __future__ import annotations

import numpy as np
import pytest
from campanion.__main__ import main
from campanion.data.scenes import scene
from PIL import Image


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "my photo.png"
    scene(28, size=96, n_objects=2).image.save(path)
    return path


def test_alone_it_prints_the_commands(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    for command in ("explain", "campanion.data", "campanion.notebooks", "campanion.train", "reproduce.sh"):
        assert command in printed


def test_it_writes_the_files_and_names_them(photo, tmp_path, capsys):
    given = ["explain", str(photo), "--model", "scenes_vgg", "--methods", "lift_cam,fd_cam,", "--class", "arr"]
    assert main([*given, "--out", str(tmp_path / "out"), "--palette", "jet", "--curves"]) == 0
    printed = capsys.readouterr().out
    names = [f"my-photo_scenes_vgg_arrow.{kind}" for kind in ("npz", "pdf", "png")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert all(name in printed for name in names)
    rows = [line.split() for line in printed.splitlines() if line.startswith(("LIFT-CAM", "FD-CAM"))]
    with np.load(tmp_path / "out" / names[0]) as file:
        assert [float(row[1]) for row in rows] == [pytest.approx(s, abs=6e-4) for s in file["seconds"]]
        assert file["class_name"] == "arrow"
        assert file["insertion_fd_cam"].shape == (29,)
    assert (tmp_path / "out" / names[1]).read_bytes().startswith(b"%PDF")
    Image.open(tmp_path / "out" / names[2]).verify()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--methods", "fd_cm"], "Unknown method 'fd_cm'"),
        (["--methods", ","], "--methods names none"),
        (["--methods", "abn"], "abn needs a network"),
        (["--model", "scenes_vg"], "Unknown model 'scenes_vg'"),
        (["--model", "vgg16"], "No weights of vgg16"),
        (["--class", "dog"], "Unknown class 'dog'"),
        (["--layer", "features.99"], "Unknown layer"),
        (["--palette", "jett"], "no palette 'jett'"),
        (["--opacity", "2"], "opacity"),
        (["--channels", "-1"], "--channels"),
        (["--out", "{photo}"], "Cannot write to"),
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


def test_pictures_that_are_none(tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("no picture")
    for path in (tmp_path / "text.jpg", tmp_path / "none.jpg", tmp_path):
        assert main(["explain", str(path), "--model", "scenes_vgg"]) == 2
        assert str(path) in capsys.readouterr().err


def test_an_unknown_command(capsys):
    assert main(["explian"]) == 2
    assert "lists the commands" in capsys.readouterr().err
