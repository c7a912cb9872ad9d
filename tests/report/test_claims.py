"""Claims: the file against the papers' own numbers, and every kind of test with every verdict."""

from __future__ import annotations

import re

import pytest
from campanion import paths
from campanion.report.claim_tests import KINDS, NO, OPEN, YES, NotThere, Rows, function_of
from campanion.report.claims import MIXED, NOT_RUN, Claim, find_claim, load_claims, printed_passes, verdict, verdicts
from campanion.report.papers import published, tables

CLAIMS = load_claims()
AMONG = ["a", "b", "c"]


def run(differences=(), means=(), model="resnet18", data="imagenet-val", mode="full") -> dict:
    """Run with ``(method, reference, metric, low, high)`` differences and ``(method, metric, low, high)`` means."""
    return {
        "model": model,
        "data": data,
        "mode": mode,
        "rows": [
            {"method": m, "metric": k, "mean": (lo + hi) / 2, "low": lo, "high": hi, "n": 9} for m, k, lo, hi in means
        ],
        "differences": [
            {"method": m, "reference": r, "metric": k, "mean": (lo + hi) / 2, "low": lo, "high": hi, "n": 7}
            for m, r, k, lo, hi in differences
        ],
    }


def answer(test: dict, *args, **kwargs) -> str:
    return function_of(test)(Rows(run(*args, **kwargs)))[0]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_the_papers_own_numbers_answer_as_noted(claim):
    """A slip in method, metric or direction of a claim shows here, for it then fails on the printed numbers."""
    assert printed_passes(claim) is claim.printed


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_claims_point_to_what_exists(claim):
    named = set(tables())
    assert all((claim.paper, t) in named for t in claim.tables) or claim.printed is None
    assert re.fullmatch(r"\d\d_(fd|lift|lfi)_[a-z0-9_]+", claim.notebook)
    assert claim.notebook.split("_")[1] == claim.paper
    assert claim.sentence.endswith(".")
    printed = {m for t in claim.tables if (claim.paper, t) in named for m in published(claim.paper, t).method}
    if claim.printed is not None:
        test = claim.test
        used = {test.get(k) for k in ("method", "than", "to")} | set(test.get("among", test.get("methods", [])))
        assert used - {None} <= printed


def test_every_table_with_numbers_has_a_claim():
    claimed = {(c.paper, t) for c in CLAIMS for t in c.tables}
    assert set(tables()) - claimed == {("lfi", "supplement_table1")}
    assert {c.test["kind"] for c in CLAIMS} == set(KINDS)


def pairs(*signs: float, metric: str = "overall") -> list[tuple]:
    """a - b, a - c and b - c: 1 above zero, -1 below, 0 across."""
    at = {1: (0.1, 0.3), -1: (-0.3, -0.1), 0: (-0.1, 0.1)}
    names = (("a", "b"), ("a", "c"), ("b", "c"))
    return [(*n, metric, *at[s]) for n, s in zip(names, signs, strict=False)]


@pytest.mark.parametrize(("signs", "word"), [((1, 1, 0), YES), ((1, -1, 0), NO), ((1, 0, 0), OPEN), ((-1, 0, 0), NO)])
def test_best(signs, word):
    test = {"kind": "best", "method": "a", "among": AMONG, "metrics": ["overall"]}
    assert answer(test, pairs(*signs)) == word


def test_lower_is_better_turns_the_sign():
    test = {"kind": "greater", "method": "a", "than": "b", "metrics": ["deletion"]}
    assert answer(test, pairs(-1, metric="deletion")) == YES
    assert answer(test, pairs(1, metric="deletion")) == NO
    assert answer({**test, "method": "b", "than": "a"}, pairs(1, metric="deletion")) == YES  # found the other way round


@pytest.mark.parametrize(
    ("signs", "word"), [((1, -1), YES), ((1, 1), NO), ((-1, -1), NO), ((1, 0), OPEN), ((0, -1), OPEN)]
)
def test_second_best(signs, word):
    test = {"kind": "second_best", "method": "a", "among": AMONG, "metrics": ["overall"]}
    assert answer(test, pairs(*signs)) == word


@pytest.mark.parametrize(("signs", "word"), [((1, 0, 1), YES), ((1, 1, -1), NO), ((0, 1, 1), OPEN)])
def test_rank_and_improves_with_pair_neighbours(signs, word):
    test = {"kind": "rank", "methods": AMONG, "metrics": ["overall"]}
    assert answer(test, pairs(*signs)) == word
    assert answer({**test, "kind": "improves_with", "methods": AMONG[::-1]}, pairs(*signs)) == word


