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
from collections.abc import Callable, Sequence
from pathlib import Path

from campanion.data.questions import Question, QuestionSet, commonest
from campanion.data.samples import Sample
from campanion.errors import MissingData, unknown
from campanion.pictures import open_picture

SPLITS: tuple[str, ...] = ("train", "val")
#: Classes of a network: so many of the commonest answers (Antol et al.).
TOP_ANSWERS = 1000
_FIELDS = ("image", "question_id", "question", "answer", "answer_type", "answers")


class VQAv2(QuestionSet):
    """Questions of VQA v2; see :func:`open_vqa`. The id of a sample is the question's."""

    name = "vqa-v2"

    def __init__(
        self, questions: Sequence[Question], answers: Sequence[str], path: Callable[[str], Path], source: str
    ) -> None:
        super().__init__(questions, answers)
        self._path = path
        images = len({q.picture for q in self.questions})
        self.card = f"{source}: {len(self):,} questions on {images:,} pictures; CC BY 4.0, pictures: Flickr users'"

    def picture(self, name: str) -> Sample:
        """The COCO image of this name."""
        return Sample(name, open_picture(self._path(name), rotate=False))


def open_vqa(root: Path, split: str | None = None, answers: Sequence[str] | None = None) -> VQAv2:
    """VQA v2, or its sample where only that lies below ``root``.

    Args:
        root: the data folder.
        split: ``"train"`` or ``"val"`` (default).
        answers: the classes, such as a network's ``class_names``; None takes the 1,000 commonest of the split.

    Raises:
        ValueError: unknown split, or a damaged file (named).
        MissingData: the questions or their images are not there; says how to get them.

    Example:
        >>> data = open_vqa(data_dir(), answers=model.class_names)
        >>> data[0].question.text
    """
    split = split or "val"
    if split not in SPLITS:
        raise ValueError(unknown("split of VQA v2", split, SPLITS))
    if vqa_layout(root, split) == "official":
        questions, images = _official(root, split), root / "coco" / f"{split}2014"
        source = f"VQA v2, {split}"
    else:
        questions, images, source = _sample(root), root / "vqa" / "images", "a sample of VQA v2, val"
    found = answers if answers is not None else commonest(q.answer for q in questions)[:TOP_ANSWERS]
    return VQAv2(questions, found, lambda name: images / name, source)


def vqa_layout(root: Path, split: str) -> str:
    """Which layout of a split lies below ``root``: ``"official"`` (preferred) or ``"sample"``.

    Raises:
        MissingData: neither, or the official questions lack their images.
    """
    questions, annotations = _official_files(root, split)
    if questions.is_file() and annotations.is_file():
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
    """VQA accuracy of one answer: min(matches / 3, 1), averaged over leaving out each of the people once.

    >>> round(vqa_accuracy("yes", ["yes"] * 3 + ["no"] * 7), 2)
    0.9
    """
    same = [answer == other for other in answers]
    total = sum(same)
    return sum(min((total - own) / 3, 1) for own in same) / len(same)


def _official_files(root: Path, split: str) -> tuple[Path, Path]:
    folder = root / "vqa"
    return (
        folder / f"v2_OpenEnded_mscoco_{split}2014_questions.json",
        folder / f"v2_mscoco_{split}2014_annotations.json",
    )


def _official(root: Path, split: str) -> list[Question]:
    first, second = _official_files(root, split)
    try:
        texts = {row["question_id"]: row["question"] for row in _read(first)["questions"]}
        return [
            Question(
                id=str(row["question_id"]),
                picture=f"COCO_{split}2014_{row['image_id']:012d}.jpg",
                text=texts[row["question_id"]],
                answer=row["multiple_choice_answer"],
                type=row["answer_type"],
                answers=tuple(each["answer"] for each in row["answers"]),
            )
            for row in _read(second)["annotations"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"The files {first.name} and {second.name} are not VQA v2's ({error!r}).") from error


def _sample(root: Path) -> list[Question]:
    path = root / "vqa" / "questions.json"
    content = _read(path)
    try:
        rows = [[row[name] for name in _FIELDS] for row in content]
        for image, number, *texts, answers in rows:
            if not all(isinstance(text, str) for text in (image, *texts, *answers)):
                raise TypeError(f"question {number} has a value that is not text")
            if Path(image).name != image:
                raise ValueError(f"question {number} names the image {image!r}, which is outside the folder")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a list of questions: {error!r}.") from error
    return [
        Question(str(number), image, text, answer, kind, tuple(answers))
        for image, number, text, answer, kind, answers in rows
    ]


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
