"""Notebooks run headlessly with checked parameters, failures keep their log, and the workflow plans what is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from campanion import notebooks
from campanion.errors import MissingData
from campanion.notebooks.__main__ import _is_refusal, given_parameters, main, value
from nbformat import v4
from papermill.exceptions import PapermillExecutionError

ROOT = Path(__file__).resolve().parents[2]
REPORT = """import os, time
for name in ("CAMPANION_BATCH", "CAMPANION_LOG", "CAMPANION_RESULTS", "CUDA_VISIBLE_DEVICES"):
    print(name, os.environ.get(name), flush=True)
    time.sleep(0.1)
print("cwd", os.path.basename(os.getcwd()), "mode", mode, "limit", limit)"""


def write(folder: Path, key: str, *sources: str, needs: tuple[str, ...] = ()) -> Path:
    cells = [v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "campanion": {"needs": list(needs)}})
    path = folder / "notebooks" / f"{key}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A checkout with small notebooks."""
    for name in ("RESULTS", "FIGURES", "OUT", "DATA", "LOG"):
        monkeypatch.delenv(f"CAMPANION_{name}", raising=False)
    monkeypatch.setenv("CAMPANION_ROOT", str(tmp_path))
    write(tmp_path, "21_report", 'mode = "cached"\nlimit = None', REPORT)
    write(tmp_path, "22_fails", 'mode = "cached"', "print(1)", "raise ValueError('this cell fails')", "print(3)")
    write(tmp_path, "32_wants_data", 'mode = "cached"', "1", needs=("scenes", "voc2007", "weights/resnet18"))
    return tmp_path


def printed(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in notebooks.text(path).splitlines())


def test_quick_run_has_a_place_of_its_own(tree):
    before = (tree / "notebooks" / "21_report.ipynb").read_bytes()
    output = notebooks.run("21_report", "quick", {"limit": 3})
    assert output == tree / "out/quick/notebooks/21_report.ipynb"
    assert printed(output) == {
        "CAMPANION_BATCH": "1",
        "CAMPANION_LOG": str(tree / "logs/quick/21_report.progress.log"),
        "CAMPANION_RESULTS": str(tree / "out/quick/results"),
        "CUDA_VISIBLE_DEVICES": "",
        "cwd": "notebooks mode quick limit 3",
    }
    assert (tree / "notebooks" / "21_report.ipynb").read_bytes() == before


def test_cached_run_in_place_gives_the_same_bytes_twice(tree):
    path = notebooks.run("21_report", "cached")
    first = path.read_bytes()
    assert path == tree / "notebooks" / "21_report.ipynb"
    assert notebooks.run("21_report", "cached").read_bytes() == first
    ran = nbformat.reads(first.decode(), as_version=4)
    assert [c.execution_count for c in ran.cells] == [1, 2]
    assert [c.metadata for c in ran.cells] == [{"tags": ["parameters"]}, {}]
    assert len(ran.cells[1].outputs) == 1, "text is one piece, whenever it came"
    assert printed(path)["CAMPANION_RESULTS"] == "None"


def test_a_failing_cell_leaves_its_log_and_no_output(tree, capsys):
    output = tree / "out/quick/notebooks/22_fails.ipynb"
    assert main(["run", "22_fails", "--mode", "quick"]) == 1
    assert not output.exists()
    log = tree / "logs/quick/22_fails.ipynb"
    errors = [
        o for c in nbformat.read(log, as_version=4).cells for o in c.get("outputs", []) if o.output_type == "error"
    ]
    assert [o.evalue for o in errors] == ["this cell fails"]
    said = capsys.readouterr().err
    assert "ValueError: this cell fails" in said
    assert str(log) in said
    assert "\x1b" not in said


def test_what_the_library_refuses_in_a_cell_is_one_sentence(tree, capsys):
    write(
        tree,
        "23_refuses",
        'mode = "cached"\nmodels = []',
        "from campanion.models import load_model",
        "load_model(*models)",
    )
    assert main(["run", "23", "--mode", "full", "-p", "models=vgg61"]) == 2
    refused, where = capsys.readouterr().err.splitlines()
    assert refused.startswith("Unknown model 'vgg61'. Did you mean 'vgg")
    assert where.endswith(f"{tree / 'logs/full/23_refuses.ipynb'}.")