@pytest.mark.parametrize(("margin", "word"), [(0.05, YES), (0.2, OPEN), (0.4, NO), (-1.0, YES)])
def test_at_least_difference(margin, word):
    test = {"kind": "at_least_difference", "method": "a", "among": ["a", "b"], "metrics": ["overall"], "margin": margin}
    assert answer(test, pairs(1)) == word


@pytest.mark.parametrize(("margin", "word"), [(0.4, YES), (0.2, OPEN), (0.05, NO)])
def test_close(margin, word):
    test = {"kind": "close", "method": "a", "to": "b", "metrics": ["overall"], "margin": margin}
    assert answer(test, pairs(1)) == word
    assert answer(test, pairs(-1)) == word


def test_group_above():
    test = {"kind": "group_above", "methods": ["a", "b"], "others": ["c"], "metrics": ["overall"]}
    assert answer(test, pairs(0, 1, 1)) == YES
    assert answer(test, pairs(0, 1, -1)) == NO
    assert answer(test, pairs(0, 1, 0)) == OPEN


@pytest.mark.parametrize(
    ("bounds", "word"),
    [({"at_least": 0.9}, OPEN), ({"at_least": 0.8}, YES), ({"at_least": 0.96}, NO), ({"at_most": 0.96}, YES),
     ({"at_most": 0.8}, NO), ({"at_least": 0.8, "at_most": 0.9}, OPEN), ({"at_least": 0.8, "at_most": 1}, YES)],
)  # fmt: skip
def test_threshold(bounds, word):
    test = {"kind": "threshold", "methods": ["a"], "metrics": ["shap_cosine"], **bounds}
    assert answer(test, means=[("a", "shap_cosine", 0.85, 0.95)]) == word


@pytest.mark.parametrize(
    ("cells", "word"), [((1, 1, -1), YES), ((1, -1, -1), NO), ((1, 0, -1), OPEN), ((1, 0, 0), OPEN)]
)
def test_most_cells(cells, word):
    test = {"kind": "most_cells", "method": "a", "among": ["a", "b"], "metrics": ["iic", "add", "overall"]}
    rows = [d for s, m in zip(cells, test["metrics"], strict=True) for d in pairs(s, metric=m)]
    assert answer(test, rows) == word


def test_rounding_noise_is_no_evidence():
    test = {"kind": "greater", "method": "a", "than": "b", "metrics": ["shap_cosine"]}
    assert answer(test, [("a", "b", "shap_cosine", 1e-9, 2e-8)]) == OPEN
    assert answer(test, [("a", "b", "shap_cosine", 0.0, 0.0)]) == OPEN
    assert answer(test, [("a", "b", "shap_cosine", 1e-5, 2e-5)]) == YES


def test_without_pairs_the_two_intervals_must_not_overlap():
    test = {"kind": "greater", "method": "a", "than": "b", "metrics": ["top1_error"]}
    assert answer(test, means=[("a", "top1_error", 5.0, 5.2), ("b", "top1_error", 5.3, 5.5)]) == YES
    assert answer(test, means=[("a", "top1_error", 5.0, 5.4), ("b", "top1_error", 5.3, 5.5)]) == OPEN
    one = run(means=[("a", "top1_error", 5.0, 5.0), ("b", "top1_error", 5.3, 5.3)])
    word, numbers = function_of(test)(Rows(one))
    assert word == YES  # exact quantities
    assert "unpaired" in str(numbers[0])
    one["rows"][0].update(low=None, high=None)
    assert function_of(test)(Rows(one))[0] == OPEN  # one network, no interval
    with pytest.raises(NotThere, match="no top1_error of b"):
        answer(test, means=[("a", "top1_error", 5.0, 5.2)])


CLAIM = Claim("x", "fd", ("table1",), "A is best.", "21_fd_table1", ("imagenet",), True,
              {"kind": "best", "method": "a", "among": AMONG, "metrics": ["overall"]})  # fmt: skip


def result(*runs: dict) -> dict:
    return {"21_fd_table1": {"runs": list(runs)}}


def test_verdict_of_one_run_has_reason_and_numbers():
    got = verdict(CLAIM, result(run(pairs(1, 1))))
    assert got.word == YES
    assert got.reason == "resnet18 on imagenet-val: 2 of 2 comparisons hold; a - b, overall: 0.2 (0.1 to 0.3, N = 7)"
    assert [n["reference"] for n in got.numbers] == ["b", "c"]
    assert got.numbers[0] | {"model": "resnet18", "mean": 0.2, "word": YES} == got.numbers[0]
    against = verdict(CLAIM, result(run(pairs(1, -1))))
    assert against.word == NO
    assert "a - c, overall: -0.2" in against.reason


