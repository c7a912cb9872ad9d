"""The scoreboard: made from results, written between two marks, and checked."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from campanion.__main__ import main
from campanion.report.answers import _measured, answers
from campanion.report.claim_tests import Number
from campanion.report.claims import find_claim, load_claims
from campanion.report.scoreboard import BEGIN, END, counts, html, markdown, replace, scoreboard, table
from campanion.results.provenance import collect
from campanion.results.store import make_run, save_result


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path / "out"))


def save(sign: float) -> None:
    """LIFT-CAM's place in Table 5: better than all others, or worse."""
    others = ["grad_cam", "grad_cam_pp", "score_cam", "ablation_cam", "xgrad_cam:lift"]
    rows = [{"method": "lift_cam", "metric": "energy_proportion", "mean": 52.0, "low": 51.0, "high": 53.0, "n": 600}]
    differences = [
        {"method": "lift_cam", "reference": o, "metric": "energy_proportion", "mean": sign, "n": 600}
        | dict(zip(("low", "high"), sorted((0.5 * sign, 1.5 * sign)), strict=True))
        for o in others
    ]
    record = collect("full", "imagenet-val", 600, {"name": "resnet18"}, "cpu", 1, 0, {})
    save_result("35_lift_table5_energy_pointing_game", [make_run(rows, differences, record, "resnet18")])


def test_one_row_per_claim_and_verdicts_from_results():
    assert list(scoreboard().claim) == [c.id for c in load_claims()]
    assert set(scoreboard().verdict) == {"not run"}
    save(1.0)
    row = scoreboard().set_index("claim").loc["lift_table5_proportion"]
    assert (row.verdict, row.models, row.data, row.n) == ("reproduced", "resnet18", "imagenet-val", 600)
    save(-1.0)
    assert scoreboard().set_index("claim").loc["lift_table5_proportion"].verdict == "not reproduced"
    own = scoreboard().set_index("claim").own_table
    assert own["lfi_table1_below_plain"] == "no"
    assert own["lift_table3_faster"] == "not printed"


def test_markdown_counts_and_lists_what_was_answered():
    save(1.0)
    text = markdown(scoreboard(), answers())
    assert "| LIFT-CAM Table 5 | 1 | 1 |  |  |  |  |" in text
    assert f"| **all** | **{len(load_claims())}** | **1** | **0** | **0** | **0** |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| [")]
    assert line.startswith("| [LIFT-CAM Table 5](notebooks/35_lift_table5_energy_pointing_game.ipynb): LIFT-CAM puts ")
    assert line.split(" | ")[1:] == [
        "resnet18, imagenet-val",
        "**reproduced**",
        "Energy in the box (%): LIFT-CAM minus Grad-CAM; 5 of 5 comparisons hold",
        "+4.67 (vgg16 on imagenet)",
        "+1 (+0.5 to +1.5)",
        "600 |",
    ]


def test_an_answer_stands_beside_the_papers_number():
    save(-1.0)
    rows = answers().set_index("claim")
    row = rows.loc["lift_table5_proportion"]
    assert row.decided_by == "Energy in the box (%): LIFT-CAM minus Grad-CAM"
    assert row.printed == "+4.67 (vgg16 on imagenet)"  # the paper's Table 5: 52.43 - 47.76
    assert (row.answer, row.measured, row.n, row.holds) == ("not reproduced", "-1 (-1.5 to -0.5)", 600, "0 of 5")
    assert set(rows.drop("lift_table5_proportion").answer) == {"not run"}
    assert set(rows.index) == {c.id for c in load_claims()}


def test_a_plain_network_is_called_by_its_own_printed_row(monkeypatch):
    monkeypatch.delenv("CAMPANION_RESULTS")  # the committed results
    board = answers().set_index("claim")
    sizes = board.loc["lfi_table3_sizes"]
    assert list(sizes.decided_by) == [f"Parameters (M): {m.replace('resnet', 'ResNet')}" for m in sizes.model]
    errors = board.loc["lfi_table1_below_plain"].set_index("model").decided_by
    assert errors["resnet110"] == "Top-1 error (%): LFI-CAM minus ResNet110"
    assert errors["resnet20"] == "Top-1 error (%): LFI-CAM minus plain"


def test_the_sites_tables_are_well_formed():
    save(1.0)
    tree = ET.fromstring(table(answers(), "notebooks"))
    assert len(tree.findall(".//tbody/tr")) == len(load_claims())
    assert {len(row) for row in tree.iter("tr")} == {9}
    links = [a.get("href") for a in tree.iter("a")]
    assert "notebooks/35_lift_table5_energy_pointing_game.html" in links
    last = [cell.text for cell in ET.fromstring(counts(scoreboard())).findall(".//tr")[-1]]
    assert last == ["All", str(len(load_claims())), "1", None, None, None, str(len(load_claims()) - 1)]


def test_html_has_a_row_per_claim():
    save(1.0)
    tree = ET.fromstring(html(scoreboard()))
    rows = [["".join(cell.itertext()) for cell in row] for row in tree.findall(".//tbody/tr")]
    assert len(rows) == len(load_claims())
    (own,) = (row for row in rows if row[2] != "not run")
    assert own[:3] == ["LIFT-CAM Table 5", find_claim("lift_table5_proportion").sentence, "reproduced"]
    assert own[4] == "600"


def test_write_then_check(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe end\n")
    assert main(["scoreboard", "--check", str(readme)]) == 1
    assert "out of step" in capsys.readouterr().err
    assert main(["scoreboard", "--write", str(readme)]) == 0
    assert main(["scoreboard", "--check", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n| table |")
    assert text.endswith(f"{END}\n\nThe end\n")
    save(1.0)
    assert main(["scoreboard", "--check", str(readme)]) == 1
    assert main(["scoreboard", "--write", str(readme)]) == 0
    assert "| **reproduced** |" in readme.read_text()
    capsys.readouterr()
    assert main(["scoreboard"]) == 0
    assert capsys.readouterr().out.startswith("| table |")


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
    ("n", "low", "high", "said"),
    [
        (1, 11.17, 11.17, "11.17 (counted)"),
        (1, None, None, "11.17 (no interval)"),  # one picture, of which nothing follows for others
        (500, 11.17, 11.17, "11.17 (11.17 to 11.17)"),
        (500, 11.0, 11.5, "11.17 (11 to 11.5)"),
    ],
)
def test_only_a_count_does_without_an_interval(n, low, high, said):
    assert _measured(Number("plain", None, "parameters", 11.17, low, high, n)) == said


def test_the_long_table_is_folded_by_paper():
    save(1.0)  # of one paper
    before, inside = markdown(scoreboard(), answers()).split("<details>")
    assert "**all**" in before
    assert ".ipynb" not in before
    assert "<summary>LIFT-CAM: " in inside
    assert inside.rstrip().endswith("</details>")
