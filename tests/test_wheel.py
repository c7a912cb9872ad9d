"""The built wheel without the checkout: the public interface and the command line, from an empty folder.

Only the wheel itself is installed, without dependencies and into a folder of its own; the packages of this environment
stand in for those that pip would bring. Nothing needs a network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("campanion-*.whl")
    assert wheel.stat().st_size < 25e6
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        folder / "site",
        wheel,
    ]
    subprocess.run(pip, check=True, capture_output=True)
    return folder / "site"


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path):
    """Runs Python in an empty folder, with the wheel in front of the path and none of this project's variables."""
    (tmp_path / "empty").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CAMPANION", "PYTHON", "XDG"))}
    kept |= {"PYTHONPATH": str(installed), "HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    kept |= {"CAMPANION_OFFLINE": "1", "MPLBACKEND": "agg", "MPLCONFIGDIR": str(tmp_path / "mpl")}

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=tmp_path / "empty", env=kept, capture_output=True, text=True)

    return run


def required() -> set[str]:
    """Names of the distributions that the base requirements bring, directly or not."""
    import tomllib

    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    todo, found = [Requirement(line) for line in table["dependencies"]], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        try:
            todo += [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:
            continue  # for another system
    return found


# Refuses to import what an extra would bring, as an environment with the base requirements does.
ALONE = """
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import packages_distributions
allowed = {allowed!r}
owners = {{top: {{name.lower().replace("_", "-").replace(".", "-") for name in names}}
          for top, names in packages_distributions().items()}}

class Alone(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in owners and top != "campanion" and not owners[top] & allowed:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=top)

sys.meta_path.insert(0, Alone())
"""

LIBRARY = """
from pathlib import Path
import torch
import campanion
from campanion import METHODS, explain, load_model, metrics, paths
from campanion.game import ChannelGame

assert Path(campanion.__file__).is_relative_to({site!r}), campanion.__file__
assert paths.checkout() is None
assert paths.data_dir() == Path.home() / ".cache" / "campanion", paths.data_dir()
model = load_model("scenes_resnet")
images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
methods = [name for name in METHODS if name not in ("lfi_cam", "abn", "rise", "lime", "lime_cam")]
found = explain(model, images, methods=methods)
assert all(found.maps[name].shape == (2, 64, 64) for name in methods)
learned = explain(load_model("scenes_lfi"), images, methods=("lfi_cam",))
curves = metrics.insertion_deletion(model, images, found.maps["fd_cam"], found.targets, step=0.25)
assert curves.insertion.shape == (2,)
few = {{"lime": {{"samples": 8, "segments": 6}}, "lime_cam": {{"samples": 8}}, "rise": {{"masks": 8}}}}
explain(model, images[:1], methods=list(few), **few)
metrics.shap_cosine
ChannelGame.of(model, images).shapley(found.targets, orderings=4, generator=torch.Generator().manual_seed(0))
try:
    load_model("vgg16")
except FileNotFoundError as problem:
    assert str(Path.home() / ".cache" / "campanion" / "weights") in str(problem), problem
    print("done")
"""


def test_the_library_works_with_the_base_requirements_alone(installed: Path, elsewhere) -> None:
    before = sorted(installed.rglob("*"))
    done = elsewhere("-c", ALONE.format(allowed=required()) + LIBRARY.format(site=str(installed)))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert sorted(installed.rglob("*")) == before, "nothing is written into the installed package"


COMMAND = """
from campanion.data.scenes import scene
from campanion.__main__ import main
scene(28, size=96).image.save("a.png")
print(main(["explain", "a.png", "--model", "scenes_resnet", "--out", "maps", "--overlay"]))
print(main(["data", "status"]), main(["notebooks", "list"]), main(["scoreboard"]))
"""


def test_the_command_line_works_with_the_base_requirements_alone(elsewhere, tmp_path: Path) -> None:
    done = elsewhere("-c", ALONE.format(allowed=required()) + COMMAND)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[-1] == "0 2 2"
    assert f"Data folder: {tmp_path / 'home' / '.cache' / 'campanion'} (not there yet)" in printed
    assert {path.suffix for path in (tmp_path / "empty" / "maps").iterdir()} == {".png", ".pdf", ".npz"}
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "This needs a checkout of campanion, and only the package is installed",
        "This needs the package pandas, which is not installed",
    ]


def test_what_needs_the_checkout_says_so_and_the_papers_tables_come_along(elsewhere) -> None:
    source = """
    from campanion.report.papers import published
    from campanion.report.claims import load_claims
    from campanion.data.photographs import photograph
    from campanion.results import load_results
    from campanion.training.settings import read_config
    assert published("fd", "table1").shape[0] > 10
    assert len(load_claims()) > 30
    assert photograph("cat").mode == "RGB"
    for call in (load_results, lambda: read_config("cifar10_paper")):
        try:
            call()
        except FileNotFoundError as problem:
            print(problem)
    """
    done = elsewhere("-c", textwrap.dedent(source))
    assert done.returncode == 0, done.stderr
    assert [line.startswith("This needs a checkout of campanion") for line in done.stdout.splitlines()] == [True, True]


def test_it_is_a_command(installed: Path, elsewhere) -> None:
    assert (installed / "bin" / "campanion").is_file()
    done = elsewhere("-m", "campanion", "--version")
    assert done.stdout == "campanion 0.1.0\n", done.stderr
