"""The pointing game on images with several classes: rows, their summary, and what is shared between classes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from campanion import explain, metrics, paths
from campanion.cams.explain import explain_game
from campanion.data import open_dataset
from campanion.experiments import pointing
from campanion.experiments.pointing import (
    CENTRE,
    CHEAP,
    MASKED,
    METHODS,
    RANDOM,
    likeness,
    open_images,
    rows_question,
    summary,
    tolerant_size,
    within,
)
from campanion.experiments.runner import ask
from campanion.experiments.subject import Subject
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models import load_model
from campanion.results.rows import read_rows, rows_path
from campanion.results.store import load_result
from nets import net, random_images
from PIL import Image
from torch.nn import functional as F

KEY = "22_fd_table2_pointing_game"
FEW = ("grad_cam", "fd_cam", CENTRE, RANDOM)


def measure(model, sample, methods) -> list[dict]:
    """The rows of one image."""
    return pointing.measure(Subject(model, [sample]), sample, methods)


@pytest.fixture(scope="module")
def model():
    return load_model("scenes_vgg")


@pytest.fixture(scope="module")
def scenes():
    return open_dataset("scenes", n=8)


@pytest.fixture(scope="module")
def several(scenes):
    """A scene of two classes, as an image that is not square."""
    sample = next(s for s in scenes if len(s.labels) == 2)
    stretched = [replace(o, box=(1.5 * o.box[0], o.box[1], 1.5 * o.box[2], o.box[3])) for o in sample.objects]
    return replace(sample, image=sample.image.resize((96, 64)), objects=tuple(stretched))


def test_rows_say_what_plain_loops_say(model, several):
    rows = pd.DataFrame(measure(model, several, ("grad_cam", "fd_cam"))).set_index(["method", "target"])
    image = model.preprocess(several.image)[None]
    side, logits = image.shape[-1], model(image)[0].detach()
    e = explain(model, image.expand(2, -1, -1, -1), list(several.labels), ("grad_cam", "fd_cam"))
    inside = {}
    for c in several.labels:
        inside[c] = np.zeros((side, side), bool)
        for o in several.objects:
            x0, y0, x1, y1 = np.array(o.box) * side / np.array([96, 64, 96, 64])
            for x in range(side):
                for y in range(side):
                    if o.label == c and x0 <= x + 0.5 <= x1 and y0 <= y + 0.5 <= y1:
                        inside[c][y, x] = True
    for method in ("grad_cam", "fd_cam"):
        maps = e.maps[method].double().numpy()
        for j, c in enumerate(several.labels):
            row, m, other = rows.loc[method, c], maps[j], inside[several.labels[1 - j]]
            assert row["pointing_accuracy"] == 100 * inside[c][np.unravel_index(m.argmax(), m.shape)]
            assert row["own_energy"] == pytest.approx(100 * (m * inside[c]).sum() / m.sum(), abs=1e-4)
            assert row["other_energy"] == pytest.approx(100 * (m * (other & ~inside[c])).sum() / m.sum(), abs=1e-4)
            assert row["correlation"] == pytest.approx(np.corrcoef(maps.reshape(2, -1))[0, 1], abs=1e-6)
            assert row["score"] == pytest.approx(float(logits[c]), abs=1e-4)
            assert row["predicted"] == (c == int(logits.argmax()))
            assert row["area"] == pytest.approx(inside[c].mean())
            assert row["n_classes"] == 2
            assert not row["difficult"]
            assert not row["degenerate"]


def test_tolerance_is_measured_at_vocs_own_size(model, several):
    """A map whose highest point lies some pixels beside a box is a hit up to 15 pixels of an image of 500 x 333."""
    assert tolerant_size((96, 64)) == (333, 500)
    assert tolerant_size((375, 500)) == (500, 375)
    e = explain(model, model.preprocess(several.image)[None], several.labels[0], "grad_cam")
    wide = F.interpolate(e.raw["grad_cam"][None], (333, 500), mode="bilinear")[0, 0]
    x = int(wide.argmax()) % 500
    for gap, hit in ((13.6, 1), (14.4, 0)):
        # a box to the left, in pixels of the image as it is; its nearest pixel centre is 14 or 15 pixels away
        box = ((x - gap - 30.5) * 96 / 500, 0.0, (x - gap + 0.5) * 96 / 500, 64.0)
        moved = replace(several, objects=(replace(several.objects[0], label=several.labels[0], box=box),))
        (row,) = measure(model, moved, ("grad_cam",))
        assert row["pointing_accuracy_15"] == 100 * hit
        assert "overlap" not in row
        assert "other_energy" not in row


def test_baselines_are_the_middle_and_the_mean_of_all_points(model, several):
    rows = pd.DataFrame(measure(model, several, (CENTRE, RANDOM))).set_index(["method", "target"])
    for c in several.labels:
        boxes = several.boxes(c)
        x, y = 48.5, 32.5  # the pixel right of and below the middle
        middle = any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in boxes.tolist())
        assert rows.loc[(CENTRE, c), "pointing_accuracy"] == 100 * middle
        point = rows.loc[(RANDOM, c)]
        assert point["pointing_accuracy"] == 100 * point["area"] == point["own_energy"]
        assert point["pointing_accuracy_15"] > point["pointing_accuracy"]
    mask = np.zeros((12, 15), bool)
    mask[3:5, 6:9] = True
    points = F.one_hot(torch.arange(180), 180).reshape(180, 12, 15).double()
    box = torch.tensor([[6.0, 3.0, 9.0, 5.0]])
    assert within(mask, 3) == metrics.micro(metrics.pointing_game(points, [box] * 180, tolerance=3))
    assert within(np.zeros((4, 4), bool), 3) == 0


def test_likeness_of_maps():
    ramp = torch.arange(100, dtype=torch.float32).reshape(10, 10)
    both = torch.stack([ramp, ramp + 5])
    assert torch.allclose(likeness(both)[0], torch.ones(2).double())
    assert torch.allclose(likeness(both)[1], torch.ones(2).double())
    opposite = torch.stack([ramp, 99 - ramp])
    assert torch.equal(likeness(opposite)[0], torch.zeros(2).double())
    assert torch.allclose(likeness(opposite)[1], -torch.ones(2).double())
    # the zeros of a sparse map do not count: of the 20 highest pixels of either, 5 are in both
    sparse = torch.zeros(10, 10)
    sparse[9, 5:] = 1
    assert torch.allclose(likeness(torch.stack([ramp, sparse]))[0], torch.full((2,), 5 / 20).double())
    # a constant map tells nothing: it is left out of the others' means, and has none itself
    three = likeness(torch.stack([ramp, ramp, torch.zeros(10, 10)]))
    for part in three:
        assert torch.allclose(part, torch.tensor([1.0, 1.0, torch.nan]).double(), equal_nan=True)
    assert all(part.isnan().all() for part in likeness(ramp[None]))


def test_score_cam_forwards_its_masked_images_once_for_all_classes():
    model, image = net("mlp"), random_images(1)
    shown, network = [], fast(model)
    game = ChannelGame.of(model, image)
    game.use_network(lambda batch: shown.append(len(batch)) or network(batch))
    live = int(game.activations[0].flatten(1).any(1).sum())
    for c in range(3):
        for variant in ("authors", "cic"):
            got = explain_game(game, c, ["score_cam"], {"score_cam": {"variant": variant}})
            alone = explain(model, image, c, "score_cam", variant=variant)
            assert torch.equal(got.weights["score_cam"], alone.weights["score_cam"])
    assert sum(shown) == live


@pytest.mark.parametrize("method", ["score_cam", "group_cam"])
def test_masked_images_of_a_multi_label_network_are_scored_by_its_sigmoid(method):
    """With class 0 always certain, softmax leaves nothing to the others; their own sigmoids do not."""
    model, images, others = net("linear"), random_images(1).expand(4, -1, -1, -1), [1, 2, 3, 4]
    model.tail[-1].bias.data[0] = 40.0
    softmax = explain(model, images, others, method).raw[method]
    model.activation = "sigmoid"
    sigmoid = explain(model, images, others, method).raw[method]
    assert softmax.abs().max() < 1e-9 < 1e-6 < sigmoid.abs().max()


def test_what_decides_numbers_is_checked(model, scenes):
    asked = rows_question("pointing", FEW)
    settings = asked.settings_of(asked.subject(model, scenes))
    assert settings["methods"] == FEW
    assert settings["pictures"] == scenes.card
    wrong = rows_question("pointing", ("fd_kam",))
    with pytest.raises(ValueError, match="fd_cam"):
        wrong.settings_of(wrong.subject(model, scenes))
    strange = load_model("scenes_vgg")
    strange.class_names = ["cat", *strange.class_names[1:]]
    with pytest.raises(ValueError, match="does not tell the classes of scenes"):
        asked.settings_of(asked.subject(strange, scenes))


def test_summary_is_micro_over_pairs_and_resamples_images():
    """Image a: two pairs, image b: one, image c: one of a class that is marked difficult."""
    rows = []
    for image, target, difficult, n, area, hits in (
        ("a", 0, False, 2, 0.1, (1, 1)), ("a", 1, False, 2, 0.5, (1, 0)), ("b", 0, False, 1, 0.1, (0, 0)),
        ("c", 1, True, 1, 0.1, (0, 0)),
    ):  # fmt: skip
        for method, hit in zip(("grad_cam", "fd_cam"), hits, strict=True):
            rows.append({
                "image": image, "target": target, "method": method, "difficult": difficult, "n_classes": n,
                "area": area, "predicted": target == 0, "degenerate": False,
                "pointing_accuracy": 100 * hit, "pointing_accuracy_15": 100.0,
                "own_energy": 50.0, "other_energy": 10.0 if n > 1 else np.nan, "overlap": 20.0 if n > 1 else np.nan,
                "correlation": -0.5 if n > 1 else np.nan,
            })  # fmt: skip
    subject = SimpleNamespace(model=SimpleNamespace(class_names=("cat", "dog")))
    answer = summary(pd.DataFrame(rows), subject, pd.DataFrame())
    means, differences, extra = answer.means, answer.differences, answer.extra
    assert answer.accuracy == "finds 66.7 % of the 3 classes in these pictures"
    found = means.set_index(["method", "metric"])
    assert found.loc[("grad_cam", "pointing_accuracy"), "mean"] == pytest.approx(100 * 2 / 3)
    assert found.loc[("fd_cam", "pointing_accuracy"), "mean"] == pytest.approx(100 / 3)
    assert found.loc[("grad_cam", "pointing_accuracy"), "n"] == 2
    assert found.loc[("grad_cam", "pointing_accuracy"), ["low", "high"]].isna().all()  # two images give no interval
    assert found.loc[("grad_cam", "pointing_not_predicted"), ["mean", "n"]].tolist() == [100, 1]  # a's dog alone
    assert found.loc[("fd_cam", "pointing_not_predicted"), "mean"] == 0
    assert found.loc[("grad_cam", "other_energy"), ["mean", "n"]].tolist() == pytest.approx([10, 1])
    assert found.loc[("grad_cam", "correlation"), "mean"] == -0.5
    assert extra["macro"]["grad_cam"] == pytest.approx((50 + 100) / 2)
    assert extra["macro_15"]["grad_cam"] == 100
    assert extra["per_class"]["fd_cam"] == [50, 0]
    assert extra["pairs_per_class"]["fd_cam"] == [2, 1]
    assert extra["images"]["fd_cam"] == 2
    assert extra["pairs"]["fd_cam"] == 3
    pairs = {name: (part[0]["pairs"] if part else 0) for name, part in extra["subsets"].items()}
    assert pairs == {
        "table": 3, "small with distractors": 1, "one class in the picture": 1, "several classes": 2,
        "predicted present": 2, "not predicted": 1, "with classes marked difficult": 4,
    }  # fmt: skip
    (accuracy,) = differences[differences["metric"] == "pointing_accuracy"].to_dict("records")
    assert (accuracy["method"], accuracy["reference"]) == ("grad_cam", "fd_cam")
    assert accuracy["mean"] == pytest.approx(100 / 3)
    assert differences.set_index("metric").loc["pointing_not_predicted", "mean"] == 100


def test_a_quick_run_has_every_method(out):
    result = ask(KEY, "quick", pointing.question(), [], 3)
    assert [run["model"] for run in result["runs"]] == ["scenes_resnet", "scenes_vgg"]
    run = result["runs"][0]
    assert run["provenance"]["n"] == 3
    accuracy = [r["method"] for r in run["rows"] if r["metric"] == "pointing_accuracy"]
    assert accuracy == list(METHODS)
    assert set(METHODS) == {*CHEAP, *MASKED}
    assert set(run["provenance"]["settings"]["beside"]) == {f"quick_{KEY}_pointing_masked"}


def committed() -> list:
    path = paths.root() / "data" / "results" / f"{KEY}.json"
    return load_result(KEY, path.parent)["runs"] if path.exists() else []


@pytest.mark.parametrize("run", committed(), ids=lambda run: f"{run['model']}-{run['data']}")
def test_committed_rows_and_result_agree(run, monkeypatch):
    """Every accuracy in the result file is the share of hits in the committed rows."""
    monkeypatch.delenv("CAMPANION_RESULTS", raising=False)
    frames, told = [], run["provenance"]["settings"]
    own = {k: v for k, v in told.items() if k not in ("protocol", "beside")}
    runs = told.get("runs") or {"pointing": own, **told.get("beside", {})}  # "runs": before the runner
    for name in ("pointing", "pointing_masked"):
        if rows_path(run["data"], run["model"], name).exists():
            frame, settings = read_rows(rows_path(run["data"], run["model"], name))
            assert runs[name] == settings
            assert not frame.duplicated(["image", "target", "method"]).any()
            frames.append(frame)
    rows = pd.concat(frames)
    rows = rows[~rows["difficult"]]
    stored = {r["method"]: r for r in run["rows"] if r["metric"] == "pointing_accuracy"}
    assert set(stored) == set(rows["method"])
    for method, own in rows.groupby("method"):
        assert stored[method]["mean"] == pytest.approx(own["pointing_accuracy"].mean(), rel=1e-5)
        assert stored[method]["n"] == own["image"].nunique() == run["extra"]["images"][method]
        each = own.groupby("target")["pointing_accuracy_15"].mean()
        assert run["extra"]["macro_15"][method] == pytest.approx(each.mean(), rel=1e-5)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["voc_mlp", "voc_linear"])
def test_committed_rows_come_out_again(name, real_weights):
    """The first two images of VOC, measured again by two methods."""
    if not (real_weights.parent / "voc2007").is_dir() or not rows_path("voc2007", name, "pointing").exists():
        pytest.skip("real data: CAMPANION_DATA has no voc2007, or there are no committed rows")
    frame, settings = read_rows(rows_path("voc2007", name, "pointing"))
    data, model = open_images("voc2007"), load_model(name)
    if (model.weights["sha256"], data.card) != (settings["weights"], settings["pictures"]):
        pytest.skip("other weights or images than the committed rows were made with")
    for index in data.order(settings["seed"])[:2]:
        new = pd.DataFrame(measure(model, data[index], ("grad_cam", "fd_cam")))
        both = new.merge(frame, on=["image", "target", "method"], suffixes=("", "_old"))
        assert len(both) == len(new)
        assert (both["pointing_accuracy"] == both["pointing_accuracy_old"]).all()
        assert (both["own_energy"] - both["own_energy_old"]).abs().max() < 0.1


def test_tolerant_size_of_a_line():
    assert tolerant_size(Image.new("RGB", (2000, 1)).size) == (1, 500)
