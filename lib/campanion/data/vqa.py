"""VQA v2: questions and ten people's answers about COCO images, in the official files or as a compact sample.

Two layouts are read below the data folder:

- ``vqa/v2_OpenEnded_mscoco_<split>2014_questions.json`` and ``vqa/v2_mscoco_<split>2014_annotations.json`` with the
  images ``coco/<split>2014/COCO_<split>2014_<id>.jpg``; splits ``train`` and ``val``;
- ``vqa/questions.json``, a list of objects with ``image``, ``question_id``, ``question``, ``answer``, ``answer_type``
  and ``answers``, beside ``vqa/images/``; a part of ``val``.

Strings are compared as they are; the official script first strips articles and punctuation from the answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from campanion.data.questions import Question, QuestionSet, commonest
from campanion.data.samples import Sample, reading
from campanion.errors import MissingData
from campanion.pictures import open_picture

#: Classes of a network: so many of the commonest answers (Antol et al.).
TOP_ANSWERS = 1000
_FIELDS = ("image", "question_id", "question", "answer", "answer_type", "answers")


class VQAv2(QuestionSet):
    """Questions of VQA v2; the id of a sample is the question's, ``folder`` has the images."""

    name = "vqa-v2"

    def __init__(self, questions: Sequence[Question], answers: Sequence[str], folder: Path, source: str) -> None:
        super().__init__(questions, answers)
        self._folder = folder
        images = len({q.picture for q in self.questions})
        self.card = f"{source}: {len(self):,} questions on {images:,} pictures; CC BY 4.0, pictures: Flickr users'"

    def picture(self, name: str) -> Sample:
        """The COCO image of this name."""
        return Sample(name, open_picture(self._folder / name, rotate=False))


def open_vqa(root: Path, split: str | None = None, answers: Sequence[str] | None = None) -> VQAv2:
    """VQA v2's ``"train"`` or ``"val"`` questions (default), or its sample where only that lies below ``root``.

    ``answers`` are the classes, such as a network's ``class_names``; None takes the 1,000 commonest of the split.
    """
    split = split or "val"
    if vqa_layout(root, split) == "official":
        questions, images = _official(root, split), root / "coco" / f"{split}2014"
        source = f"VQA v2, {split}"
    else:
        questions, images, source = _sample(root), root / "vqa" / "images", "a sample of VQA v2, val"
    if answers is None:
        answers = commonest(q.answer for q in questions)[:TOP_ANSWERS]
    return VQAv2(questions, answers, images, source)


def vqa_layout(root: Path, split: str) -> str:
    """Which layout of a split lies below ``root``: ``"official"`` (preferred) or ``"sample"``; MissingData: neither."""
    if all(file.is_file() for file in _official_files(root, split)):
        if (root / "coco" / f"{split}2014").is_dir():
            return "official"
        raise MissingData(
            f"The images of VQA v2 are not in {root / 'coco' / f'{split}2014'}: "
            f"run `python -m campanion data fetch coco-{split}2014`."
        )
    if split == "val" and (root / "vqa" / "questions.json").is_file():
        return "sample"
    raise MissingData(
        f"The {split} questions of VQA v2 are not in {root / 'vqa'}: run `python -m campanion data fetch vqa-v2`."
    )


def vqa_accuracy(answer: str, answers: Sequence[str]) -> float:
    """VQA accuracy of one answer: min(matches / 3, 1), averaged over leaving out each of the people once."""
    matches = [answer == reply for reply in answers]
    return sum(min((sum(matches) - match) / 3, 1) for match in matches) / len(matches)


def _official_files(root: Path, split: str) -> tuple[Path, Path]:
    names = f"v2_OpenEnded_mscoco_{split}2014_questions.json", f"v2_mscoco_{split}2014_annotations.json"
    return root / "vqa" / names[0], root / "vqa" / names[1]


def _official(root: Path, split: str) -> list[Question]:
    questions, annotations = _official_files(root, split)
    with reading(f"The questions {questions}"):
        texts = {row["question_id"]: row["question"] for row in _read(questions)["questions"]}
    with reading(f"The annotations {annotations}"):
        return [
            Question(
                id=str(row["question_id"]),
                picture=f"COCO_{split}2014_{row['image_id']:012d}.jpg",
                text=texts[row["question_id"]],
                answer=row["multiple_choice_answer"],
                type=row["answer_type"],
                answers=tuple(person["answer"] for person in row["answers"]),
            )
            for row in _read(annotations)["annotations"]
        ]


def _sample(root: Path) -> list[Question]:
    path, questions = root / "vqa" / "questions.json", []
    with reading(f"The questions {path}"):
        for row in _read(path):
            image, number, text, answer, kind, answers = (row[name] for name in _FIELDS)
            if not all(isinstance(word, str) for word in (image, text, answer, kind, *answers)):
                raise TypeError(f"question {number} has a value that is not text")
            if Path(image).name != image:
                raise ValueError(f"question {number} names the image {image!r}, which is outside the folder")
            questions.append(Question(str(number), image, text, answer, kind, tuple(answers)))
    return questions


def _read(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))
