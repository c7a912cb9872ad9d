"""The answers at the head of the notebooks: the sentences follow the numbers, and the files are in step."""

from __future__ import annotations

import json
import re
import shlex

import click
import nbformat
import pytest
from campanion import paths
from campanion.__main__ import campanion
from campanion.notebooks import find, keys
from campanion.report import heads
from campanion.report.answers import WORDS, amount, claim_answer, joined, overall, run_name, span
from campanion.report.claims import find_claim
from campanion.report.papers import entries
from campanion.report.scoreboard import committed, elsewhere
from campanion.report.sentences import answer
from campanion.report.words import counted
from campanion.results.store import load_result, load_results
from campanion.training.grid import cells

BEST = "fd_table1_best_overall"


def result(*differences, models=("voc_mlp",), data="voc2007"):
    """A result of notebook 21 for each model; a difference is (method, reference, metric, mean, low, high)."""
    names = ("method", "reference", "metric", "mean", "low", "high")
    rows = [{**dict(zip(names, d, strict=True)), "n": 2000} for d in differences]
    one = {"data": data, "mode": "full", "rows": [], "differences": rows}
    return {"21_fd_table1_faithfulness": {"runs": [{"model": m, **one} for m in models]}}


def against(*pairs):
    """FD-CAM minus each other method, ahead by 0.02 but for those named: (method, mean, low, high)."""
    (test,) = find_claim(BEST).test
    named = {m: (mean, low, high) for m, mean, low, high in pairs}
    return [("fd_cam", m, "overall", *named.get(m, (0.02, 0.01, 0.03))) for m in test.others]


def test_the_answer_has_the_words_of_the_verdict():
    assert claim_answer(BEST, result(*against())) == (
        "Yes on ResNet-18 + hidden layers (VOC2007). VGG16 on ImageNet, the paper's own setting, was not run."
    )
    behind = ("layer_cam", -0.0123, -0.02, -0.005)
    text = claim_answer(BEST, result(*against(behind, ("grad_cam", 0.01, -0.01, 0.03))))
    assert text.startswith("No on ResNet-18 + hidden layers (VOC2007): Layer-CAM is better by 0.012.")
    text = claim_answer(BEST, result(*against(("grad_cam", 0.01, -0.01, 0.03)), models=["vgg16"], data="imagenet-val"))
    assert text == "Cannot tell on VGG16 (ImageNet): 6 of 7 comparisons hold."
    same = against(*[(m, 0.0, -0.001, 0.001) for m in find_claim(BEST).test[0].others])
    assert claim_answer(BEST, result(*same)).startswith(
        "No difference to speak of on ResNet-18 + hidden layers (VOC2007)."
    )
    assert claim_answer(BEST, {}) == "Not run. VGG16 on ImageNet, the paper's own setting, was not run."
    both = claim_answer(BEST, result(*against(behind), models=["voc_mlp", "resnet18"]))
    assert both.startswith("No on ResNet-18 + hidden layers (VOC2007) and ResNet-18 (VOC2007): Layer-CAM is better by")


def test_the_short_answer_counts_no_votes_and_says_on_what_it_rests():
    absent = " VGG16 on ImageNet, the paper's own setting, was not run."
    everywhere = result(*against(), models=["voc_mlp", "resnet18", "squeezenet1_1"])
    assert overall(BEST, everywhere) == f"It carries over to ResNet-18 + hidden layers (VOC2007), N = 2,000.{absent}"
    behind = against(("layer_cam", -0.0123, -0.02, -0.005))
    linear = overall(BEST, result(*behind, models=["resnet18", "squeezenet1_1"]))
    group = "linear and nearly linear networks"
    assert linear == f"It does not carry over to {group}: 2 networks, N = 2,000.{absent}"
    three = overall(BEST, result(*against(), models=["voc_mlp", "voc_vgg16", "imagenette_vgg"]))
    assert three == f"It carries over to networks with hidden layers: mean over 3 networks.{absent}"
    own = overall(BEST, result(*against(), models=["vgg16"], data="imagenet-val"))
    assert own == "Yes in the paper's own setting: VGG16 (ImageNet), N = 2,000."
    assert overall(BEST, {}) == f"Not run.{absent}"


