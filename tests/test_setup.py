"""The lists of packages agree, and reproduce.sh refuses what it cannot do with one sentence and status 2."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from campanion.__main__ import main
from campanion.notebooks import workflow
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
# import name -> distribution, where they differ; and what a direct requirement always brings along
DISTRIBUTION = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "pytorch_grad_cam": "grad-cam",
}
BROUGHT = {
    "nbformat": "papermill",
    "nbclient": "papermill",
    "IPython": "ipywidgets",
    "matplotlib_inline": "ipywidgets",  # by way of IPython
    "cycler": "matplotlib",
}


def pins(name: str) -> dict[str, Version]:
    found = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line and not line.startswith("-"):
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"{name}: {line!r} is not a plain pin"
            package, _, version = line.partition("==")
            found[canonicalize_name(package)] = Version(version)
    return found


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared() -> list[Requirement]:
    table = project()
    return [Requirement(r) for r in sum(table["optional-dependencies"].values(), table["dependencies"])]


def test_every_direct_pin_is_among_the_constraints():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "-c constraints.txt"
    wanted, all_pins = pins("requirements.txt"), pins("constraints.txt")
    assert {name: all_pins.get(name) for name in wanted} == wanted


def test_every_direct_pin_says_what_it_is_for():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "==" in line and not re.search(r"# \w+", line)] == []


def test_constraints_hold_nothing_that_only_cuda_machines_need():
    assert [name for name in pins("constraints.txt") if re.match(r"nvidia|cuda|triton", name)] == []


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_floors_admit_the_pins(requirement):
    pin = pins("requirements.txt").get(canonicalize_name(requirement.name))
    assert pin is not None, f"{requirement.name} is in pyproject.toml but not in requirements.txt"
    assert pin in requirement.specifier
    assert [s.operator for s in requirement.specifier] == [">="], "a floor only"


def test_no_requirement_is_missing_from_pyproject():
    assert set(pins("requirements.txt")) == {canonicalize_name(r.name) for r in declared()}


def test_every_import_of_the_library_is_declared():
    imported = set()
    for path in (ROOT / "lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"campanion"}
    assert "torch" in foreign
    needed = {canonicalize_name(BROUGHT.get(name) or DISTRIBUTION.get(name, name)) for name in foreign}
    assert needed - {canonicalize_name(r.name) for r in declared()} == set()


def test_environment_yml_installs_the_same_list():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, lists = environment["dependencies"]
    assert pip == "pip"
    assert lists == {"pip": ["-r requirements.txt", "-e ."]}
    assert environment["channels"][0] == "conda-forge"
    assert Version(python.partition("=")[2]) in SpecifierSet(project()["requires-python"])


def test_the_python_versions_named_agree():
    assert project()["requires-python"] == ">=3.11,<3.14"
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in (ROOT / "reproduce.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", ["reproduce.sh", ".ci/run"])
def test_scripts_are_executable_bash(script):
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], cwd=ROOT).returncode == 0


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what reproduce.sh reads before it needs an environment, in a folder with a space in its name."""
    folder = tmp_path / "a checkout"
    (folder / "notebooks").mkdir(parents=True)
    for name in ("reproduce.sh", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for key in ("00_start_here", "21_fd_table1", "22_fd_table2", "32_lift_table2"):
        (folder / "notebooks" / f"{key}.ipynb").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("CAMPANION_ROOT", str(folder))
    return folder


def reproduce(folder: Path, *arguments: str, **commands: str) -> subprocess.CompletedProcess:
    """Run the copy of the script; ``commands`` replaces programs on the PATH by shell text."""
    stubs = folder / "stubs"
    stubs.mkdir()
    for name, body in commands.items():
        stub = stubs / name.replace("_", ".")
        stub.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [folder / "reproduce.sh", *arguments], cwd=folder.parent, env=environment, capture_output=True, text=True
    )


def df(gigabytes: int) -> str:
    return f"echo Filesystem 1024-blocks Used Available; echo disk 9 9 {gigabytes * 1048576} 9% /"


