"""Nothing that is read may run: pickles are refused, paths stay inside, and no source line opens a door."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from campanion.data import coco, imagenet, voc, vqa, weights
from campanion.data.download import DownloadError
from campanion.errors import MissingData
from campanion.models.weights import read_weights
from campanion.training.checkpoint import load_state
from nbformat import read as read_notebook

ROOT = Path(__file__).resolve().parents[2]


class Malice:
    """Unpickling it makes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("name", ["weights.npz", "weights.safetensors", "weights.pth", "weights.pt"])
def test_a_malicious_weights_file_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    proof, path = tmp_path / "pwned", tmp_path / name
    if name.endswith(".npz"):
        with path.open("wb") as file:
            np.savez(file, weight=np.array([Malice(proof)], dtype=object))
    elif name.endswith(".pt"):
        torch.save({"weight": Malice(proof)}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Malice(proof)}))
    with pytest.raises(ValueError, match=rf"Weights file .*{name} cannot be read"):
        read_weights(path)
    assert not proof.exists()


@pytest.mark.parametrize("kind", ["malicious", "cut short", "text"])
def test_a_downloaded_file_of_weights_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    proof, served = tmp_path / "pwned", tmp_path / "served.pth"
    torch.save({"weight": Malice(proof) if kind == "malicious" else torch.zeros(9)}, served)
    if kind != "malicious":
        served.write_bytes(served.read_bytes()[:200] if kind == "cut short" else b"not found")
    monkeypatch.setattr(weights, "download", lambda *_, **__: served)
    with pytest.raises(DownloadError, match=r"no file of weights, or holds more than tensors"):
        weights.fetch_weights("weights/alexnet", tmp_path)
    assert not proof.exists()
    assert not (tmp_path / "weights" / "alexnet.safetensors").exists()


def test_a_malicious_training_state_is_not_run(tmp_path: Path) -> None:
    """Even with the right checksum before it, which anybody can compute."""
    content = tmp_path / "content"
    torch.save({"epoch": Malice(tmp_path / "pwned")}, content)
    stored = content.read_bytes()
    (tmp_path / "state.pt").write_bytes(hashlib.sha256(stored).digest() + stored)
    with pytest.raises(ValueError, match=r"state\.pt was not read: it holds more than tensors"):
        load_state(tmp_path)
    assert not (tmp_path / "pwned").exists()


OUTSIDE = ["../secret.jpg", "../../secret.jpg", "/etc/hostname", "images/../../secret.jpg"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_cannot_name_an_image_outside_its_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    for folder in ("coco/images", "voc2007/JPEGImages", "imagenet-val/images", "vqa/images"):
        (root / folder).mkdir(parents=True)
        (root / folder).parent.joinpath("secret.jpg").touch()
    (root / "secret.jpg").touch()
    row = {"image": name, "width": 9, "height": 9, "objects": [], "split": "val", "difficult_only": []}
    question = {"question_id": 1, "question": "why", "answer": "b", "answer_type": "x", "answers": ["b"], "image": name}
    (root / "coco/annotations.json").write_text(json.dumps([row]))
    (root / "voc2007/annotations.json").write_text(json.dumps([row]))
    (root / "vqa/questions.json").write_text(json.dumps([question]))
    (root / "imagenet-val/labels.csv").write_text(f"image,class_index,width,height,boxes_xyxy\n{name},1,9,9,[]\n")
    for opened in (coco.open_coco, voc.open_voc2007, imagenet.open_imagenet_val):
        with pytest.raises(MissingData, match="are not in"):
            opened(root)
    with pytest.raises(ValueError, match="outside the folder"):
        vqa.open_vqa(root)


def test_jupyter_listens_on_this_machine_only_and_keeps_its_token() -> None:
    """JupyterLab asks for a token unless told otherwise; nothing here may tell it."""
    script = (ROOT / "lib" / "campanion" / "notebooks" / "workflow.py").read_text(encoding="utf-8")
    (command,) = [line.strip() for line in script.splitlines() if '"jupyterlab"' in line]
    assert command == 'return _python("-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", "notebooks/00_start_here.ipynb")'
    everything = [p for p in [*ROOT.glob("*"), *ROOT.glob("notebooks/*"), *ROOT.glob("profiles/*/*")] if p.is_file()]
    words = re.compile(r"IdentityProvider|PasswordIdentity|allow_root|ServerApp\.token|disable_check_xsrf")
    assert [p.name for p in everything if words.search(p.read_text(encoding="utf-8", errors="ignore"))] == []


def sources() -> list[tuple[str, str]]:
    """Every Python source of the project: files, and the code of notebooks."""
    found = []
    for folder in ("lib", "benchmarks", "docs"):
        found += [(str(p.relative_to(ROOT)), p.read_text(encoding="utf-8")) for p in (ROOT / folder).rglob("*.py")]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [c.source for c in read_notebook(path, as_version=4).cells if c.cell_type == "code"]
        kept = [line for cell in cells for line in cell.splitlines() if not line.lstrip().startswith(("%", "!", "?"))]
        found.append((path.name, "\n".join(kept)))
    return found


FORBIDDEN = {"eval", "exec", "pickle.load", "pickle.loads", "dill.load", "joblib.load", "pd.read_pickle", "os.system",
             "os.popen", "yaml.load", "yaml.unsafe_load", "torch.hub.load", "marshal.loads", "shelve.open",
             "tempfile.mktemp"}  # fmt: skip


#: They make plain values alone.
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader", "getattr(yaml, 'CSafeLoader', yaml.SafeLoader)"}


def dangers(source: str) -> list[str]:
    """Calls in ``source`` that can run what they read, or a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if (
            (name in FORBIDDEN and not (name == "yaml.load" and ast.unparse(node.args[-1]) in SAFE_LOADERS))
            or (name == "torch.load" and given.get("weights_only") != "True")
            or given.get("allow_pickle", "False") != "False"
            or given.get("shell", "False") != "False"
            or given.get("verify", "True") != "True"
            or (name.endswith(".extractall") and "tar" in name and given.get("filter") != "'data'")
        ):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)", "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "eval(text)",
        "subprocess.run(text, shell=True)", "tar.extractall(folder)", "requests.get(url, verify=False)",
        "yaml.load(text, yaml.Loader)", "os.system(text)",
    ],
)  # fmt: skip
def test_the_scan_sees_each_danger(line: str) -> None:
    assert dangers(line) == [ast.unparse(ast.parse(line))]


def test_the_scan_lets_the_safe_forms_pass() -> None:
    assert dangers("torch.load(p, weights_only=True); np.load(p, allow_pickle=False); model.eval()") == []


@pytest.mark.parametrize(("name", "source"), [pytest.param(n, s, id=n) for n, s in sources()])
def test_no_source_can_run_what_it_reads(name: str, source: str) -> None:
    assert dangers(source) == []


def test_every_address_is_https() -> None:
    found = {
        (name, address)
        for name, source in sources()
        for address in re.findall(r"http://[\w./-]+", source)
        if not address.startswith(("http://images.cocodataset.org", "http://host.robots", "http://127.0.0.1"))
        and not address.startswith("http://www.w3.org/")  # names of formats
    }
    assert found == set()
