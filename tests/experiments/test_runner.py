"""The runner: modes, resuming, rows that are never mixed, and that no committed row would be measured again."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest
from campanion import paths
from campanion.data import open_dataset
from campanion.errors import MissingData, MissingResult
from campanion.experiments import (
    convergence,
    faithfulness,
    groups,
    pointing,
)
from campanion.experiments.protocols import PROTOCOLS
from campanion.experiments.runner import Answer, Question, ask, measured, per_image
from campanion.models import load_model
from campanion.results.rows import RowStore, read_rows, rows_path, running_path, write_rows
from campanion.results.statistics import summarise
from cells import study

QUESTIONS = {
    "faithfulness": faithfulness.question("fd", ("grad_cam", "fd_cam"), ["overall"]),
    "orderings": study(31).question(),
    "pointing": pointing.question(),
    "discriminability": study(20, "pairs").QUESTION,
    "sanity": study(42).question(),
    "groups": groups.question(),
    "costs": study(30).QUESTION,
    "vqa": study(37).QUESTION,
}
MODEL = "scenes_vgg@scenes"


def brightness(subject, sample):
    """Rows of a study of one line: how bright an image is."""
    return [{"image": sample.id, "method": "mean", "overall": float(subject.image(sample).mean())}]


def conclude(rows, subject):
    return Answer(summarise(rows, "overall"), accuracy=f"{len(rows)} images")


def example(**settings) -> Question:
    return Question("example", brightness, conclude, {"seed": 0, **settings}, open=lambda name: open_dataset(name, n=8))


def forbidden(*_):
    pytest.fail("measured a finished image")


@pytest.mark.parametrize("name", QUESTIONS)
def test_modes_are_checked_before_any_work(name, out):
    with pytest.raises(ValueError, match="'quick'"):
        ask("99_test", "qick", QUESTIONS[name], [MODEL])
    with pytest.raises(MissingResult, match=r"reproduce\.sh full 99_test"):
        ask("99_test", "cached", QUESTIONS[name], [MODEL])


def test_a_quick_run_is_fresh_and_a_cached_one_reads_what_it_wrote(out):
    made = ask("99_test", "quick", example(), ["ignored"])
    assert [run["model"] for run in made["runs"]] == ["scenes_resnet", "scenes_vgg"]
    assert ask("99_test", "cached", example(), []) == made
    assert made["runs"][0]["provenance"]["weights"]["accuracy"] == f"{Question.quick_images} images"
    settings = made["runs"][0]["provenance"]["settings"]
    assert (settings["protocol"], settings["rows"]) == ("example", "quick_99_test")
    assert ask("99_test", "quick", example(other=1), [], 2)["runs"][0]["provenance"]["n"] == 2


def test_interrupted_and_grown_runs_end_with_the_same_rows(out):
    whole = measured(example(), MODEL, 6).drop(columns="seconds")
    rows_path("scenes", "scenes_vgg", "example").unlink()
    running_path("scenes", "scenes_vgg", "example").unlink()
    measured(example(), MODEL, 1)
    seen = []

    def killed(subject, sample):
        seen.append(sample.id)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return brightness(subject, sample)

    with pytest.raises(KeyboardInterrupt):
        measured(replace(example(), measure=killed), MODEL, 6)
    grown = measured(replace(example(), measure=killed), MODEL, 6)
    assert len(seen) == len({*seen}) + 1 == 6
    pd.testing.assert_frame_equal(grown.drop(columns="seconds"), whole)


def test_committed_rows_are_not_measured_again_and_a_shorter_run_keeps_them(out):
    first = measured(example(), MODEL, 3)
    running_path("scenes", "scenes_vgg", "example").unlink()
    done = replace(example(), measure=forbidden)
    pd.testing.assert_frame_equal(measured(done, MODEL, 2), first)
    (run,) = ask("99_test", "full", done, [MODEL], 2)["runs"]
    assert run["provenance"]["n"] == 3
    running_path("scenes", "scenes_vgg", "example").unlink()
    (run,) = ask("99_test", "full", replace(example(other=1), measure=forbidden, limit=0), [MODEL])["runs"]
    assert run["provenance"]["n"] == 3  # what is kept, whatever its settings


def test_committed_rows_of_more_images_are_taken_up_by_a_run_that_was_begun_before(out):
    measured(example(), MODEL, 2)
    begun = running_path("scenes", "scenes_vgg", "example").read_bytes()
    whole = measured(example(), MODEL, 6)
    running_path("scenes", "scenes_vgg", "example").write_bytes(begun)  # six were measured elsewhere
    pd.testing.assert_frame_equal(measured(replace(example(), measure=forbidden), MODEL, 2), whole)
    assert read_rows(rows_path("scenes", "scenes_vgg", "example"))[0]["image"].nunique() == 6


def test_committed_rows_are_not_replaced_by_fewer_of_other_settings(out):
    measured(example(step=1), MODEL, 3)
    running_path("scenes", "scenes_vgg", "example").unlink()
    with pytest.raises(ValueError, match="has 3 images of other settings"):
        measured(replace(example(step=2), measure=forbidden), MODEL, 2)
    assert read_rows(rows_path("scenes", "scenes_vgg", "example"))[1]["step"] == 1
    running_path("scenes", "scenes_vgg", "example").unlink()
    assert measured(example(step=2), MODEL, 3)["image"].nunique() == 3


def test_rows_of_other_settings_or_weights_are_not_mixed_in(out):
    measured(example(step=1), MODEL, 1)
    with pytest.raises(ValueError, match="step = 1, but this run has step = 2"):
        measured(example(step=2), MODEL, 2)
    path = rows_path("scenes", "scenes_vgg", "example")
    rows, settings = read_rows(path)
    write_rows(rows, rows_path("scenes", "scenes_vgg", "other"), {**settings, "weights": "others"})
    beside = replace(example(step=1), name="other", limit=0)
    both = replace(example(step=1), beside=(beside,), summary=lambda rows, subject, other: conclude(rows, subject))
    with pytest.raises(ValueError, match="example and other of scenes_vgg have other weights"):
        ask("99_test", "full", both, [MODEL], 1)


def test_what_has_no_rows_is_said_and_no_file_is_begun(out):
    with pytest.raises(MissingResult, match="no rows example of scenes_vgg on scenes"):
        ask("99_test", "full", replace(example(), limit=0), [MODEL])
    assert not running_path("scenes", "scenes_vgg", "example").exists()


def asked(path) -> Question | None:
    """The question whose rows a committed file holds; None for files that the runner does not keep."""
    stem, settings = path.stem, read_rows(path)[1]
    precision = settings.get("precision", "float32")
    fixed = {
        "orderings": study(31).question(precision),
        "pointing": pointing.question(),
        "pointing_masked": pointing.question(precision).beside[0],
        "sanity": study(42).question(),
        "convergence": convergence.question(),
        "groups": groups.question(),
        "vqa": study(37).QUESTION,
        "fd_bias": study(24).QUESTION,
    }
    protocols = {name: faithfulness.question(name, (), [], precision) for name in PROTOCOLS}
    named = f"_{settings.get('data', 'photographs')}_{settings.get('model')}"
    name = stem.removesuffix(named) if stem.endswith(named) else "cams" if stem == named[1:] else None
    return {**fixed, **protocols}.get(name)


def _fits(question: Question, settings: dict) -> bool:
    """Whether rows with these settings are the question's; which layer it stands for, a network decides."""
    asked = json.loads(json.dumps(dict(question.settings)))
    return {k: v for k, v in asked.items() if k != "layer"}.items() <= settings.items()


