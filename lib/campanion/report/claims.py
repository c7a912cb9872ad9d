"""The claims of the three papers, ``data/papers/claims.yml``, as checked models; its head explains the fields."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from campanion import paths
from campanion.errors import one_of
from campanion.report.networks import paper_data
from campanion.report.papers import PAPERS
from campanion.results.measures import DIRECTION

_SEVERAL = BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,))  # or one of them
Names = Annotated[tuple[str, ...], _SEVERAL]
Bound = Literal["paper", "ours"]


class Model(BaseModel):
    """Frozen, and strict about unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Fit(Model):
    """Which runs are meant: their data sets (the papers' names) or the heads of their networks."""

    data: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()


#: what a test of each kind needs
_NEEDS = {
    "above": ("methods", "others", "metrics"),
    "most_cells": ("methods", "others", "metrics"),
    "level": ("methods", "metrics"),
    "close": ("methods", "others", "metrics", "within"),
    "not_worse": ("methods", "others", "metrics", "within"),
    "ratio": ("methods", "others", "metrics", "times"),
    "as_printed": ("methods", "metrics", "within"),
    "association": ("methods", "metrics", "by"),
    "across": ("method", "metric", "higher", "lower"),
    "by_eye": (),
}
_MAY_HAVE = {"level": ("at_least", "at_most"), "as_printed": ("misprints", "printed_as")}


class Test(Model):
    """One test of a claim; the head of the file says what the kinds and fields are."""

    kind: Literal[*_NEEDS]
    methods: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    within: float | None = None
    times: float | None = None
    misprints: dict[str, float] = {}
    printed_as: str | None = None
    by: str | None = None
    method: str | None = None
    metric: str | None = None
    higher: Fit = Fit()
    lower: Fit = Fit()

    @model_validator(mode="after")
    def _complete(self) -> Test:
        lacks = [f for f in _NEEDS[self.kind] if getattr(self, f) in ((), None, Fit())]
        if self.kind == "level" and self.at_least is None and self.at_most is None:
            lacks.append("at_least or at_most")
        strange = self.model_fields_set - {"kind", *_NEEDS[self.kind], *_MAY_HAVE.get(self.kind, ())}
        if lacks or strange:
            says = f"lacks {', '.join(lacks)}" if lacks else f"does not know {', '.join(sorted(strange))}"
            raise ValueError(f"a test of kind {self.kind!r} {says}")
        for metric in (*self.metrics, *filter(None, (self.by, self.metric))):
            one_of("metric", metric, DIRECTION)
        return self


class Setting(Model):
    """A network on a data set, trained for so many epochs where the claim is about training runs."""

    network: Names
    data: Names
    epochs: Annotated[tuple[int, ...], _SEVERAL] = ()

    def fits(self, model: str, data: str, epochs: int | None) -> bool:
        """Whether a run is of this setting."""
        named = model in self.network and paper_data(data) in self.data
        return named and (not self.epochs or epochs in self.epochs)


class Claim(Model):
    """One claim; see the head of ``claims.yml``."""

    id: str
    paper: str
    tables: tuple[str, ...]
    place: str
    sentence: str
    notebook: str
    results: tuple[str, ...] = ()
    join: Literal["data"] | None = None
    data: tuple[str, ...]
    own: tuple[Setting, ...]
    n: int | None = None
    heads: tuple[str, ...] = ()
    generation: str | None = None
    seeds: Literal["own"] | None = None
    test: Annotated[tuple[Test, ...], _SEVERAL]
    bound_from: Bound
    printed: dict[str, float]
    margin: dict[str, float] = {}
    margin_from: Bound | None = None

    @model_validator(mode="after")
    def _known(self) -> Claim:
        one_of("paper", self.paper, PAPERS)
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """The results that answer."""
        return self.results or (self.notebook,)

    @property
    def kind(self) -> str:
        """The kind of its (first) test."""
        return self.test[0].kind

    @property
    def by_cells(self) -> bool:
        """Whether most cells decide, not all comparisons."""
        return self.kind == "most_cells"

    def is_about(self, data: str) -> bool:
        """Whether it is tested on this data set, whichever of its names is given."""
        return data in self.data or paper_data(data) in self.data


def load_claims() -> list[Claim]:
    """The claims of ``claims.yml``; ValueError names the one that has a wrong field, kind of test, paper or metric."""
    path = paths.papers_dir() / "claims.yml"
    return list(_load(str(path), path.stat().st_mtime_ns))


def find_claim(name: str) -> Claim:
    """The claim of this id; ValueError where there is none."""
    claims = {c.id: c for c in load_claims()}
    one_of("claim", name, claims)
    return claims[name]


@cache
def _load(path: str, _changed: int) -> tuple[Claim, ...]:
    with open(path, encoding="utf-8") as file:
        entries = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # libyaml's: a tenth of the time
    claims = []
    for entry in entries:
        try:
            claims.append(Claim(**entry))
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join(map(str, wrong["loc"])) or "it"
            raise ValueError(f"{path}: claim {entry.get('id')!r}, {where}: {wrong['msg']}.") from error
    for name, count in Counter(claim.id for claim in claims).items():
        if count > 1:
            raise ValueError(f"{path}: the id {name} is used twice.")
    return tuple(claims)