@pytest.mark.parametrize("place", ["~/co/lib/campanion/models/load.py:85", r"C:\co\lib\campanion\models\load.py:85"])
def test_a_refusal_is_known_by_the_file_that_raised_it(place):
    said = f"Cell In[3], line 1\nFile {place}, in load_model(name)\nValueError: Unknown model"
    assert _is_refusal(said, "ValueError")
    assert not _is_refusal(said, "TypeError")
    assert not _is_refusal(said.replace("campanion", "torch"), "ValueError")


def test_two_runs_of_a_page_take_turns(tree, monkeypatch, capfd):
    inside = []

    def execute(source, log, *_, **__):
        inside.append(log)
        assert len(inside) == 1
        time.sleep(0.3)
        shutil.copy(source, log)
        inside.pop()

    monkeypatch.setattr("papermill.execute_notebook", execute)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(notebooks.run, "21_report", "full") for _ in range(2)]
    assert {run.result() for run in runs} == {tree / "out/full/notebooks/21_report.ipynb"}
    assert capfd.readouterr().err.count("this one waits") == 1


def test_networks_that_are_named_need_only_their_own_data(tree):
    write(tree, "32_wants_data", 'mode = "cached"\nmodels = []', "models", needs=("voc2007",))
    with pytest.raises(MissingData, match="needs voc2007"):
        notebooks.run("32_wants_data", "full")
    assert "scenes_vgg@scenes" in notebooks.text(
        notebooks.run("32_wants_data", "full", {"models": ["scenes_vgg@scenes"]})
    )


