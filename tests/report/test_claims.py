"""The claims as models: what a wrong file is told, and that every claim points to what exists."""

from __future__ import annotations

import re

import pytest
from campanion import paths
from campanion.report.claims import Setting, find_claim, load_claims
from campanion.report.evidence import NotThere, Run, comparisons, nearest
from campanion.report.papers import published, tables
from campanion.report.rule import HOLDS, judge

CLAIMS = load_claims()


def printed_run(claim, model, data):
    """The paper's own table as a run without widths: of this network and data, or the nearest."""
    values = nearest(claim, Run(model, data))[0]
    return Run(model, data, means={k: {"mean": v, "low": v, "high": v, "n": claim.n or 1} for k, v in values.items()})


def printed_passes(claim):
    """Whether the paper's own numbers bear the claim out (they have no width); None where it prints none of them."""
    words = []
    for setting in claim.own:
        for model, data in ((m, d) for m in setting.network for d in setting.data):
            try:
                words.append(judge(comparisons(claim, printed_run(claim, model, data)), claim.by_cells).word)
            except (NotThere, IndexError):  # it prints no such number, or no table at all
                continue
    return all(w == HOLDS for w in words) if words else None


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_claims_point_to_what_exists(claim):
    assert all((claim.paper, t) in set(tables()) for t in claim.tables)
    assert re.fullmatch(rf"\d\d_{claim.paper}_[a-z0-9_]+", claim.notebook)
    assert (paths.root() / "notebooks" / f"{claim.notebook}.ipynb").exists()
    assert claim.sentence.endswith(".")
    printed = {m for t in claim.tables for m in published(claim.paper, t).method}
    if claim.printed and claim.kind not in ("as_printed", "association"):
        assert {m for t in claim.test for m in (*t.methods, *t.others)} <= printed


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.kind in ("above", "most_cells") and c.printed],
                         ids=lambda c: c.id)  # fmt: skip
def test_the_papers_own_numbers_pass_where_their_smallest_difference_says_so(claim):
    """A slip in method, metric or direction of a claim shows here, for it then fails on the printed numbers."""
    expected = all(v > 0 for v in claim.printed.values())
    if claim.kind == "most_cells":
        expected = True  # the paper loses one of nine cells
    assert printed_passes(claim) is expected


def test_every_table_with_numbers_has_a_claim():
    claimed = {(c.paper, t) for c in CLAIMS for t in c.tables}
    assert set(tables()) - claimed == {("lfi", "supplement_table1")}


def test_a_setting_is_a_network_on_data_after_so_many_epochs():
    setting = Setting(network="vgg16", data=["imagenet", "coco"])
    assert setting.fits("vgg16", "imagenet-val", None)
    assert not setting.fits("vgg16", "voc2007", None)
    assert not setting.fits("resnet18", "imagenet-val", None)
    trained = Setting(network="resnet18", data="cifar10", epochs=300)
    assert trained.fits("resnet18", "cifar10", 300)
    assert not trained.fits("resnet18", "cifar10", 4)


def test_find_claim_tells_what_there_is():
    assert find_claim("fd_table1_best_overall").kind == "above"
    with pytest.raises(ValueError, match=r"Unknown claim 'fd_table1_best_overal'\. Did you mean"):
        find_claim("fd_table1_best_overal")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind: not_worse", "kind: not_wrose", "lfi_table3_on_par"),
        ("within: 1.0}", "witihn: 1.0}", "lift_table3_add_coco.*witihn"),
        ("metrics: [overall_several]", "metrics: [overal]", "fd_fig1_score_faithful.*Unknown metric 'overal'"),
        ("at_least: 60}", "}", "lfi_fig6_lfi_stable.*lacks at_least or at_most"),
        ("{kind: by_eye}", "{kind: by_eye, times: 3}", "fd_fig4_all_targets.*does not know times"),
        ("  bound_from: paper\n", "", "bound_from: Field required"),
        ("id: fd_table1_best_insertion", "id: fd_table1_best_overall", "used twice"),
        ("paper: fd", "paper: df", "Unknown paper 'df'"),
    ],
)
def test_a_wrong_claims_file_is_told(tmp_path, monkeypatch, old, new, says):
    text = (paths.papers_dir() / "claims.yml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "claims.yml").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(paths, "papers_dir", lambda: tmp_path)
    with pytest.raises(ValueError, match=f"(?s)claims.yml.*{says}"):
        load_claims()
