"""The scoreboard: sentences, tables and the README's part, made from verdicts; numbers as one writes them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from campanion.__main__ import main
from campanion.report import scoreboard, words
from campanion.report.claims import find_claim, load_claims
from campanion.report.rule import Comparison
from campanion.report.scoreboard import BEGIN, END, counts, elsewhere, frame, markdown, plain, replace, sentence
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


def test_what_one_cannot_tell_has_its_power():
    v = found(0.01)
    open_ = verdict(CLAIM, {CLAIM.notebook: {"runs": [
        {"model": "vgg16", "data": "imagenet", "mode": "full", "rows": [], "differences": [
            {"method": "lift_cam", "reference": o, "metric": "energy_proportion", "mean": 0.1, "low": -1.0, "high": 1.2,
             "n": 100} for o in CLAIM.test[0].others]}]}})  # fmt: skip
    assert v.word == "reproduced"
    assert open_.word == "cannot tell"
    assert "the printed difference would have been seen with" in sentence(open_)


def test_the_frame_has_a_row_per_claim_and_network():
    rows = frame([found(1.0), verdict(find_claim("lift_table4_deletion"), {})])
    first, second = rows.itertuples()
    assert (first.own, first.elsewhere, first.model, first.holds) == ("reproduced", "not run", "vgg16", "5 of 5")
    assert (first.printed, first.measured, first.as_printed, first.n) == ("+4.67", "+1.0 [0.5, 1.5]", False, 600)
    assert (second.own, second.answer, second.measured) == ("not run", "not run", "")


def test_elsewhere_needs_all_groups_that_can_tell():
    assert elsewhere(found(1.0, "resnet18")) == "carries over"
    both = [found(s, m).groups for s, m in ((1.0, "resnet18"), (-1.0, "voc_mlp"))]
    mixed = type(found(1.0))(CLAIM, {**both[0], "hidden": both[1]["hidden"]})
    assert elsewhere(mixed) == "does not carry over"


def test_the_readmes_part_counts_every_claim():
    verdicts = [verdict(c, {}) if c.id != CLAIM.id else found(1.0) for c in load_claims()]
    heads, *lines = counts(verdicts)
    lift, total = (dict(zip(heads, line, strict=True)) for line in (lines[2], lines[-1]))
    assert (lift[""], lift["reproduced"], lift["not reproduced"]) == ("LIFT-CAM", "1", "")
    assert int(total["claims"]) == len(load_claims())
    assert int(total["reproduced"]) + int(total["not run there"]) + int(total["shown only"]) == len(load_claims())
    text = markdown(verdicts)
    assert "(figures/99_scoreboard.png)" in text
    assert "| **all**" in text or "| all |" in text


def test_tables_are_well_formed_and_have_a_row_per_answer():
    verdicts = [found(1.0), found(-1.0, "resnet18")]
    tree = ET.fromstring(scoreboard.table(verdicts).replace("<br>", "<br/>"))
    assert [len(row) for row in tree.iter("tr")] == [8, 1, 8, 1, 8]
    tree = ET.fromstring(scoreboard.site_table(verdicts))
    rows = [["".join(cell.itertext()) for cell in row] for row in tree.findall(".//tbody/tr")]
    assert {len(r) for r in rows} == {10}
    assert [r[2] for r in rows] == ["✓ holds (5 of 5 comparisons)", "✗ contradicted (0 of 5 comparisons)"]
    assert tree.find(".//a").get("href") == "notebooks/35_lift_table5_energy_pointing_game.html"
    assert plain(verdicts).count("\n") == 2


def test_write_then_check(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe end\n")
    assert main(["scoreboard", "--check", str(readme)]) == 1
    assert "out of step" in capsys.readouterr().err
    assert main(["scoreboard", "--write", str(readme)]) == 0
    assert main(["scoreboard", "--check", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n[![Which claims hold")
    assert text.endswith(f"{END}\n\nThe end\n")
    capsys.readouterr()
    assert main(["scoreboard"]) == 0
    assert capsys.readouterr().out.startswith(f"{len(load_claims())} claims")


def test_missing_marks_and_files_are_told(tmp_path, capsys):
    with pytest.raises(ValueError, match="scoreboard:begin"):
        replace("no marks", "x")
    with pytest.raises(ValueError, match="put them where"):
        replace(f"{END} {BEGIN}", "x")
    assert main(["scoreboard", "--check", str(tmp_path / "none.md")]) == 2
    (tmp_path / "bare.md").write_text("bare")
    assert main(["scoreboard", "--write", str(tmp_path / "bare.md")]) == 2
    assert "bare.md: The file needs one line" in capsys.readouterr().err
    assert (tmp_path / "bare.md").read_text() == "bare"


@pytest.mark.parametrize(
    ("value", "low", "high", "metric", "said"),
    [
        (-0.01117, -0.01718, -0.005419, "overall", "-0.011 [-0.017, -0.005]"),
        (-9.262e-07, -2.366e-06, 5.298e-07, "shap_cosine", "0.0000 [0.0000, 0.0000]"),
        (1.822, -0.07133, 3.777, "pointing_accuracy", "1.8 [-0.1, 3.8]"),
        (-36.17, None, None, "iou", "-36.17 (no interval)"),
        (11.174, 11.174, 11.174, "parameters", "11.17"),
        (26.2, 0.0, 100.0, "iou", "26.2 [0.0, 100.0]"),
    ],
)
def test_numbers_as_one_writes_them(value, low, high, metric, said):
    assert words.interval(value, low, high, metric) == said


def test_a_mean_stays_between_its_metrics_limits_and_a_ratio_is_told_in_times():
    assert words.measured(Comparison("a", None, "iou", 95.0, 88.0, 102.0, 5)) == "95.0 [88.0, 100.0]"
    assert (
        words.measured(Comparison("score_cam / lift_cam", None, "seconds_per_image", 52.3, 40.2, 70.1, 10))
        == "52 times [40, 70]"
    )
    assert words.chance(0.003) == "below 1 %"
    assert words.chance(None) == ""


def test_every_sentence_of_the_committed_results_can_be_written():
    for v in scoreboard.committed():
        text = sentence(v)
        assert "nan" not in text
        assert "e-0" not in text
        assert "-0.000 " not in text