def test_networks_that_other_methods_decide_have_a_sentence_each():
    found = result(*against(("layer_cam", -0.0123, -0.02, -0.005)), models=["voc_mlp"])
    (key,) = found
    found[key]["runs"] += result(*against(("grad_cam", -0.03, -0.04, -0.02)), models=["resnet18"])[key]["runs"]
    text = claim_answer(BEST, found)
    assert "No on ResNet-18 + hidden layers (VOC2007): Layer-CAM is better by 0.012." in text
    assert "No on ResNet-18 (VOC2007): Grad-CAM is better by 0.030." in text


@pytest.mark.parametrize("verdict", committed(), ids=lambda v: v.claim.id)
def test_the_answer_of_every_claim_agrees_with_its_board(verdict):
    text = claim_answer(verdict.claim.id, load_results(paths.root() / "data" / "results"))
    for one in verdict.answers:
        sentence = next(part for part in text.split(". ") if run_name(one.model, one.data, one.trained) in part)
        assert sentence.startswith(WORDS[one.word])
    assert text.startswith("Not run.") == (not verdict.answers)


def test_a_number_is_not_rounded_up_to_a_thousandth():
    assert amount([0.0006], "deletion") == "less than 0.001"
    assert amount([0.0006, 0.0116], "deletion") == "0.001 to 0.012"
    assert amount([0.04], "ad") == "0.0 points"


def test_words_of_lists_and_ranges():
    assert joined(["a", "b", "a"]) == "a and b"
    assert (span([1.0, 1.04], 1), span([0.2, 0.7], 1)) == ("1.0", "0.2 to 0.7")


@pytest.mark.parametrize("key", keys())
def test_every_notebook_has_an_answer_at_its_head(key):
    results = load_results(paths.root() / "data" / "results")
    text = answer(key, results)
    assert text.endswith((".", "?"))
    assert "nan" not in text
    assert "  " not in text
    first = "".join(json.loads((paths.root() / "notebooks" / f"{key}.ipynb").read_text("utf-8"))["cells"][0]["source"])
    assert heads.block(key, results) in first


def test_the_hours_follow_from_images_and_passes():
    text = heads.block("21_fd_table1_faithfulness", load_results(paths.root() / "data" / "results"))
    setting = entries("own_settings")["21_fd_table1_faithfulness"]
    hours = setting["images"] * setting["passes"] * heads._seconds_per_pass() / 3600
    said_hours = int(re.search(r"about ([\d,]+) h on one CPU core", text).group(1).replace(",", ""))
    assert said_hours == pytest.approx(hours, rel=0.5)
    assert set(entries("own_settings")) <= set(keys())


def test_where_orderings_cost_more_than_passes_the_hours_follow_from_what_an_image_took():
    result = load_results(paths.root() / "data" / "results")["32_lift_table2_shap_similarity"]
    (record,) = (r["provenance"] for r in result["runs"] if (r["model"], r["data"]) == ("voc_vgg16", "coco-voc"))
    setting = {"images": 100, "like": "x", "times": 10}
    text = heads._hours(setting, {"x": {"runs": [r for r in result["runs"] if r["data"] == "coco-voc"]}})
    said = int(re.search(r"N = 100: about (\d+) h or more", text).group(1))
    assert said == pytest.approx(100 * 10 * record["minutes"] / record["n"] / 60, rel=0.3)
    assert f"({60 * record['minutes'] / record['n']:.0f} s an image of VGG16 of VOC for 1/10 of the orderings" in text


def test_the_two_halves_of_the_answer_of_notebook_30_agree_on_what_was_run():
    text = answer("30_lift_fig1_fig2_idea", load_results(paths.root() / "data" / "results"))
    assert "was not run." not in text  # the cosines are those of a VGG16 too


@pytest.mark.parametrize("key", entries("own_settings"))
def test_the_command_of_the_papers_own_numbers_is_one_that_there_is(key):
    for line in entries("own_settings")[key]["command"].split(" && "):  # the last is the notebook's own
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "campanion"]
        command, rest = campanion, words[3:]
        while isinstance(command, click.Group):
            command, rest = command.get_command(click.Context(command), rest[0]), rest[1:]
        given = command.make_context(command.name, rest).params
    if "tables" in given:
        assert cells(given["scale"], given["tables"])
    else:
        book = nbformat.read(find(given["key"]), as_version=4)
        assert find(given["key"]).stem == key
        for name in re.findall(r"-p '?(\w+)=", line):
            assert f"\n{name} = " in "\n" + next(c.source for c in book.cells if c.cell_type == "code")


