"""``data/papers/claims.yml`` against the papers' tables: every printed difference and every margin is recomputed."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pandas as pd
import pytest
import yaml
from campanion import paths

LOWER = {"deletion", "ad", "top1_error", "parameters"}  # the printed metrics of which less is better
CLAIMS = yaml.safe_load((paths.papers_dir() / "claims.yml").read_text(encoding="utf-8"))
DIFFERENCES = {"above", "most_cells", "close", "not_worse"}
NEEDED = {"id", "paper", "tables", "place", "sentence", "notebook", "data", "own", "test", "bound_from", "printed"}


def parts_of(claim: dict) -> list[dict]:
    return claim["test"] if isinstance(claim["test"], list) else [claim["test"]]


def values(claim: dict, metric: str) -> list[dict[str, Decimal]]:
    """The printed values of a metric by method, one dictionary per network and data set."""
    frames = [
        pd.read_csv(paths.papers_dir() / f"{claim['paper']}_{t}.csv", dtype=str, keep_default_na=False)
        for t in claim["tables"]
    ]
    found = pd.concat(frames).query("metric == @metric") if frames else pd.DataFrame()
    if found.empty:
        return []
    found = found[found.data.isin([*claim["data"], ""])]
    return [{r.method: Decimal(r.value) for r in g.itertuples()} for _, g in found.groupby(["model", "data"])]


def needed(claim: dict, metric: str) -> list[Decimal]:
    """What the claim needs to be above 0, in the paper's own numbers."""
    found = []
    for test in parts_of(claim):
        if metric not in test.get("metrics", ()):
            continue
        for by_method in values(claim, metric):
            if test["kind"] in DIFFERENCES:
                pairs = [(a, b) for a, b in product(test["methods"], test["others"]) if a != b]
                gaps = [by_method[a] - by_method[b] for a, b in pairs if {a, b} <= set(by_method)]
                found += [-g if metric in LOWER else g for g in gaps]
            if test["kind"] == "level":
                held = [by_method[a] for a in test["methods"] if a in by_method]
                found += [v - Decimal(str(test["at_least"])) for v in held if "at_least" in test]
                found += [Decimal(str(test["at_most"])) - v for v in held if "at_most" in test]
    return found


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c["id"])
def test_printed_differences_and_margins_are_those_of_the_papers_tables(claim):
    assert set(claim) >= NEEDED
    for metric in {m for t in parts_of(claim) for m in t.get("metrics", ())}:
        gaps = needed(claim, metric)
        assert (metric in claim["printed"]) == bool(gaps)
        if gaps:
            assert float(min(gaps)) == claim["printed"][metric]
        if claim.get("margin_from") == "paper" and gaps:
            digits = [v.as_tuple().exponent for by_method in values(claim, metric) for v in by_method.values()]
            unit = Decimal(1).scaleb(min(digits))
            assert claim["margin"][metric] == float(max(min(map(abs, gaps)) / 2, unit / 2))


def test_every_claim_of_a_difference_has_a_margin_and_says_whose_its_bounds_are():
    assert len({c["id"] for c in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim["bound_from"] in ("paper", "ours"), claim["id"]
        differences = {m for t in parts_of(claim) if t["kind"] in ("above", "most_cells") for m in t["metrics"]}
        assert set(claim.get("margin", {})) == differences, claim["id"]
        assert (claim.get("margin_from") in ("paper", "ours")) == bool(differences), claim["id"]


def test_the_claims_are_dated_before_the_runs_that_they_judge():
    head = (paths.papers_dir() / "claims.yml").read_text(encoding="utf-8").split("\n- id")[0]
    assert "Written on 2026-11-29, before any row of VGG16" in head
