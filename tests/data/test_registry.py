"""The registry, its two commands, and weights kept as safetensors; nothing leaves the machine."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from campanion import paths
from campanion.data import DATASETS, open_dataset, registry, weights
from campanion.data.__main__ import main
from campanion.data.download import DownloadError
from campanion.data.entries import Archive, Entry, Layout
from campanion.data.registry import fetch, status
from pydantic import TypeAdapter
from safetensors import safe_open
from torchvision import datasets, models
from torchvision.datasets.voc import DATASET_YEAR_DICT


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the loopback address under which its files are served."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_entry_says_how_it_is_had() -> None:
    for name, entry in DATASETS.items():
        ways = [bool(entry.obtain), bool(entry.archives), name.startswith("weights/")]
        assert sum(ways) == 1, name
        assert entry.title, name
        assert entry.licence, name
        for archive in entry.archives:
            kind, _, digits = archive.checksum.partition(":")
            assert len(digits) == {"md5": 32, "sha256": 64}[kind], archive.url


def test_addresses_agree_with_torchvision() -> None:
    theirs = {
        "imagenette": [datasets.Imagenette._ARCHIVES["160px"]],
        "voc2007": [(DATASET_YEAR_DICT[year]["url"], DATASET_YEAR_DICT[year]["md5"]) for year in ("2007", "2007-test")],
        "cifar10": [(datasets.CIFAR10.url, datasets.CIFAR10.tgz_md5)],
        "cifar100": [(datasets.CIFAR100.url, datasets.CIFAR100.tgz_md5)],
        "stl10": [(datasets.STL10.url, datasets.STL10.tgz_md5)],
    }
    assert {name: [(a.url, a.checksum.removeprefix("md5:")) for a in DATASETS[name].archives] for name in theirs} == theirs
    for name, kind in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100), ("stl10", datasets.STL10)):
        assert DATASETS[name].archives[0].makes == kind.base_folder


def test_every_reader_is_a_function_below_data() -> None:
    readers = [entry.reader for entry in DATASETS.values() if entry.reader]
    assert len(readers) == 12
    assert all(callable(resolve_name(f"campanion.data.{reader}")) for reader in readers)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"licens": "MIT"}, "licens"),
        ({"layouts": [{"pattern": "*"}]}, "path"),
        ({"archives": [{"url": "http://a/b.zip", "folder": "a", "makes": "b"}]}, "checksum"),
        ({"size": 12}, "size"),
    ],
)
def test_the_table_is_checked_when_it_is_read(wrong: dict[str, object], word: str) -> None:
    entry = {"title": "a", "licence": "b", "size": "c", **wrong}
    with pytest.raises(ValueError, match=word):
        TypeAdapter(Entry).validate_python(entry)


def test_unknown_names_list_what_can_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown data set 'imagenet'\. Did you mean 'imagenette' or 'imagenet-val'"):
        open_dataset("imagenet", tmp_path)
    with pytest.raises(ValueError, match=r"Known: .*imagenet-val, imagenette, scenes, stl10, voc2007"):
        open_dataset("voc", tmp_path)
    with pytest.raises(ValueError, match="Unknown data set or weights 'vgg'"):
        registry.find_entry("vgg")


def test_scenes_are_opened_by_name(tmp_path: Path) -> None:
    scenes = open_dataset("scenes", tmp_path, split="test", n=3, seed=1)
    assert len(scenes) == len(scenes.order()) == 3
    assert scenes[0].image.mode == "RGB"
    assert scenes[0].label in scenes[0].labels


def test_status_counts_what_lies_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "coco" / "val2017").mkdir(parents=True)
    for name in ("1.jpg", "2.jpg", "notes.txt"):
        (tmp_path / "coco" / "val2017" / name).touch()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vgg16.safetensors").touch()
    lines = {line.split()[0]: line for line in status(tmp_path).splitlines() if line and not line.startswith("-")}
    assert set(DATASETS) < set(lines)
    assert lines["coco-val2017"].split()[1:3] == ["2", "coco/val2017"]
    assert lines["weights/vgg16"].split()[2] == "weights/vgg16.safetensors"
    assert lines["stl10"].split()[1] == "-"
    assert "by hand" in lines["imagenet-val"]
    assert main(["status", "--root", str(tmp_path / "none")]) == 0
    assert "not there yet" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "says"), [("imagenet-val", "image-net.org"), ("cats-dogs", "kaggle.com")])
def test_sets_that_are_obtained_by_hand_exit_2_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    assert main(["fetch", name, "--root", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert str(tmp_path) in printed.err
    assert list(tmp_path.iterdir()) == []


def test_other_exits(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = ["--root", str(tmp_path)]
    assert main(["fetch", "imagenet-vla", *root]) == 2
    assert "Did you mean 'imagenet-val'" in capsys.readouterr().err
    assert main(["fetch", "scenes", *root]) == 0
    archive = Archive("http://127.0.0.1:9/x.zip", "x", "x", checksum="md5:" + "0" * 32)
    monkeypatch.setitem(DATASETS, "x", Entry("x", "x", "x", (Layout("x"),), archives=(archive,)))
    assert main(["fetch", "x", *root]) == 1
    assert "cannot be reached" in capsys.readouterr().err
    monkeypatch.setattr("campanion.data.registry.download", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["fetch", "x", *root]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    (tmp_path / "file").touch()
    monkeypatch.undo()
    monkeypatch.setitem(DATASETS, "x", Entry("x", "x", "x", (Layout("x"),), archives=(archive,)))
    assert main(["fetch", "x", "--root", str(tmp_path / "file")]) == 1
    assert "could not be stored" in capsys.readouterr().err


def test_fetch_downloads_unpacks_and_leaves_what_is_there(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    with zipfile.ZipFile(folder / "pictures.zip", "w") as zipped:
        zipped.writestr("val/1.jpg", b"one")
    md5 = hashlib.md5((folder / "pictures.zip").read_bytes()).hexdigest()
    archive = Archive(f"{address}/pictures.zip", "toy", "val", checksum=f"md5:{md5}")
    monkeypatch.setitem(DATASETS, "toy", Entry("toy", "none", "1", (Layout("toy/val", "*"),), archives=(archive,)))
    root = tmp_path / "data"
    assert fetch("toy", root) == [root / "toy" / "val"]
    assert [p.name for p in (root / "toy").iterdir()] == ["val"]
    assert DATASETS["toy"].find(root) == (root / "toy" / "val", 1)
    (folder / "pictures.zip").unlink()
    assert fetch("toy", root) == [root / "toy" / "val"]


def test_weights_become_safetensors(tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = served
    state = models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, folder / "squeezenet1_1.pth")
    sha256 = hashlib.sha256((folder / "squeezenet1_1.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(weights, "source", lambda network: (f"{address}/{network}.pth", sha256[:8]))
    (made,) = fetch("weights/squeezenet1_1", tmp_path)
    assert [p.name for p in made.parent.iterdir()] == ["squeezenet1_1.safetensors"]
    with safe_open(made, "pt") as file:
        assert file.metadata()["sha256"] == sha256
        assert file.metadata()["source"].startswith(address)
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(key), value) for key, value in state.items())
    (folder / "squeezenet1_1.pth").unlink()
    assert fetch("weights/squeezenet1_1", tmp_path) == [made]
    packed = made.rename(made.with_suffix(".npz"))  # the other form in which weights may lie there
    assert fetch("weights/squeezenet1_1", tmp_path) == [packed]


def test_foreign_weights_are_refused() -> None:
    with pytest.raises(DownloadError, match="does not hold the weights of squeezenet1_1"):
        weights.checked_state("squeezenet1_1", {"classifier.1.weight": torch.zeros(3)})


def test_old_names_of_densenet_are_translated() -> None:
    with torch.device("meta"):
        model = models.densenet121()
    old = {
        re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): torch.zeros(value.shape)
        for key, value in model.state_dict().items()
        if "num_batches" not in key
    }
    assert any("denselayer1.norm.1." in key for key in old)
    assert set(weights.checked_state("densenet121", old)) == set(model.state_dict())


def test_sources_are_torchvisions() -> None:
    url, sha256 = weights.source("vgg16")
    assert url == models.VGG16_Weights.IMAGENET1K_V1.url
    assert url.endswith(f"-{sha256}.pth")
    assert registry.find_entry("weights/resnet34").size == "83 MB"
    assert weights.entry("weights/nothing") is None
    assert weights.entry("vgg16") is None
    assert all(len(weights.source(network)[1]) >= 8 for network in weights.NETWORKS)


def test_command_line_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "campanion.data", "status"]
    environment = os.environ | {"CAMPANION_DATA": str(tmp_path), "PYTHONPATH": str(paths.root() / "lib")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"Data folder: {tmp_path}" in done.stdout
    assert "fetch weights/vgg16" in done.stdout


@pytest.mark.real_data
def test_status_of_the_real_folder() -> None:
    if not (paths.data_dir() / "imagenet-val").is_dir():
        pytest.skip("real data: CAMPANION_DATA has no imagenet-val")
    found = DATASETS["imagenet-val"].find(paths.data_dir())
    assert found == (paths.data_dir() / "imagenet-val" / "images", 2306)