@pytest.mark.parametrize(
    ("signs", "word"),
    [((1, 1), YES), ((1, -1), MIXED), ((1, 0), MIXED), ((-1, 0), NO), ((-1, -1), NO), ((0, 0), OPEN)],
)
def test_several_runs(signs, word):
    first, second = (run(pairs(1, s), model=m) for s, m in zip(signs, ("resnet18", "vgg16"), strict=True))
    assert verdict(CLAIM, result(first, second)).word == word
    assert verdict(CLAIM, result(second, first)).word == word


def test_runs_that_differ_are_listed_with_their_words():
    got = verdict(CLAIM, result(run(pairs(1, 1)), run(pairs(1, 0), model="vgg16")))
    assert "resnet18 on imagenet-val: reproduced: " in got.reason
    assert "vgg16 on imagenet-val: undecided: " in got.reason
    assert "reproduced: " not in verdict(CLAIM, result(run(pairs(1, 1)), run(pairs(1, 1), model="vgg16"))).reason


def test_a_network_on_which_the_methods_coincide_does_not_veto():
    same = run([("a", "b", "overall", -1e-9, 2e-9), ("a", "c", "overall", 0.1, 0.3)], model="linear")
    for others, word in (([1], YES), ([-1], NO), ([0], OPEN), ([1, -1], MIXED)):
        runs = [run(pairs(1, s), model=f"net{i}") for i, s in enumerate(others)]
        assert verdict(CLAIM, result(same, *runs)).word == word
    alone = verdict(CLAIM, result(same))
    assert alone.word == OPEN
    assert alone.runs[0].tied
    assert alone.reason.endswith("these coincide on this network")
    worse = run([("a", "b", "overall", -1e-9, 2e-9), ("a", "c", "overall", -0.3, -0.1)])
    assert verdict(CLAIM, result(worse, run(pairs(1, 1), model="vgg16"))).word == MIXED  # it contradicts elsewhere


def test_what_does_not_count_is_not_run():
    assert verdict(CLAIM, {}).word == NOT_RUN
    quick = verdict(CLAIM, result(run(pairs(1, 1), mode="quick")))
    assert (quick.word, quick.reason) == (NOT_RUN, "21_fd_table1 has no full run on imagenet")
    assert verdict(CLAIM, result(run(pairs(1, 1), data="voc2007"))).word == NOT_RUN
    lacking = verdict(CLAIM, result(run(pairs(1))))
    assert lacking.word == NOT_RUN
    assert "no overall of a" in lacking.reason
    both = verdict(CLAIM, result(run(pairs(1)), run(pairs(1, 1), model="vgg16")))
    assert both.word == YES  # the run that has no answer does not veto


def test_sizes_are_compared_with_the_printed_ones():
    claim = find_claim("lfi_table3_sizes")
    exact = {"plain": 42.513, "abn": 62.577, "lfi_cam": 62.039}

    def sized(model, sizes):
        means = [(m, "parameters", v, v) for m, v in sizes.items()]
        return {claim.notebook: {"runs": [run(means=means, model=model)]}}

    assert verdict(claim, sized("resnet101", exact)).word == YES
    assert verdict(claim, sized("resnet101", {**exact, "lfi_cam": 195.56})).word == NO
    assert verdict(claim, sized("resnet50", {"plain": 23.521, "abn": 43.585, "lfi_cam": 43.047})).word == NO  # misprint
    unprinted = verdict(claim, sized("resnet20", exact))
    assert unprinted.word == NOT_RUN
    assert "resnet20" in unprinted.reason


def test_verdicts_keep_the_order_of_the_file():
    assert [v.claim.id for v in verdicts({})] == [c.id for c in CLAIMS]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind: second_best", "kind: secnd_best", "Unknown kind of test 'secnd_best'. Did you mean 'second_best'"),
        ("metrics: [deletion], among", "metrics: [deletoin], among", "Unknown metric 'deletoin'"),
        ("margin: 1.79", "marign: 1.79", "fd_table2_margin.*marign"),
        ("  printed: yes\n", "", "lacks or does not know printed"),
        ("id: fd_table1_best_insertion", "id: fd_table1_best_overall", "used twice"),
        ("paper: fd", "paper: df", "Unknown paper 'df'"),
    ],
)
def test_a_wrong_claims_file_is_told(tmp_path, monkeypatch, old, new, says):
    text = (paths.papers_dir() / "claims_before.yml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "claims_before.yml").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(paths, "papers_dir", lambda: tmp_path)
    with pytest.raises(ValueError, match=says):
        load_claims()


def test_unknown_claim_is_told():
    with pytest.raises(ValueError, match="Did you mean 'fd_table1_best_overall'"):
        find_claim("fd_table1_best_overal")