def test_what_is_out_of_step_is_named_and_renewed(tmp_path, monkeypatch):
    results = load_results(paths.root() / "data" / "results")
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    monkeypatch.setattr(heads, "load_results", lambda _: results)
    monkeypatch.setattr(heads, "_seconds_per_pass", lambda: 0.3)
    (tmp_path / "notebooks").mkdir()
    book = tmp_path / "notebooks" / "21_fd_table1_faithfulness.ipynb"
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title\n", "\n", "text"]}
    book.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n")
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="found:begin"):
        heads.update(write=False)
    marks = "\n".join([*heads.FOUND, *heads.TABLE])
    (tmp_path / "README.md").write_text(f"a\n{marks}\nz\n")
    assert heads.update(write=False) == [book.name, "README.md"]
    assert heads.update(write=True) == [book.name, "README.md"]
    assert heads.update(write=True) == []
    source = "".join(json.loads(book.read_text())["cells"][0]["source"])
    assert source.startswith("# Title\n\n<!-- answer:begin -->\n> **Answer.** ")
    assert source.endswith("<!-- answer:end -->\n\ntext")
    readme = (tmp_path / "README.md").read_text()
    assert "| [21](notebooks/21_fd_table1_faithfulness.ipynb) Title |" in readme
    assert readme.startswith("a\n")
    assert readme.endswith("\nz\n")


def test_a_run_ends_with_what_was_found_in_few_lines():
    lines = heads.closing().splitlines()
    assert len(lines) < 27  # with what the workflow itself prints, below 30
    assert max(map(len, lines)) <= 120
    assert all(f"  {paper}: " in heads.closing() for paper in ("LIFT-CAM", "FD-CAM", "LFI-CAM"))


def test_what_lacks_in_the_papers_own_setting_is_named():
    results = load_results(paths.root() / "data" / "results")
    (own,) = (r for r in results["22_fd_table2_pointing_game"]["runs"] if r["model"] == "voc_vgg16")
    without = {part: [r for r in own[part] if "score_cam" not in r.values()] for part in ("rows", "differences")}
    own = {**own, **without}
    only = {"22_fd_table2_pointing_game": {"runs": [own]}}
    lacks = "VGG16 on VOC2007, the paper's own setting, was not run in full (no Score-CAM)."
    assert claim_answer("fd_table2_best_pointing", only) == f"Not run. {lacks}"
    text = answer("22_fd_table2_pointing_game", only)
    assert text.count("was not run") == 1
    assert text.endswith(lacks)  # once, at the end
    rows = {r["method"]: r for r in own["rows"] if r["metric"] == "pointing_accuracy"}
    whole = [m for m in rows if rows[m]["n"] == rows["fd_cam"]["n"] and not m.endswith("point")]
    others = [rows[m]["mean"] for m in whole if m != "fd_cam"]
    place = 1 + sum(mean > rows["fd_cam"]["mean"] for mean in others)
    assert f"FD-CAM is number {place} of {len(others) + 1} on VGG16 of VOC" in text


def test_a_bound_of_ours_is_said_of_either_answer():
    ours = [v for v in committed() if v.claim.bound_from == "ours" and elsewhere(v) == "does not carry over"]
    assert f"{len(ours)} do not ({len(ours)} by a bound of ours)" in heads._tally(ours)


def test_one_thing_is_singular():
    assert [counted(n, "claim") for n in (0, 1, "1", 10)] == ["0 claims", "1 claim", "1 claim", "10 claims"]
    carried = [v for v in committed() if elsewhere(v) == "carries over"]
    assert "Other networks: 1 carries over." in heads._tally(carried[:1])
    assert "Other networks: 2 carry over." in heads._tally(carried[:2])
    readme = (paths.root() / "README.md").read_text(encoding="utf-8")
    assert not re.search(r"\b1 (carry over|do not|claims|orderings)\b", readme)


def test_the_papers_network_on_other_data_is_no_beginning_of_its_own_setting():
    (run,) = (r for r in load_result("16_lfi_fig5_fin_effect")["runs"] if r["data"] == "cats-dogs")
    assert run["model"] == "resnet18"
    results = {"16_lfi_fig5_fin_effect": {"runs": [run]}}
    assert claim_answer("lfi_fin_lowers_error", results).endswith(
        "ResNet-18 on ImageNet, the paper's own setting, was not run."
    )
