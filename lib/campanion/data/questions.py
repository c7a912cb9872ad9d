"""Questions about images, and those about generated scenes: an image, a question, an answer.

A set of questions is a data set whose samples are pairs of an image and a question; its classes are the answers.
Those about scenes follow from the scenes' own tables of attributes:

========  =====================================================  =============================  =======
type      asks                                                   answers                        chance
========  =====================================================  =============================  =======
colour    what colour is the largest object / the object on the  the ten colours                10 %
          left, on the right, at the top, at the bottom
kind      what shape is it                                       the ten shapes                 10 %
count     how many objects are there                             one, two, three                33 %
position  is the disc / the red object / the largest object on   left, right, top, bottom       50 %
          the left or on the right, at the top or at the bottom
========  =====================================================  =============================  =======

An object is asked about only where the words fit no other: by its kind or colour where no other object of the scene
shares it, by its half of the image where no other object has its centre there. Nothing near the middle is asked about
by its side. Kinds, colours, numbers and places of a scene are drawn evenly, so that no answer of a type is commoner
than the others, and the question alone tells nothing of its answer.
"""

from __future__ import annotations

import copy
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from campanion.data.samples import Dataset, Sample
from campanion.data.scenes import COLOURS, Attributes, SceneDataset
from campanion.data.shapes import SHAPES

NUMBERS: tuple[str, ...] = ("one", "two", "three")
SIDES: tuple[str, ...] = ("left", "right", "top", "bottom")
#: Types of questions about scenes.
TYPES: tuple[str, ...] = ("colour", "kind", "count", "position")
#: All answers to questions about scenes: the classes of the network that is trained on them.
ANSWERS: tuple[str, ...] = (*COLOURS, *SHAPES, *NUMBERS, *SIDES)
#: Seed of the test scenes on which the trained network is measured; nothing about it was chosen by looking at them.
HELD_OUT_SEED = 1
#: How far from the middle (in sides of the image) a centre must lie for its side to be asked.
MARGIN = 0.1
_WORDS = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


@dataclass(frozen=True)
class Question:
    """A question about an image. ``answers`` are those that people gave; ``answer`` is the commonest of them."""

    id: str
    picture: str
    text: str
    answer: str
    type: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked(Sample):
    """An image with a question; ``label`` is the answer's class, None where the answer is not among the classes."""

    question: Question | None = field(default=None, compare=False)


class QuestionSet(Dataset):
    """Pairs of an image and a question; ``questions`` [i] belongs to sample i, ``class_names`` are the answers.

    Readers define :meth:`picture`.
    """

    def __init__(self, questions: Sequence[Question], answers: Sequence[str]) -> None:
        self.questions = list(questions)
        self.class_names = tuple(answers)
        self.ids = [q.id for q in self.questions]
        classes = {answer: i for i, answer in enumerate(self.class_names)}
        self.labels = [classes.get(q.answer) for q in self.questions]

    def only(self, indices: Sequence[int]) -> QuestionSet:
        """The same set with some of its questions alone; its card says how many."""
        part = copy.copy(self)
        QuestionSet.__init__(part, [self.questions[i] for i in indices], self.class_names)
        part.card = f"{len(part):,} of {self.card}"
        return part

    @abstractmethod
    def picture(self, name: str) -> Sample:
        """The image that questions name as their ``picture``."""

    def __getitem__(self, index: int) -> Asked:
        index = range(len(self))[index]
        question = self.questions[index]
        sample = self.picture(question.picture)
        return Asked(question.id, sample.image, self.labels[index], sample.objects, question)


class QuestionImages(Dataset):
    """The distinct images of a set of questions, in the order in which they are first asked about."""

    class_names = ()

    def __init__(self, data: QuestionSet) -> None:
        self.name, self.card, self._data = data.name, data.card, data
        self.ids = list(dict.fromkeys(q.picture for q in data.questions))
        self.labels = [None] * len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self._data.picture(self.ids[index])


