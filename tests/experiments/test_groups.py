"""FD-CAM's channel groups: against SciPy's cosines, brute force, and images whose groups are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from campanion import load_model
from campanion.cams.fd import similarity_groups, switching_score
from campanion.data.scenes import SceneDataset
from campanion.errors import MissingResult
from campanion.experiments import groups
from campanion.experiments.groups import (
    BINS,
    cosine_histogram,
    cosines,
    dead_is_lowest,
    examples,
    group_statistics,
    nominal_size,
    overlap,
    photograph_examples,
    question,
)
from campanion.experiments.runner import ask, per_image
from campanion.game.game import ChannelGame
from scipy.spatial.distance import cdist


@pytest.fixture(scope="module")
def data():
    return SceneDataset(3, split="test")


@pytest.fixture(scope="module")
def network():
    return load_model("scenes_vgg")


@pytest.fixture(scope="module")
def game(network, data):
    return ChannelGame.of(network, network.preprocess(data[0].image).unsqueeze(0))


def test_cosines_are_scipys(game):
    flat = game.activations[0].flatten(1).double().numpy()
    live = flat.any(1)
    wanted = 1 - cdist(flat[live], flat[live], "cosine")
    found = cosines(game.activations)[0].numpy()
    assert np.allclose(found[np.ix_(live, live)], wanted, atol=1e-5)
    assert not found[~live].any()


@pytest.mark.parametrize("rule", ["channel", "all"])
def test_statistics_by_brute_force(game, rule):
    groups = similarity_groups(game.activations, 10, rule)[0].numpy()
    matrix = cosines(game.activations)[0].double().numpy()
    live = game.activations[0].flatten(1).any(1).numpy()
    found = group_statistics(game.activations, 10, rule)
    sizes, within = [], []
    for k in np.flatnonzero(live):
        members = [m for m in range(len(live)) if groups[k, m]]
        sizes.append(len(members))
        within += [matrix[k, m] for m in members if m != k]
    between = [matrix[k, m] for k in np.flatnonzero(live) for m in np.flatnonzero(live) if k != m]
    assert found["dead"] == (~live).sum()
    assert found["size_mean"] == pytest.approx(np.mean(sizes))
    assert (found["size_min"], found["size_max"]) == (min(sizes), max(sizes))
    assert found["small"] == pytest.approx(np.mean(np.array(sizes) < nominal_size(len(live), 10)))
    assert found["distinct"] == pytest.approx(len({tuple(g) for g in groups[live] if g.any()}) / live.sum())
    assert found["within"] == pytest.approx(np.mean(within), abs=1e-6)
    assert found["between"] == pytest.approx(np.mean(between), abs=1e-6)


@pytest.mark.parametrize(("channels", "percentile", "size"), [(512, 5, 26), (512, 20, 103), (64, 5, 4), (64, 1, 1)])
def test_the_nominal_size_counts_what_lies_above_the_percentile(channels, percentile, size):
    values = np.random.default_rng(0).permutation(channels).astype(float)
    assert (values > np.percentile(values, 100 - percentile)).sum() == size
    assert nominal_size(channels, percentile) == size


def test_dead_channels_have_empty_groups_and_equal_ones_tie():
    maps = torch.zeros(1, 40, 4, 4)
    maps[0, :20, 0, 0] = 1.0  # twenty channels that see the same pixel: more than any group may hold
    maps[0, 20:30] = torch.rand(10, 4, 4, generator=torch.Generator().manual_seed(0))
    found = group_statistics(maps, 5)
    assert found["dead"] == 10
    assert found["empty"] == pytest.approx(20 / 30)  # nothing lies strictly above a percentile of ties
    nothing = group_statistics(torch.zeros(1, 8, 2, 2))
    assert nothing["dead"] == 8
    assert np.isnan(nothing["size_mean"])


def test_histogram_shares_sum_to_one_and_hold_the_pairs(game):
    found = cosine_histogram(game.activations)
    assert sum(found["all"]) == pytest.approx(1, abs=1e-5)
    assert sum(found["group"]) == pytest.approx(1, abs=1e-5)
    live = game.activations[0].flatten(1).any(1)
    matrix = cosines(game.activations)[0][live][:, live]
    values = matrix[~torch.eye(int(live.sum()), dtype=torch.bool)].numpy()
    counts, _ = np.histogram(values.clip(0, 1), bins=BINS, range=(0, 1))
    assert np.abs(np.array(found["all"]) - counts / len(values)).max() < 1e-3


def test_overlap_of_known_groups():
    a = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    b = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    assert overlap(a, a) == 1
    assert overlap(a, b) == pytest.approx((1 / 3 + 1) / 2)
    with pytest.raises(ValueError, match="same channels"):
        overlap(a, b[:2, :2])


def test_a_dead_channel_scores_half_of_the_empty_coalition(network, data):
    games = [ChannelGame.of(network, network.preprocess(s.image).unsqueeze(0)) for s in data]
    for game in games:
        dead = ~game.activations[0].flatten(1).any(1)
        scores = switching_score(game, game.target(None), similarity_groups(game.activations))[0]
        if dead.any():
            empty = game.value(torch.zeros(1, game.channels), game.target(None)).item()
            assert scores[dead].numpy() == pytest.approx(empty / 2, abs=1e-4)
            assert dead_is_lowest(game) == float(empty / 2 < scores[~dead].min())
        else:
            assert np.isnan(dead_is_lowest(game))


def test_measure_has_a_row_for_each_image_rule_and_percentile(network, data, out, monkeypatch):
    monkeypatch.setattr(groups, "PERCENTILES", (5.0, 20.0))
    asked = question()
    rows, settings = per_image(asked, asked.subject(network, data), 2)
    assert settings["pooling"] == "features.15"
    assert len(rows) == 2 * 2 * 2
    assert rows["layer_overlap"].notna().sum() == 2
    assert rows["layer_overlap"].dropna().between(0, 1).all()
    assert {len(shares) for shares in rows["cosines_all"].dropna()} == {BINS}
    sizes = rows[rows["rule"] == "channel"].groupby("percentile")["size_median"].first()
    assert list(sizes) == [4, 13]
    monkeypatch.setitem(groups.POOLING, "scenes_vgg", "features.5")
    with pytest.raises(ValueError, match="channels"):
        groups.measure(asked.subject(network, data), data[0])


def test_examples_show_each_channel_before_its_members(game):
    rows = examples(game, channels=2, members=3)
    groups = similarity_groups(game.activations)[0]
    for channel, part in rows.groupby("channel", sort=False):
        assert part["member"].iloc[0] == channel
        assert part["cosine"].iloc[0] == pytest.approx(1, abs=1e-5)
        assert part["cosine"].iloc[1:].is_monotonic_decreasing
        assert groups[channel, part["member"].tolist()].all()
    first, second = rows["channel"].unique()
    assert not groups[first, second]


def test_a_quick_run_and_examples_need_no_data(out, monkeypatch):
    monkeypatch.setenv("CAMPANION_DATA", str(out / "none"))
    with pytest.raises(MissingResult):
        photograph_examples("scenes_vgg", "cached")
    (run,) = ask("25_test", "quick", question(), [], 2, quick=("scenes_vgg@scenes",))["runs"]
    assert {r["n"] for r in run["rows"]} <= {1, 2}
    assert sum(run["extra"]["cosines"]["all"]) == pytest.approx(1, abs=1e-3)
    assert run["rows"][0]["method"] == "fd_cam:percentile=1,percentile_of=channel"
    made = photograph_examples("scenes_vgg", "full")
    assert made.equals(photograph_examples("scenes_vgg", "cached"))
