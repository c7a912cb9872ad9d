"""The scoreboard: sentences, tables and counts, made from verdicts; numbers as one writes them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from campanion.__main__ import main
from campanion.report import scoreboard
from campanion.report.claims import find_claim, load_claims
from campanion.report.scoreboard import committed, counts, elsewhere, plain, rows, sentence
from campanion.report.verdicts import verdict

CLAIM = find_claim("lift_table5_proportion")


def found(sign: float, model: str = "vgg16", data: str = "imagenet-val"):
    """LIFT-CAM's place in Table 5: ahead of all others by a point, or behind."""
    ends = dict(zip(("low", "high"), sorted((0.5 * sign, 1.5 * sign)), strict=True))
    differences = [
        {"method": "lift_cam", "reference": o, "metric": "energy_proportion", "mean": sign, "n": 600, **ends}
        for o in CLAIM.test[0].others
    ]
    run = {"model": model, "data": data, "mode": "full", "rows": [], "differences": differences}
    return verdict(CLAIM, {CLAIM.notebook: {"runs": [run]}})


def test_an_answer_says_on_what_it_rests():
    assert sentence(found(1.0)) == (
        "In the paper's own setting: reproduced (VGG16 on ImageNet; Energy in the box (%): LIFT-CAM over Grad-CAM "
        "+1.0 [0.5, 1.5], N = 600)."
    )
    other = sentence(found(-1.0, "resnet18"))
    assert other.startswith("In the paper's own setting: not run. On linear and nearly linear networks: does not carry")
    assert "-1.0 [-1.5, -0.5], N = 600" in other
    assert sentence(verdict(find_claim("lift_table3_add_coco"), {})).endswith(
        "The bound is ours: the paper states none."
    )


def test_a_network_that_was_run_without_a_method_is_not_called_not_run():
    run = {"model": "vgg16", "data": "imagenet", "mode": "full", "rows": [], "differences": []}
    part = verdict(CLAIM, {CLAIM.notebook: {"runs": [run]}})
    lacks = "not run in full (VGG16 on ImageNet: no LIFT-CAM)"
    assert sentence(part) == f"In the paper's own setting: {lacks}."
    assert [part.word, *(row["Answer"] for row in rows(part))] == ["not run in full"] * 2
    assert "not run in full" in scoreboard.table([part])
    assert dict(zip(counts([part])[0], counts([part])[-1], strict=True))["not run in full there"] == "1"


def test_what_one_cannot_tell_has_its_power():
    v = found(0.01)
    open_ = verdict(CLAIM, {CLAIM.notebook: {"runs": [
        {"model": "vgg16", "data": "imagenet", "mode": "full", "rows": [], "differences": [
            {"method": "lift_cam", "reference": o, "metric": "energy_proportion", "mean": 0.1, "low": -1.0, "high": 1.2,
             "n": 100} for o in CLAIM.test[0].others]}]}})  # fmt: skip
    assert v.word == "reproduced"
    assert open_.word == "cannot tell"
    assert "the chance of seeing the printed difference was" in sentence(open_)


def test_a_claim_has_a_row_per_network_or_one():
    one, none = found(1.0), verdict(find_claim("lift_table4_deletion"), {})
    assert (one.word, elsewhere(one), none.word) == ("reproduced", "not run", "not run")
    (row,), (empty,) = rows(one), rows(none)
    assert row["Network and data"] == "VGG16 on ImageNet (the paper's own)"
    assert row["Answer"] == "✓ holds (5 of 5 comparisons)"
    assert (row["Paper"], row["Ours [95 % interval]"], row["N"]) == ("+4.67", "+1.0 [0.5, 1.5]", "600")
    assert row["Paper's value inside"] == "no"
    assert (empty["Answer"], empty["Ours [95 % interval]"]) == ("not run", "")


def test_linear_networks_speak_only_where_no_others_do():
    linear, hidden = (found(s, m).groups for s, m in ((1.0, "resnet18"), (-1.0, "voc_mlp")))
    assert elsewhere(found(1.0, "resnet18")) == "carries over"
    assert elsewhere(type(found(1.0))(CLAIM, {**linear, "hidden": hidden["hidden"]})) == "does not carry over"
    unsure = found(0.01, "voc_mlp").groups["hidden"]
    assert elsewhere(type(found(1.0))(CLAIM, {**found(-1.0, "resnet18").groups, "hidden": unsure})) == unsure.word
    assert elsewhere(type(found(1.0))(CLAIM, {})) == "not run"


def test_the_number_of_images_is_that_of_the_deciding_comparison():
    differences = [
        {"method": "lift_cam", "reference": other, "metric": "energy_proportion", "mean": -9.0 if k else 1.0,
         "low": -9.5 if k else -20.0, "high": -8.5 if k else 22.0, "n": 500 if k else 6}
        for k, other in enumerate(CLAIM.test[0].others)
    ]  # fmt: skip
    run = {"model": "vgg16", "data": "imagenet", "mode": "full", "rows": [], "differences": differences}
    against = verdict(CLAIM, {CLAIM.notebook: {"runs": [run]}})
    assert against.word == "not reproduced"
    assert "N = 500" in sentence(against)
    assert [row["N"] for row in rows(against)] == ["500"]


def test_every_claim_is_counted():
    verdicts = [verdict(c, {}) if c.id != CLAIM.id else found(1.0) for c in load_claims()]
    heads, *lines = counts(verdicts)
    lift, total = (dict(zip(heads, line, strict=True)) for line in (lines[2], lines[-1]))
    assert (lift[""], lift["reproduced"], lift["not reproduced"]) == ("LIFT-CAM", "1", "")
    assert int(total["claims"]) == len(load_claims())
    assert int(total["reproduced"]) + int(total["not run there"]) + int(total["shown only"]) == len(load_claims())


def test_tables_are_well_formed_and_have_a_row_per_answer():
    verdicts = [found(1.0), found(-1.0, "resnet18")]
    tree = ET.fromstring(scoreboard.table(verdicts).replace("<br>", "<br/>"))
    assert [len(row) for row in tree.iter("tr")] == [8, 1, 8, 1, 8]
    assert plain(verdicts).count("\n") == 2


def test_the_command_prints_every_claim_with_an_answer(capsys):
    assert main(["scoreboard"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{len(load_claims())} claims")
    assert len(said.splitlines()) == 1 + sum(bool(v.answers) for v in committed())
