"""The evaluation: one pass over images, resumable, and in step with the committed rows."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch
import torchvision
from campanion import explain, metrics
from campanion.data import open_dataset
from campanion.errors import MissingData
from campanion.experiments import faithfulness
from campanion.experiments.faithfulness import of_protocol, question
from campanion.experiments.protocols import FD_METHODS, PROTOCOLS, Protocol
from campanion.experiments.runner import ask, per_image, rows_of
from campanion.experiments.subject import layer_of
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models import load_model
from campanion.results.rows import read_rows, rows_path, running_path, with_rows, write_rows
from campanion.results.statistics import summarise
from cells import study

ONE = ("scenes_vgg@scenes",)
QUICK = Protocol(curves=("grad_cam", "fd_cam"), compared=("lift_cam", "xgrad_cam:lift"), orderings=20)


@pytest.fixture(scope="module")
def model():
    return load_model("scenes_vgg")


@pytest.fixture(scope="module")
def scenes():
    return open_dataset("scenes", n=6)


def measure(model, sample, protocol) -> list[dict]:
    """The rows of one image."""
    asked = of_protocol(protocol)
    return asked.measure(asked.subject(model, [sample]), sample)


def evaluate(model, data, protocol, limit, name="cams") -> pd.DataFrame:
    """The rows of some images, kept."""
    asked = of_protocol(protocol, name)
    return per_image(asked, asked.subject(model, data), limit)[0]


def settings_of(model, data, protocol) -> dict:
    asked = of_protocol(protocol)
    return asked.settings_of(asked.subject(model, data))


def test_rows_say_what_the_library_says_one_by_one(model, scenes):
    sample = scenes[0]
    rows = pd.DataFrame(measure(model, sample, QUICK)).set_index("method")
    image = model.preprocess(sample.image)[None]
    game = ChannelGame.of(model, image)
    target = game.logits.argmax(1)
    e = explain(model, image, methods=("fd_cam", "xgrad_cam"), xgrad_cam={"variant": "lift"})
    curves = metrics.insertion_deletion(fast(model), image, e.maps["fd_cam"], target, step=1 / 28)
    assert rows.loc["fd_cam", "insertion"] == pytest.approx(float(curves.insertion), abs=1e-5)
    assert rows.loc["fd_cam", "deletion"] == pytest.approx(float(curves.deletion), abs=1e-5)
    confidence = metrics.confidence(fast(model), image, e.maps["fd_cam"], target)
    assert rows.loc["fd_cam", "ad"] == pytest.approx(100 * float(confidence.average_drop), abs=1e-3)
    assert rows.loc["fd_cam", "overall"] == rows.loc["fd_cam", "insertion"] - rows.loc["fd_cam", "deletion"]
    plain = (e.weights["xgrad_cam"] - (game.gradient(target) * game.activations).sum((2, 3))).abs().max()
    assert float(plain) < 1e-5
    assert rows.loc["xgrad_cam:lift", "shap_cosine"] <= 1
    assert pd.isna(rows.loc["lift_cam", "insertion"])
    assert rows.loc["shap_cam", "shap_error"] > 0


def test_an_images_numbers_do_not_depend_on_what_came_before(model, scenes):
    asked = of_protocol(QUICK)
    subject = asked.subject(model, scenes)
    alone = asked.measure(subject, scenes[1])
    asked.measure(subject, scenes[2])
    assert asked.measure(subject, scenes[1]) == alone


def test_a_quick_run_measures_what_it_needs_and_reads_its_own_rows(out):
    methods = ("grad_cam", "lift_cam")
    asked = [question(name, methods, ["ad"]) for name in ("lift", "cams")]
    (run,) = ask("33_test", "quick", asked, [], 2, quick=ONE)["runs"]
    rows = rows_of(run)
    assert set(rows.method) == {*methods, "shap_cam"}
    assert "insertion" not in rows
    assert rows.ad.notna().all()
    assert run["provenance"]["settings"]["protocol"] == "lift"
    (drawn,) = ask("34_test", "quick", question("lift", methods, ["insertion"]), [], 2, quick=ONE)["runs"]
    assert rows_of(drawn).insertion.notna().sum() == 2 * len(methods)
    assert len(drawn["extra"]["insertion_curve"]["lift_cam"]) == 41
    assert set(rows_of(run).method) == set(rows.method)


def test_no_more_images_are_timed_than_have_rows(model, scenes, out):
    asked = question("lift", ["lift_cam"], ["ad", "seconds_per_image"]).quick
    subject = asked.subject(model, scenes)
    rows = per_image(asked, subject, limit=1)[0].query("method == 'lift_cam'")
    seconds = faithfulness.seconds_per_image
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faithfulness, "seconds_per_image", lambda *words: (counts.append(words[2]), seconds(*words))[1])
        counts: list[int] = []
        answer = asked.summary(rows, subject)
    assert counts == [1]
    assert set(answer.means["metric"]) == {"ad", "seconds_per_image"}


def test_a_full_run_takes_the_protocol_that_there_are_rows_of(model, scenes, out, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "cams", QUICK)
    asked = [replace(question(p, ("grad_cam",), ["ad"]), open=lambda _: scenes) for p in ("lift", "cams")]
    assert with_rows(("lift", "cams"), "scenes", "scenes_vgg") == "lift"
    evaluate(model, scenes, QUICK, 2)
    run = ask("33_test", "full", asked, ONE, 2)["runs"][0]
    assert run["provenance"]["settings"]["protocol"] == "cams"
    assert "rows" not in run["provenance"]["settings"]
    assert set(rows_of(run).method) == {*QUICK.curves, *QUICK.compared, "shap_cam"}
    # A few images of the other protocol, begun, do not push out what is committed.
    evaluate(model, scenes, QUICK, 1, name="lift")
    assert with_rows(("lift", "cams"), "scenes", "scenes_vgg") == "cams"


def test_rows_that_were_begun_in_one_precision_go_on_so(model, scenes, out, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "cams", QUICK)
    begun = replace(QUICK, precision="bfloat16", confidence=None)
    asked = replace(question("cams", ("grad_cam",), ["ad"], "bfloat16"), open=lambda _: scenes)
    (new,) = ask("33_test", "full", asked, ONE, 2)["runs"]
    assert new["provenance"]["settings"]["confidence"] == "float32"
    write_rows(
        evaluate(model, scenes, begun, 1, "old"), rows_path("scenes", "scenes_vgg"), settings_of(model, scenes, begun)
    )
    running_path("scenes", "scenes_vgg", "cams").unlink()
    (old,) = ask("33_test", "full", asked, ONE, 2)["runs"]
    assert "confidence" not in old["provenance"]["settings"]
    assert old["provenance"]["n"] == 2
    exact = replace(question("cams", ("grad_cam",), ["ad"], "float32"), open=lambda _: scenes)
    (more,) = ask("33_test", "full", exact, ONE, 1)["runs"]
    assert more["provenance"]["settings"]["precision"] == "bfloat16"
    assert more["provenance"]["n"] == 2


def test_unknown_protocols_and_methods_are_refused_before_any_work():
    with pytest.raises(ValueError, match="fd_ablation"):
        question("fd_ablatoin", ("grad_cam",), ["insertion"])
    with pytest.raises(ValueError, match="fd_cam"):
        question("fd", ("fd_kam",), ["insertion"])


ROWS = pd.DataFrame(
    {
        "image": ["a", "a", "a", "b", "b", "b"],
        "method": ["x", "y", "z"] * 2,
        "insertion": [0.5, 0.7, 0.7, 0.9, 0.1, 0.2],
        "deletion": [0.1, 0.2, 0.3, 0.4, 0.3, 0.2],
        "insertion_curve": [[0.0, 0.2, 1.0]] * 6,
        "deletion_curve": [[1.0, 0.4, 0.0]] * 6,
    }
)


def test_the_best_is_the_highest_insertion_and_the_lowest_deletion():
    before = ROWS.copy()
    with_wins = study(27, "wins").with_wins
    found = with_wins(ROWS, ["insertion", "deletion"])
    assert list(found["best_insertion"]) == [0, 50, 50, 100, 0, 0]
    assert list(found["best_deletion"]) == [100, 0, 0, 0, 0, 100]
    assert (found.groupby("image")["best_insertion"].sum() == 100).all()
    pd.testing.assert_frame_equal(ROWS, before)
    with pytest.raises(ValueError, match="Image b has 2 methods"):
        with_wins(ROWS.iloc[:5], ["insertion"])
    with pytest.raises(ValueError, match="insertion"):
        with_wins(ROWS, ["insertoin"])


def test_wins_sum_to_one_hundred(out):
    asked = question("fd", FD_METHODS, faithfulness.AREAS, conclude=study(27, "wins").wins, limit=0)
    (run,) = ask("27_test", "quick", asked, [], 2, quick=("scenes_resnet@scenes",))["runs"]
    rows = pd.DataFrame(run["rows"])
    for metric in ("best_insertion", "best_deletion", "best_overall"):
        part = rows[rows["metric"] == metric]
        assert list(part["method"]) == list(FD_METHODS)
        assert part["mean"].sum() == pytest.approx(100, abs=1e-3)
    assert list(run["extra"]["insertion_curve"]) == list(FD_METHODS)
    for metric in ("insertion", "deletion"):  # after four steps of 28 a seventh of the pixels is there
        early = rows[rows["metric"] == f"early_{metric}"].set_index("method")["mean"]
        assert early.tolist() == pytest.approx([run["extra"][f"{metric}_curve"][m][4] for m in early.index], abs=1e-4)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_measures_its_methods(protocol, model, scenes):
    model = load_model({"lfi_maps": "scenes_lfi", "abn_maps": "scenes_abn"}[protocol]) if "maps" in protocol else model
    short = replace(PROTOCOLS[protocol], orderings=min(20, PROTOCOLS[protocol].orderings), step=0.5)
    rows = pd.DataFrame(measure(model, scenes[0], short)).set_index("method")
    drawn = ["insertion", "deletion"] if short.curves else []
    assert rows.loc[list(short.curves), drawn].notna().all(axis=None)
    assert rows["ad"].notna().all()
    assert ("shap_cosine" in rows) == bool(short.orderings)
    assert set(rows.index) - {"shap_cam"} == {*short.curves, *short.compared}


def test_the_last_pooling_is_found_by_what_it_is(model, scenes):
    pooled = PROTOCOLS["lift_pool5"]
    assert layer_of(model, pooled.layer) == "features.15"
    assert layer_of(model) == model.target_layer == "features.14"
    assert settings_of(model, scenes, pooled)["layer"] == "features.15"
    vgg16 = torchvision.models.vgg16(weights=None)
    assert layer_of(vgg16, pooled.layer) == "features.30"
    flat = torch.nn.Conv2d(3, 4, 1)
    flat.weights = {"name": "flat"}
    with pytest.raises(ValueError, match="no max pooling"):
        layer_of(flat, pooled.layer)


def test_a_multi_label_network_is_scored_by_its_sigmoid(scenes):
    several = load_model("scenes_vgg")
    several.activation = "sigmoid"
    row = measure(several, scenes[0], replace(QUICK, curves=("grad_cam",), compared=(), orderings=0))[0]
    logits = several(several.preprocess(scenes[0].image)[None])
    assert row["probability"] == pytest.approx(float(logits.sigmoid().max().detach()), abs=1e-6)
    assert row["insertion_curve"][-1] == pytest.approx(row["probability"], abs=1e-3)


def committed() -> list:
    """Rows of the protocols: [protocol, path]."""
    found = []
    for path in sorted(rows_path("a", "b").parent.glob("*.parquet")):
        name = next((name for name in PROTOCOLS if path.stem.startswith(f"{name}_")), "cams")
        settings = read_rows(path)[1]
        if path == rows_path(settings.get("data", ""), settings.get("model", ""), name):
            found.append(pytest.param(name, path, id=path.stem))
    return found


COMMITTED = committed()


@pytest.mark.parametrize(("protocol", "path"), COMMITTED)
def test_committed_rows_and_results_agree(protocol, path):
    """Every mean in the result files is the mean of the committed rows."""
    from campanion.results.store import load_results

    frame, settings = read_rows(path)
    assert not frame.duplicated(["image", "method"]).any()
    chosen = frame
    checked = 0
    for result in load_results().values():
        for run in result["runs"]:
            measured = run["provenance"]["settings"].get("protocol", "none")
            if (measured, run["model"], run["data"]) != (protocol, settings["model"], settings["data"]):
                continue
            assert run["provenance"]["n"] == frame["image"].nunique()
            wanted = {(r["method"], r["metric"]): r for r in run["rows"]}
            # Notebook 27 counts wins, which its own tests check.
            metrics_used = sorted({metric for _, metric in wanted} & set(chosen.columns))
            rows = chosen[chosen.method.isin({method for method, _ in wanted})]
            for r in summarise(rows, metrics_used, resamples=10).itertuples():
                if (r.method, r.metric) in wanted:
                    assert wanted[r.method, r.metric]["mean"] == pytest.approx(r.mean, rel=1e-5)
                    assert wanted[r.method, r.metric]["n"] == r.n
                    checked += 1
    assert checked > 0


@pytest.mark.real_data
@pytest.mark.parametrize("path", [p.values[1] for p in COMMITTED if p.values[0] == "cams"], ids=lambda p: p.stem)
def test_committed_rows_come_out_again(path):
    """The first two images, measured again in float32 by two methods: within what bfloat16 and another CPU may move."""
    frame, settings = read_rows(path)
    try:
        data, model = open_dataset(settings["data"]), load_model(settings["model"])
    except MissingData as problem:
        pytest.skip(f"real data: {problem}")
    if model.weights["sha256"] != settings["weights"]:
        pytest.skip("other weights than the committed rows were made with")
    some = Protocol(curves=("grad_cam",), compared=("lift_cam", "grad_cam"), orderings=200)
    for index in data.order(settings["seed"])[:2]:
        old = frame[frame.image == data.ids[index]].set_index("method")
        with torch.no_grad():
            new = pd.DataFrame(measure(model, data[index], some)).set_index("method")
        assert new.loc["grad_cam", "target"] == old.loc["grad_cam", "target"]
        assert new.loc["grad_cam", "insertion"] == pytest.approx(old.loc["grad_cam", "insertion"], abs=0.03)
        assert new.loc["grad_cam", "deletion"] == pytest.approx(old.loc["grad_cam", "deletion"], abs=0.03)
        assert new.loc["grad_cam", "shap_cosine"] == pytest.approx(old.loc["grad_cam", "shap_cosine"], abs=0.02)
        assert new.loc["lift_cam", "shap_cosine"] == pytest.approx(old.loc["lift_cam", "shap_cosine"], abs=0.02)
