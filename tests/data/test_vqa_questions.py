"""Questions about scenes, and VQA v2's two layouts made small; the real sample where it lies."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from campanion.data import open_dataset
from campanion.data.questions import (
    ANSWERS,
    TYPES,
    QuestionImages,
    SceneQuestions,
    commonest,
    scene_questions,
    words,
)
from campanion.data.scenes import Attributes, scene
from campanion.data.vqa import vqa_accuracy
from campanion.errors import MissingData
from vqa_files import official, sample


def row(kind: str, colour: str, x: float, y: float) -> Attributes:
    return Attributes(kind, colour, "plain", (x, y), 0.3, 0.0, 3.0)


def test_the_questions_of_a_scene_written_out() -> None:
    rows = (row("disc", "red", 0.2, 0.3), row("star", "red", 0.8, 0.52))
    assert scene_questions(rows) == {
        "colour": [
            ("what colour is the largest object", "red"),
            ("what colour is the object on the left", "red"),
            ("what colour is the object on the right", "red"),
        ],
        "kind": [
            ("what shape is the largest object", "disc"),
            ("what shape is the object on the left", "disc"),
            ("what shape is the object on the right", "star"),
        ],
        "count": [("how many objects are there", "two")],
        "position": [
            ("is the largest object on the left or on the right", "left"),
            ("is the largest object at the top or at the bottom", "top"),
            ("is the disc on the left or on the right", "left"),
            ("is the disc at the top or at the bottom", "top"),
            ("is the star on the left or on the right", "right"),
        ],
    }


def test_what_two_share_is_not_asked() -> None:
    rows = (row("disc", "red", 0.2, 0.2), row("disc", "blue", 0.3, 0.8), row("star", "blue", 0.8, 0.9))
    found = scene_questions(rows)
    texts = [text for pairs in found.values() for text, _ in pairs]
    assert not [t for t in texts if "the disc" in t or "the blue object" in t]
    assert "is the red object on the left or on the right" in texts
    assert ("what colour is the object on the right", "blue") in found["colour"]
    assert ("what shape is the object at the top", "disc") in found["kind"]
    assert not [t for t in texts if t.endswith(("the object on the left", "the object at the bottom"))]


@pytest.fixture(scope="module")
def many() -> SceneQuestions:
    return SceneQuestions(1000, split="train")


def test_answers_are_balanced(many: SceneQuestions) -> None:
    for kind, chance in zip(TYPES, (0.1, 0.1, 1 / 3, 0.25), strict=True):
        answers = Counter(q.answer for q in many.questions if q.type == kind)
        total = sum(answers.values())
        assert total > 800
        assert len(answers) == round(1 / chance)
        assert max(answers.values()) / total < chance + 4 * (chance * (1 - chance) / total) ** 0.5


def test_the_question_tells_nothing_of_its_answer() -> None:
    every = SceneQuestions(1000, split="train", per_type=None)
    for kind, chance in zip(TYPES, (0.1, 0.1, 1 / 3, 0.5), strict=True):
        of_text: dict[str, Counter] = {}
        asked = [q for q in every.questions if q.type == kind]
        for q in asked:
            of_text.setdefault(q.text, Counter())[q.answer] += 1
        blind = sum(max(c.values()) for c in of_text.values()) / len(asked)
        assert blind < chance + 0.05  # the best guess of one who saw these very answers


def test_questions_are_the_same_each_time_and_others_for_another_seed() -> None:
    first, again, other = SceneQuestions(30), SceneQuestions(30), SceneQuestions(30, seed=1)
    assert first.questions == again.questions
    assert {q.picture for q in first.questions}.isdisjoint(q.picture for q in other.questions)
    assert SceneQuestions(40).questions[: len(first)] == first.questions
    per_type = Counter((q.picture, q.type) for q in SceneQuestions(30, per_type=3).questions)
    assert max(per_type.values()) == 3


def test_nothing_near_the_middle_is_asked_about_by_its_side() -> None:
    rows = (row("disc", "red", 0.55, 0.45), row("star", "blue", 0.1, 0.9))
    texts = [text for pairs in scene_questions(rows).values() for text, _ in pairs]
    assert not [t for t in texts if "disc" in t or "red" in t or t.endswith(("the object on the left", "at the top"))]


def test_samples(many: SceneQuestions) -> None:
    sample = many[3]
    assert sample.question is many.questions[3]
    assert many.class_names[sample.label] == sample.question.answer
    assert many.class_names == ANSWERS
    drawn = scene(int(sample.question.picture.split("-")[1]))
    assert np.array_equal(np.asarray(sample.image), np.asarray(drawn.image))
    images = QuestionImages(many.only([0, 1, 5]))
    assert images.ids == list(dict.fromkeys(many.questions[i].picture for i in (0, 1, 5)))
    assert many.only([0, 1, 5]).card.startswith("3 of ")


def test_words_and_commonest() -> None:
    assert words("What's THAT, a 2nd dog?") == ["what's", "that", "a", "2nd", "dog"]
    assert commonest(["b", "a", "c", "c"]) == ["c", "a", "b"]
    with pytest.raises(ValueError, match="per_type must be at least 1"):
        SceneQuestions(5, per_type=0)


def test_vqa_accuracy_is_the_mean_over_nine_of_ten() -> None:
    for same in range(11):
        answers = ["yes"] * same + ["no"] * (10 - same)
        subsets = [answers[:i] + answers[i + 1 :] for i in range(10)]
        expected = np.mean([min(part.count("yes") / 3, 1) for part in subsets])
        assert vqa_accuracy("yes", answers) == pytest.approx(expected)


@pytest.mark.parametrize("layout", [official, sample])
def test_both_layouts_read_alike(tmp_path: Path, layout) -> None:
    layout(tmp_path)
    data = open_dataset("vqa-v2", tmp_path)
    assert sorted(data.ids) == ["42000", "42001", "9000"]
    assert data.class_names == ("yes", "cat")
    asked = data[data.ids.index("42001")]
    assert (asked.question.text, asked.question.answer, asked.label) == ("What is it?", "cat", 1)
    assert asked.question.answers == ("cat",) * 6 + ("dog",) * 4
    assert asked.image.size == (62, 30)
    assert "3 questions on 2 pictures" in data.card


def test_answers_of_a_network_are_the_classes(tmp_path: Path) -> None:
    official(tmp_path)
    data = open_dataset("vqa-v2", tmp_path, answers=("no", "yes"))
    assert dict(zip(data.ids, data.labels, strict=True)) == {"42000": 1, "42001": None, "9000": 1}


def test_the_official_files_are_preferred_and_the_train_split_is_theirs(tmp_path: Path) -> None:
    official(tmp_path)
    sample(tmp_path / "other")
    os.replace(tmp_path / "other" / "vqa" / "questions.json", tmp_path / "vqa" / "questions.json")
    assert open_dataset("vqa-v2", tmp_path).card.startswith("VQA v2, val")
    with pytest.raises(MissingData, match=r"train questions of VQA v2 are not in .*fetch vqa-v2"):
        open_dataset("vqa-v2", tmp_path, split="train")
    official(tmp_path, "train")
    assert len(open_dataset("vqa-v2", tmp_path, split="train")) == 3


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="fetch vqa-v2"):
        open_dataset("vqa-v2", tmp_path)
    with pytest.raises(ValueError, match="Unknown split of vqa-v2 'test'"):
        open_dataset("vqa-v2", tmp_path, split="test")
    name = official(tmp_path)
    (tmp_path / "coco" / "val2014").rename(tmp_path / "coco" / "elsewhere")
    with pytest.raises(MissingData, match="fetch coco-val2014"):
        open_dataset("vqa-v2", tmp_path)
    (tmp_path / "coco" / "elsewhere").rename(tmp_path / "coco" / "val2014")
    name.write_text("[")
    with pytest.raises(ValueError, match=r"annotations\.json cannot be read: JSONDecodeError"):
        open_dataset("vqa-v2", tmp_path)
    name.write_text(json.dumps({"annotations": [{"question_id": 1}]}))
    with pytest.raises(ValueError, match="'image_id'"):
        open_dataset("vqa-v2", tmp_path)


def test_the_real_sample() -> None:
    root = Path(os.environ.get("CAMPANION_DATA", "nowhere"))
    if not (root / "vqa" / "questions.json").is_file():
        pytest.skip("CAMPANION_DATA is unset or has no vqa/questions.json")
    data = open_dataset("vqa-v2", root)
    if not data.card.startswith("a sample"):
        pytest.skip("CAMPANION_DATA has all of VQA v2")
    assert len(data) == 102
    assert len(QuestionImages(data)) == 67
    assert Counter(q.type for q in data.questions) == {"number": 36, "yes/no": 33, "other": 33}
    for question in data.questions:
        assert len(question.answers) == 10
        assert Counter(question.answers)[question.answer] == max(Counter(question.answers).values())
        assert words(question.text)
    assert data[0].image.mode == "RGB"
