"""How often the rule errs, with this project's covariances and known means: what ``docs/verdicts.md`` promises."""

from __future__ import annotations

import re

import numpy as np
import pytest
import rates as simulated
from campanion import paths
from campanion.models.weights import read_card
from campanion.report.claims import find_claim
from campanion.report.evidence import comparisons
from campanion.report.rule import AGAINST, HOLDS, SAME
from campanion.results.statistics import bootstrap_means

WORLDS = {w[0]: w for w in simulated.WORLDS}
DRAWS = 400
CHANCE = 100 * (0.05 * 0.95 / DRAWS) ** 0.5  # of the simulation, in per cent


@pytest.mark.parametrize("claim", ["lift_table1_shap_best", "fd_table3_full_best", "fd_table1_best_overall"])
def test_a_tie_is_contradicted_in_at_most_five_of_a_hundred_and_held_in_none(claim):
    """The first has 18 comparisons; the second the most skewed differences."""
    of = simulated.world(*WORLDS[claim])
    assert len(of.comparisons) == {"lift_table1_shap_best": 18, "fd_table3_full_best": 6}.get(claim, 7)
    found = simulated.rates(of, 0.0, 500, DRAWS, seed=1)
    assert found[AGAINST] <= 5 + 2 * CHANCE
    assert found[HOLDS] <= 1


@pytest.mark.parametrize("n", [6, 15, 40, 100])
@pytest.mark.parametrize("claim", ["lift_table1_shap_best", "fd_table3_full_best", "fd_table4_combination"])
def test_so_it_is_with_few_images(claim, n):
    """Student's intervals are judged by Student's t, not by the normal distribution."""
    assert simulated.rates(simulated.world(*WORLDS[claim]), 0.0, n, DRAWS, seed=1)[AGAINST] <= 5 + 2 * CHANCE


def test_what_is_printed_is_held_where_the_power_says_so_and_its_opposite_is_contradicted():
    of = simulated.world(*WORLDS["fd_table1_best_overall"])
    run = next(r for r in simulated.runs_of(find_claim(of.claim), simulated._results()) if r.model == "resnet18")
    claim = find_claim(of.claim)
    needed = comparisons(claim, run)
    said = 100 * simulated.power(needed, simulated.correlation(run, needed))
    seen = simulated.rates(of, 1.0, 500, DRAWS)[HOLDS]
    assert seen == pytest.approx(said, abs=8)
    assert simulated.rates(of, -1.0, 500, DRAWS)[AGAINST] == 100


def test_many_images_tell_a_tie():
    of = simulated.world(*WORLDS["fd_table1_best_overall"])
    assert simulated.rates(of, 0.0, 20_000, DRAWS)[SAME] > 90


def test_the_simulated_intervals_are_those_of_the_bootstrap():
    """To second order: the simulation draws no bootstrap of its own."""
    of = simulated.world(*WORLDS["fd_table3_full_best"])
    x = of.made(0.0)
    drawn = bootstrap_means(x, np.ones_like(x), 10_000)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    mine = simulated.intervals(np.full((1, len(x)), 1 / len(x)), x, len(x))
    error = x.std(0) / len(x) ** 0.5
    np.testing.assert_allclose((mine[1][0] - low) / error, 0, atol=0.12)
    np.testing.assert_allclose((mine[2][0] - high) / error, 0, atol=0.12)


def test_the_page_has_the_rates_of_every_world():
    page = (paths.root() / "docs" / "verdicts.md").read_text(encoding="utf-8")
    rows = {m[0]: m[1] for m in re.findall(r"^\| `(\w+)` \(\d+\) \|(.*)\|$", page, re.MULTILINE)}
    assert list(rows) == list(WORLDS)
    ties = {claim: [_contradicted(cells.split("|")[i]) for i in (1, 7, 8, 9)] for claim, cells in rows.items()}
    assert max(max(of_all_n) for of_all_n in ties.values()) <= 6  # 5 and the chance of 1,000 draws
    of = simulated.world(*WORLDS["fd_table4_combination"])
    again = simulated.rates(of, 0.0, 500, DRAWS, seed=3)
    assert again[AGAINST] == pytest.approx(ties["fd_table4_combination"][0], abs=4)


def test_the_page_has_the_rates_of_repeated_looks():
    page = (paths.root() / "docs" / "verdicts.md").read_text(encoding="utf-8")
    words = r"contradicted in (\d+) % of 6,000 runs and never held; .* in (\d+) % and held in (\d+) %"
    told = re.search(words, page)
    five, alone = simulated.looks(5, DRAWS), simulated.looks(1, DRAWS)
    again = (five[AGAINST], alone[AGAINST], alone[HOLDS])
    assert again == pytest.approx([float(share) for share in told.groups()], abs=5)
    assert five[HOLDS] == 0


def _contradicted(cell: str) -> float:
    return float(cell.split("/")[1])


def test_what_the_page_says_of_the_network_of_voc_is_on_its_card():
    card = read_card(paths.checkpoints_dir() / "voc_vgg16.json")
    page = " ".join((paths.root() / "docs" / "verdicts.md").read_text("utf-8").split())
    assert f"have ranks {card['ranks'][0]} and {card['ranks'][1]}" in page
    count = re.search(r"trained here on ([\d,]+) images", page).group(1)
    assert f": {count} pictures" in card["data"]["train"]