class SceneQuestions(QuestionSet):
    """Questions about the ``n`` scenes of a :class:`campanion.data.scenes.SceneDataset`: of every type ``per_type``.

    That is so many at the most, as a scene allows; None takes all there are.
    """

    name = "scenes"

    def __init__(self, n: int, seed: int = 0, size: int = 64, split: str = "test", per_type: int | None = 1) -> None:
        if per_type is not None and per_type < 1:
            raise ValueError(f"per_type must be at least 1, or None for all questions, not {per_type}.")
        self.scenes = SceneDataset(n, seed, size, split)
        self._place = {name: i for i, name in enumerate(self.scenes.ids)}
        questions: list[Question] = []
        for i, name in enumerate(self.scenes.ids):
            rng = np.random.default_rng([self.scenes.scene_seed(i), 4])  # a stream of its own: the drawing has 0 and 1
            questions += _chosen(name, self.scenes.attributes(i), per_type, rng)
        super().__init__(questions, ANSWERS)
        self.card = f"{len(questions):,} questions of the types {', '.join(TYPES)} about: {self.scenes.card}"

    def picture(self, name: str) -> Sample:
        """The scene of this id."""
        return self.scenes[self._place[name]]


def scene_questions(rows: Sequence[Attributes]) -> dict[str, list[tuple[str, str]]]:
    """Every question that a scene of these attributes (the largest object first) allows, by type, with its answer."""
    largest = [("the largest object", rows[0])]
    by_place = largest + _by_half(rows)
    by_name = [(f"the {row.kind}", row) for row in _unlike(rows, "kind")]
    by_name += [(f"the {row.colour} object", row) for row in _unlike(rows, "colour")]
    return {
        "colour": [(f"what colour is {name}", row.colour) for name, row in by_place],
        "kind": [(f"what shape is {name}", row.kind) for name, row in by_place],
        "count": [("how many objects are there", NUMBERS[len(rows) - 1])],
        "position": [pair for name, row in largest + by_name for pair in _which_side(name, row)],
    }


def words(text: str) -> list[str]:
    """The words of a question, lower case, without punctuation: ``["what's", "on", "the", "table"]``."""
    return _WORDS.findall(text.lower())


def commonest(items: Iterable[str]) -> list[str]:
    """The distinct items, the commonest first, equally common ones in alphabetical order."""
    counts = Counter(items)
    return sorted(counts, key=lambda item: (-counts[item], item))


def _unlike(rows: Sequence[Attributes], attribute: str) -> list[Attributes]:
    """The objects whose kind or colour no other of the scene has."""
    counts = Counter(getattr(row, attribute) for row in rows)
    return [row for row in rows if counts[getattr(row, attribute)] == 1]


def _side(at: float, low: str, high: str) -> str | None:
    """On which side of the middle a centre lies, or None near it."""
    return None if abs(at - 0.5) <= MARGIN else low if at < 0.5 else high


def _by_half(rows: Sequence[Attributes]) -> list[tuple[str, Attributes]]:
    """The objects that are alone in a half of the image, with none in doubt, as "the object on the left"."""
    alone = []
    for axis, low, high in ((0, "left", "right"), (1, "top", "bottom")):
        sides = [_side(row.centre[axis], low, high) for row in rows]
        for side in (low, high):
            if None not in sides and sides.count(side) == 1:
                alone.append((f"the object {'on' if axis == 0 else 'at'} the {side}", rows[sides.index(side)]))
    return alone


def _which_side(name: str, row: Attributes) -> list[tuple[str, str]]:
    """The questions on which side of the image an object lies."""
    across, down = _side(row.centre[0], "left", "right"), _side(row.centre[1], "top", "bottom")
    pairs = ((f"is {name} on the left or on the right", across), (f"is {name} at the top or at the bottom", down))
    return [(text, side) for text, side in pairs if side]


def _chosen(name: str, rows: Sequence[Attributes], per_type: int | None, rng: np.random.Generator) -> list[Question]:
    """The questions of one scene: of every type those that are drawn, in the order drawn."""
    return [
        Question(f"{name}-{kind}-{i}", name, text, answer, kind, (answer,))
        for kind, pairs in scene_questions(rows).items()
        for i, (text, answer) in enumerate(pairs[j] for j in rng.permutation(len(pairs))[:per_type])
    ]