def test_a_failing_cached_run_leaves_the_committed_notebook(tree):
    before = (tree / "notebooks" / "22_fails.ipynb").read_bytes()
    with pytest.raises(PapermillExecutionError):
        notebooks.run("22_fails", "cached")
    assert (tree / "notebooks" / "22_fails.ipynb").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["21_report", "-p", "limt=3"], ["Unknown parameter 'limt'", "'limit'", "mode"]),
        (["22_fails", "-p", "limit=3"], ["Unknown parameter 'limit'", "Known: mode"]),
        (["21_report", "--limit", "0"], ["--limit", "0 is not"]),
        (["21_report", "-p", "limit=0"], ["limit", "above 0"]),
        (["21_report", "-p", "limit"], ["name=value", "'limit'"]),
        (["21_report", "--mode", "fast"], ["Unknown mode 'fast'", "cached, full, quick"]),
        (["21_report", "--mode", "cached", "-p", "limit=3"], ["default parameters", "--output"]),
        (["2"], ["short for 2 notebooks", "21_report", "22_fails"]),
        (["45_none"], ["Unknown notebook '45_none'", "21_report"]),
        (["21_report", "--output", "notebooks/21_report.ipynb/x"], ["Cannot write", "--output"]),
        (["32", "--mode", "full"], ["32_wants_data needs voc2007", "python -m campanion data fetch voc2007"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_a_wrong_request_runs_nothing(tree, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tree)
    assert main(["run", *arguments]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert [word for word in words if word not in said] == []
    assert not (tree / "logs").exists()


def test_ready_names_all_that_is_missing(tree, capsys, monkeypatch):
    assert main(["ready", "21_report"]) == 0
    assert main(["ready", "21_report", "32"]) == 2
    assert re.findall(r"fetch (\S+)`", capsys.readouterr().err) == ["voc2007", "weights/resnet18"]
    (tree / "elsewhere/weights").mkdir(parents=True)
    (tree / "elsewhere/weights/resnet18.npz").touch()
    monkeypatch.setenv("CAMPANION_DATA", str(tree / "elsewhere"))
    with pytest.raises(MissingData, match="voc2007"):
        notebooks.run("32", "full")
    assert main(["ready", "32"]) == 2
    assert re.findall(r"fetch (\S+)`", capsys.readouterr().err) == ["voc2007"]


def test_a_committed_notebook_must_be_cached_by_default(tree):
    write(tree, "40_quick", 'mode = "quick"', "1")
    with pytest.raises(ValueError, match=r'40_quick: its parameters cell must say mode = "cached"'):
        notebooks.run("40_quick", "cached")


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [("10", 10), ("1e-3", 1e-3), ("true", True), ("False", False), ("None", None), ("resnet18", "resnet18"),
     ('"10"', "10"), ("['a', 'b']", ["a", "b"]), ("", ""), ("__import__('os')", "__import__('os')"),
     ("[a, b]", ["a", "b"]), ("[a", "[a")],
)  # fmt: skip
def test_value(spelled, meant):
    assert value(spelled) == meant
    assert type(value(spelled)) is type(meant)


def test_a_parameter_that_is_a_list_takes_words():
    declared = {"models": '["vgg16"]', "seed": "0", "kinds": "()", "name": "None"}
    words = ["models=resnet18", "seed=1", "kinds=a, b", "name=a,b"]
    given = {"models": ["resnet18"], "seed": 1, "kinds": ["a", "b"], "name": "a,b"}
    assert given_parameters(words, declared) == given
    assert given_parameters(['models=["a", "b"]'], declared) == {"models": ["a", "b"]}


@pytest.fixture
def workflow(tree):
    """The Snakefile in a checkout whose committed checkpoints are there."""
    shutil.copy(ROOT / "Snakefile", tree)
    write(tree, "99_scoreboard", 'mode = "cached"', "1")
    (tree / "data/checkpoints").mkdir(parents=True)
    scenes = ("scenes_vgg", "scenes_resnet", "scenes_lfi", "scenes_lfi_nofin", "scenes_abn")
    for name in (*scenes, "vqa_scenes", "voc_mlp", "voc_linear"):
        (tree / f"data/checkpoints/{name}.safetensors").touch()
    return tree


def plan(folder: Path, *config: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--dry-run", "--quiet", "host", "reason"]
    done = subprocess.run([*command, "--config", *config], cwd=folder, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    return said


def jobs(said: str) -> list[str]:
    return re.findall(r"^Job \d+: (\w+): ", said, re.MULTILINE)


def test_the_scoreboard_comes_last_and_committed_checkpoints_are_not_made_again(workflow):
    # A clone's files have no order in time: here the notebooks are newer than the checkpoints, and the library newest.
    (workflow / "lib").mkdir()
    (workflow / "lib/code.py").touch()
    order = jobs(plan(workflow, "mode=quick"))
    assert sorted(order[:-1]) == ["21_report", "22_fails", "32_wants_data"]
    assert order[-1] == "99_scoreboard"


def test_a_missing_checkpoint_is_trained_first(workflow):
    (workflow / "data/checkpoints/scenes_vgg.safetensors").unlink()
    order = jobs(plan(workflow, "mode=quick", "targets=21_report"))
    assert order == ["scenes_vgg", "21_report"]


def test_the_question_network_is_trained_after_the_scene_network_that_it_starts_from(workflow):
    for name in ("scenes_resnet", "vqa_scenes"):
        (workflow / f"data/checkpoints/{name}.safetensors").unlink()
    order = jobs(plan(workflow, "mode=quick", "targets=21_report"))
    assert order == ["scenes_resnet", "vqa_scenes", "21_report"]


def test_missing_voc_heads_are_trained_for_full_runs_that_need_voc(workflow):
    for name in ("scenes_resnet", "voc_mlp", "voc_linear"):
        (workflow / f"data/checkpoints/{name}.safetensors").unlink()
    order = jobs(plan(workflow, "mode=full", "targets=21_report,32_wants_data"))
    assert order.index("32_wants_data") > max(order.index("voc_mlp"), order.index("voc_linear"))
    assert len(order) == 4
    assert jobs(plan(workflow, "mode=quick", "targets=32_wants_data")) == ["scenes_resnet", "32_wants_data"]


def test_full_runs_the_targets_only(workflow):
    said = plan(workflow, "mode=full", "limit=5", "targets=32_wants_data,21_report")
    assert sorted(jobs(said)) == ["21_report", "32_wants_data"]


def test_a_finished_run_is_redone_when_code_changes_not_when_the_notebook_is_run_in_place(workflow):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "mode=full", "targets=21_report"]
    subprocess.run(command, cwd=workflow, check=True, capture_output=True)
    notebooks.run("21_report", "cached")
    assert jobs(plan(workflow, "mode=full", "targets=21_report")) == []
    assert jobs(plan(workflow, "mode=full", "limit=2", "targets=21_report")) == ["21_report"]
    write(workflow, "21_report", 'mode = "cached"\nlimit = None', REPORT + "\nprint(1)")
    assert jobs(plan(workflow, "mode=full", "targets=21_report")) == ["21_report"]


def test_nothing_is_computed_while_the_workflow_is_parsed(workflow):
    """Parsing reads no notebook, no log and no checkpoint: a broken one is found when it is asked for."""
    (workflow / "notebooks" / "98_broken.ipynb").write_text("no notebook")
    assert jobs(plan(workflow, "mode=full", "targets=21_report")) == ["21_report"]
    assert "JSONDecodeError" in plan(workflow, "mode=full", "targets=98_broken", status=1)