def assert_refused(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert [word for word in words if word not in sentence] == []


def test_without_an_environment_help_says_what_it_is_for(checkout):
    done = reproduce(checkout, "--help", python="exit 1")
    assert done.returncode == 0
    for word in ("quick", "full", "cached", "test", "notebook", "campanion reproduce", "Exit status"):
        assert word in done.stdout
    assert "#" not in done.stdout


def test_help(capsys):
    assert main(["reproduce", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in (
        "full",
        "cached",
        "test",
        "notebook",
        "--limit N",
        "--cores N",
        "--profile",
        "--dry-run",
        "lfi, fd, lift",
    ):
        assert word in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["full", "23"], ["Unknown target '23'", "21_fd_table1", "lift"]),
        (["full", "21", "fd_table"], ["Unknown target 'fd_table'"]),
        (["full", ""], ["Unknown target ''"]),
        (["full", "2*"], ["Unknown target '2*'"]),
        (["full", "../21"], ["Unknown target '../21'"]),
        (["ful"], ["Unknown command 'ful'", "full"]),
        (["--fast"], ["No such option '--fast'"]),
        (["quick", "21"], ["'21'", "only full"]),
        (["--limit", "5"], ["belong to full"]),
        (["full", "--limit", "0"], ["--limit", "0 is not"]),
        (["full", "--limit", "ten"], ["'ten'"]),
        (["full", "--limit"], ["'--limit' requires an argument"]),
        (["--cores", "-1"], ["--cores", "-1 is not"]),
        (["full", "--scale", "huge"], ["--scale", "'huge'"]),
        (["full", "--profile", "nowhere"], ["no profile 'nowhere'"]),
        (["full", "--profile", str(ROOT / "profiles" / "slurm")], ["config.yaml has CHANGE_ME", "docs/slurm.md"]),
    ],
    ids=" ".join,
)
def test_a_wrong_request_is_refused(checkout, capsys, arguments, words):
    assert main(["reproduce", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (sentence,) = shown.err.splitlines()
    assert [word for word in words if word not in sentence] == []
    assert not (checkout / "out").exists()


def test_targets_are_notebooks_their_beginnings_and_papers(checkout):
    assert workflow.targets(["21"]) == ["21_fd_table1"]
    assert workflow.targets(["lift", "fd", "21_fd"]) == ["32_lift_table2", "21_fd_table1", "22_fd_table2"]
    assert len(workflow.targets(["all"])) == 4


TEXTS = ["21; touch hacked", "$(touch hacked)", "`touch hacked`", "a b & touch hacked", "'", '"']


def test_arguments_are_handed_over_as_they_are_and_never_executed(checkout):
    # Where the package is there, the script's whole work is to hand its words over.
    stand_in = 'if [ "$1" = - ]; then exit 0; fi\nif [ "$1" = -c ]; then exit 0; fi\nprintf "%s\\n" "$@"'
    done = reproduce(checkout, *TEXTS, python=stand_in)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["-m", "campanion", "reproduce", *TEXTS]
    assert not list(checkout.parent.rglob("hacked"))


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_handed_over_is_refused_and_never_executed(checkout, text):
    for words in (["full", text], ["full", "--limit", text], ["full", "--profile", text], ["--cores", text], [text]):
        assert main(["reproduce", *words]) == 2
    assert not list(checkout.parent.rglob("hacked"))


def test_too_little_disk_for_the_installation(checkout):
    assert_refused(reproduce(checkout, df=df(9)), "needs about 10 GB of free disk", "only 9 GB")
    assert not (checkout / ".venv").exists()


def test_no_python_of_the_right_version(checkout):
    names = ("python", "python3", "python3_11", "python3_12", "python3_13")
    done = reproduce(checkout, df=df(100), **dict.fromkeys(names, "exit 1"))
    assert_refused(done, "Python 3.11, 3.12 or 3.13", "PATH")


def test_output_folder_that_cannot_be_written(checkout, capsys):
    (checkout / "out").write_text("a file in the way", encoding="utf-8")
    assert main(["reproduce"]) == 2
    assert capsys.readouterr().err == f"Cannot write to {checkout / 'out'}: results and logs go there.\n"


def test_too_little_disk_for_a_run(checkout, capsys, monkeypatch):
    monkeypatch.setattr(workflow.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9))
    assert main(["reproduce"]) == 2
    assert "only 1 GB are free" in capsys.readouterr().err


def test_a_folder_without_notebooks(checkout, capsys):
    shutil.rmtree(checkout / "notebooks")
    assert main(["reproduce"]) == 2
    assert "no notebook in notebooks/" in capsys.readouterr().err


def test_a_full_run_names_all_that_is_missing_before_it_starts(checkout, capsys, monkeypatch):
    monkeypatch.setenv("CAMPANION_DATA", str(checkout / "nothing"))
    needs = {"metadata": {"campanion": {"needs": ["voc2007", "weights/vgg16"]}}}
    for key in ("21_fd_table1", "22_fd_table2"):
        (checkout / "notebooks" / f"{key}.ipynb").write_text(json.dumps(needs), encoding="utf-8")
    assert main(["reproduce", "full", "fd"]) == 2
    assert re.findall(r"fetch (\S+)`", capsys.readouterr().err) == ["voc2007", "weights/vgg16"] * 2


def test_dry_run_without_an_environment_installs_nothing(checkout):
    done = reproduce(checkout, "full", "fd", "--dry-run", df=df(100))
    assert done.returncode == 0, done.stderr
    assert "Would make .venv" in done.stdout
    assert not (checkout / ".venv").exists()
