"""Training and measuring VQA networks: scenes made few, and a VQA v2 folder made small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from campanion.data.questions import QuestionImages, SceneQuestions
from campanion.errors import MissingData, MissingResult
from campanion.experiments.runner import ask, per_image
from campanion.models.vqa import load_vqa
from campanion.report.claims import find_claim
from campanion.report.verdicts import verdict
from campanion.results.rows import read_rows, rows_path
from campanion.results.store import load_result, load_results
from campanion.training import fit
from campanion.training.vqa import RECIPES, Pairs, accuracy, run
from cells import study
from safetensors.torch import save_file
from torchvision.models import resnet18
from vqa_files import official

vqa_study = study(37)

KEY = "37_lift_table6_fig4_vqa"
SHORT = RECIPES["scenes"].model_copy(update={"epochs": 3, "batch": 8})


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATA", "OUT", "RESULTS"):
        monkeypatch.setenv(f"CAMPANION_{name}", str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture
def vqa_folder(places: Path) -> Path:
    for split in ("train", "val"):
        official(places / "data", split)
    (places / "data" / "weights").mkdir()
    torch.manual_seed(0)
    save_file(resnet18(weights=None).state_dict(), places / "data" / "weights" / "resnet18.safetensors")
    return places


def test_pairs_name_image_text_and_answer() -> None:
    data = SceneQuestions(6)
    pairs = Pairs.of(data)
    for question, label, (image, text, answer) in zip(data.questions, data.labels, pairs.rows.tolist(), strict=True):
        assert pairs.texts[text] == question.text
        assert pairs.images.ids[image] == question.picture
        assert answer == label
    assert pairs.images.ids == QuestionImages(data).ids


def test_accuracy_by_type() -> None:
    data = SceneQuestions(10)
    right = torch.tensor(data.labels)
    found = accuracy(data, right)
    assert [found[name]["top1"] for name in ("all", "colour", "count", "kind", "position")] == [1] * 5
    assert found["all"]["n"] == len(data) == sum(found[name]["n"] for name in ("colour", "count", "kind", "position"))
    wrong = torch.where(torch.tensor([q.type == "count" for q in data.questions]), 0, right)
    assert accuracy(data, wrong)["count"]["top1"] == 0
    assert accuracy(data, wrong)["all"]["top1"] == pytest.approx(1 - found["count"]["n"] / len(data))


def test_training_on_scenes_learns_is_repeatable_and_resumes(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *words, **_: losses.append(words[0]))
    facts = run("scenes", places / "a", scenes=24, tests=10, recipe=SHORT)
    assert float(losses[2].split()[-1]) < float(losses[0].split()[-1])
    again = run("scenes", places / "b", scenes=24, tests=10, recipe=SHORT)
    assert facts["sha256"] == again["sha256"]
    assert load_vqa(weights=places / "a" / "vqa_scenes.safetensors").weights["sha256"] == facts["sha256"]
    assert json.loads((places / "a" / "vqa_scenes.json").read_text())["accuracy"] == facts["accuracy"]
    text = (places / "a" / "vqa_scenes.md").read_text()
    assert facts["sha256"] in text
    assert "no claim of a paper" in text

    kept = fit.save_state

    def stopped(folder: Path, state: dict) -> None:
        kept(folder, state)
        if len(state["history"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "save_state", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("scenes", places / "c", scenes=24, tests=10, recipe=SHORT)
    monkeypatch.setattr(fit, "save_state", kept)
    losses.clear()
    resumed = run("scenes", places / "c", scenes=24, tests=10, recipe=SHORT)
    assert [line.split(":")[0] for line in losses] == ["epoch 3"]
    assert resumed["sha256"] == facts["sha256"]


def test_bad_input_is_refused_before_any_work(places: Path) -> None:
    with pytest.raises(ValueError, match="Unknown data to train on 'vqa'"):
        run("vqa")
    with pytest.raises(ValueError, match="Training needs 10 scenes"):
        run(scenes=3)
    with pytest.raises(MissingData, match="fetch vqa-v2"):
        run("vqa-v2")


def test_a_run_on_vqa_v2_from_training_to_verdict(vqa_folder: Path) -> None:
    facts = run("vqa-v2", recipe=RECIPES["vqa-v2"].model_copy(update={"epochs": 12, "batch": 2}))
    assert facts["design"]["answers"] == ("yes", "cat")
    assert facts["accuracy"]["all"]["n"] == 3
    assert 0 < facts["accuracy"]["other"]["vqa_accuracy"] <= 1
    assert facts["target_layer"] == "picture.cnn.layer4"
    model = load_vqa("vqa_v2")
    assert model.weights["sha256"] == facts["sha256"]
    assert not vqa_study.not_there()
    result = ask(KEY, "full", vqa_study.QUESTION, ["vqa_scenes@scenes", "vqa_v2@vqa-v2"], limit=2, device="cpu")
    assert [(r["data"], r["mode"], r["extra"]["questions"]) for r in result["runs"]] == [
        ("scenes", "quick", 2),
        ("vqa-v2", "full", 2),
    ]
    answer = verdict(find_claim("lift_table6_vqa"), load_results())
    assert {a.data for a in answer.answers} == {"vqa-v2"}


def test_scenes_answer_no_claim(places: Path) -> None:
    with pytest.raises(MissingResult):
        ask(KEY, "cached", vqa_study.QUESTION, [])
    result = ask(KEY, "quick", vqa_study.QUESTION, [], limit=3, quick=["vqa_scenes@scenes"])
    (only,) = result["runs"]
    assert (only["mode"], only["data"]) == ("quick", "scenes")
    assert {row["method"] for row in only["rows"]} == set(vqa_study.METHODS["scenes"])
    assert verdict(find_claim("lift_table6_vqa"), load_results()).word == "not run"
    rows, settings = read_rows(rows_path("scenes", "vqa_scenes", f"quick_{KEY}"))
    assert rows.question.nunique() == 3
    assert settings["weights"] == load_vqa().weights["sha256"]
    assert load_result(KEY) == result


def test_rows_are_what_the_interface_gives(places: Path) -> None:
    """One pair done by hand: explain, the image times its map, the probability."""
    from campanion import explain
    from campanion.models.vqa import with_question

    model, data = load_vqa(), SceneQuestions(5)
    question = vqa_study.QUESTION
    frame, _ = per_image(question, question.subject(model, data), 1)
    sample = data[data.order()[0]]
    asked = with_question(model, sample.question.text)
    image = model.preprocess(sample.image)[None]
    e = explain(asked, image, methods="lift_cam")
    with torch.no_grad():
        y, o, d = (
            asked(shown).softmax(1)[0, e.targets].item()
            for shown in (image, image * e.maps["lift_cam"], image * (1 - e.maps["lift_cam"]))
        )
    row = frame[frame.method == "lift_cam"].iloc[0]
    assert row.probability == pytest.approx(y, abs=1e-4)
    assert row.iic == 100 * float(o > y)
    assert row.ad == pytest.approx(100 * max(0, y - o) / y, abs=0.1)
    assert row["add"] == pytest.approx(100 * (y - d) / y, abs=0.1)
    assert len(per_image(question, question.subject(model, data), 2)[0]) == 2 * len(frame)


def test_what_is_missing_is_one_sentence(places: Path) -> None:
    assert vqa_study.not_there().startswith("VQA v2 was not run: The val questions of VQA v2 are not in")
    official(places / "data")
    text = vqa_study.not_there()
    assert text == ("VQA v2 was not run: no network trained on VQA v2 is: `python -m campanion train vqa_v2` makes it.")