COMMITTED = [
    pytest.param(path, id=path.stem)
    for path in sorted((paths.root() / "data" / "results" / "rows").glob("*.parquet"))
    if asked(path) is not None
]


@pytest.mark.parametrize("path", COMMITTED)
def test_nothing_committed_is_left_to_measure_by_its_settings(path):
    """The settings that the question has now are those that the rows were made with."""
    question, (rows, settings) = asked(path), read_rows(path)
    assert any(q and _fits(q, settings) for q in (question, question.older))
    assert {"model", "weights", "layer", "data"} <= settings.keys()
    assert set(question.key) <= set(rows)
    assert not rows.duplicated(list(question.key)).any()
    assert not {"increase", "drop", "drop_in_deletion", "energy", "hit", "hit_15"} & set(rows), "the papers' names"


def test_every_kept_measurement_is_known():
    assert len(COMMITTED) >= 40


@pytest.mark.real_data
@pytest.mark.parametrize("path", COMMITTED)
def test_nothing_committed_is_left_to_measure(path, tmp_path, monkeypatch):
    """Loaded with its question, network and data, a committed file leaves nothing to measure."""
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path))
    question, (rows, settings) = asked(path), read_rows(path)
    try:
        model, data = question.load(settings["model"]), question.open(settings["data"])
    except MissingData as problem:
        pytest.skip(f"real data: {problem}")
    if model.weights["sha256"] != settings["weights"]:
        pytest.skip("other weights than the committed rows were made with")
    question = next(q for q in (question, question.older) if q and _fits(q, settings))
    done = replace(question, measure=forbidden)
    subject = done.subject(model, data)
    assert json.loads(json.dumps(done.settings_of(subject))) == settings
    name = path.stem.removesuffix(f"_{data.name}_{settings['model']}")
    found, _ = per_image(done, subject, rows[question.key[0]].nunique(), "cams" if name == path.stem else name)
    assert len(found) == len(rows)


def test_a_second_run_of_the_same_rows_waits_and_measures_nothing_again(out, capfd):
    seen, begun = [], threading.Event()

    def slow(subject, sample):
        begun.set()
        time.sleep(0.2)
        seen.append(sample.id)
        return brightness(subject, sample)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(measured, replace(example(), measure=slow), MODEL, 3)
        begun.wait(60)
        second = pool.submit(measured, replace(example(), measure=slow), MODEL, 4)
        assert len(first.result()) == 3
        assert len(second.result()) == 4
    assert len(seen) == len({*seen}) == 4
    assert capfd.readouterr().err.count("this one waits") == 1
    assert len(read_rows(rows_path("scenes", "scenes_vgg", "example"))[0]) == 4


def test_a_store_of_rows_is_closed_after_an_error(out):
    with pytest.raises(KeyError, match="method"):
        measured(replace(example(), measure=lambda subject, sample: [{"image": sample.id}]), MODEL, 1)
    model, data = load_model("scenes_vgg"), open_dataset("scenes", n=8)
    settings = example().settings_of(example().subject(model, data))
    with RowStore(running_path("scenes", "scenes_vgg", "example"), settings=settings) as store:
        assert not store.rows
