"""Generated scenes and the two small networks trained on them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from campanion import load_model
from campanion.data.scenes import CLASS_NAMES, COLOURS, SceneDataset, scene
from campanion.data.shapes import SHAPES, reach, signed_distance
from campanion.data.textures import GROUNDS, TEXTURES, ground_texture, noise, object_texture
from campanion.errors import MissingData
from campanion.models.small import MEAN, SIZE, STD, SceneVGG
from campanion.paths import checkpoints_dir
from campanion.training.batches import normalise
from campanion.training.checkpoint import card
from campanion.training.loop import train
from campanion.training.settings import read_config
from PIL import Image

TARGET_LAYER = {"scenes_vgg": "features.14", "scenes_resnet": "layer3"}
NETS = sorted(TARGET_LAYER)


def pixels(sample) -> np.ndarray:
    return np.asarray(sample.image)


def digest(sample) -> str:
    return hashlib.sha256(pixels(sample).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def drawn():
    return [scene(seed) for seed in range(120)]


@pytest.fixture(scope="module")
def held_out():
    data = SceneDataset(200, split="test", single=True)
    return [data[i] for i in range(len(data))]


@pytest.mark.parametrize(
    ("seed", "size", "n_objects", "expected"),
    [
        (0, 64, None, "18d6f40decd52d26de2c74b2f122cfe810d034087a32db2cb7860d6d922f4b1f"),
        (7, 96, 1, "861c98fcac1dfafbb296b648925b67ce03eff1beda10f287199900d93292b373"),
        (2**33 + 5, 64, 3, "7516cff44b39a59c2528d0d7cb4c52abb1d1b14b996e528cbdb1c14c6149b928"),
    ],
)
def test_a_seed_fixes_every_pixel(seed, size, n_objects, expected):
    assert digest(scene(seed, size, n_objects)) == expected


def test_other_seeds_give_other_scenes(drawn):
    assert len({digest(s) for s in drawn}) == len(drawn)
    assert [digest(scene(seed)) for seed in range(3)] == [digest(s) for s in drawn[:3]]


def test_boxes_are_tight_around_masks(drawn):
    for sample in drawn:
        for thing in sample.objects:
            assert thing.mask.dtype == bool
            assert thing.mask.shape == (64, 64)
            x0, y0, x1, y1 = (int(v) for v in thing.box)
            assert thing.mask.sum() == thing.mask[y0:y1, x0:x1].sum() > 0
            inside = thing.mask[y0:y1, x0:x1]
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_masks_do_not_share_pixels_and_hardly_hide_each_other(drawn):
    for sample in drawn:
        assert np.sum([thing.mask for thing in sample.objects], axis=0).max() == 1
        for thing, row in zip(sample.objects, sample.attributes, strict=True):
            assert 0.8 < thing.mask.sum() / (row.size * 64) ** 2 < 1.15


def test_the_label_is_the_class_of_the_clearly_largest_object(drawn):
    for sample in drawn:
        areas = [int(thing.mask.sum()) for thing in sample.objects]
        assert sample.label == sample.objects[int(np.argmax(areas))].label
        assert all(areas[0] > 1.6 * area for area in areas[1:])


def test_attributes_describe_the_objects(drawn):
    for sample in drawn:
        for thing, row in zip(sample.objects, sample.attributes, strict=True):
            assert CLASS_NAMES[thing.label] == row.kind
            assert row.colour in COLOURS
            assert row.texture in TEXTURES
            x0, y0, x1, y1 = (v / 64 for v in thing.box)
            assert x0 < row.centre[0] < x1
            assert y0 < row.centre[1] < y1


def test_colour_tells_nothing_of_the_class():
    # 900 objects, 10 x 10 cells: a chi-square far above its 81 degrees of freedom would betray a dependence.
    rows = [row for seed in range(450) for row in scene(seed, 16, n_objects=2).attributes]
    counts = np.zeros((len(SHAPES), len(COLOURS)))
    for row in rows:
        counts[SHAPES.index(row.kind), COLOURS.index(row.colour)] += 1
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 140
    assert counts.sum(0).min() > 45
    assert counts.sum(1).min() > 45


def test_the_painted_colour_is_the_named_one(drawn):
    for colour, channel, other in (("red", 0, 2), ("blue", 2, 0), ("green", 1, 0)):
        pairs = [(s, o) for s in drawn for o, a in zip(s.objects, s.attributes, strict=True) if a.colour == colour]
        assert len(pairs) > 10
        for sample, thing in pairs:
            mean = pixels(sample)[thing.mask].mean(axis=0)
            assert mean[channel] > mean[other] + 30


def test_the_image_is_the_same_at_every_size():
    for seed in range(6):
        small, large = scene(seed, 64), scene(seed, 256)
        assert small.attributes == large.attributes
        shrunk = np.asarray(large.image.resize((64, 64), Image.Resampling.BOX)).astype(float)
        assert np.abs(shrunk - pixels(small)).mean() < 6
        for a, b in zip(small.objects, large.objects, strict=True):
            assert np.abs(np.array(a.box) * 4 - np.array(b.box)).max() <= 6


def test_number_of_objects():
    assert {len(scene(seed, 16).objects) for seed in range(30)} == {1, 2, 3}
    for count in (1, 2, 3):
        assert {len(scene(seed, 16, count).objects) for seed in range(10)} == {count}


def test_splits_and_seeds_share_no_scene():
    sets = [SceneDataset(50, seed, split=split) for seed in (0, 1) for split in ("train", "test")]
    ids = [i for data in sets for i in data.ids]
    assert len(set(ids)) == 200
    assert sets[0][3].id == sets[0].ids[3]
    assert digest(sets[0][3]) != digest(sets[1][3])


def test_dataset_agrees_with_its_samples():
    for single in (True, False):
        data = SceneDataset(25, seed=3, size=32, split="test", single=single)
        samples = list(data)
        assert [s.label for s in samples] == data.labels
        assert [s.id for s in samples] == data.ids
        assert {s.image.size for s in samples} == {(32, 32)}
        assert ({len(s.objects) for s in samples} == {1}) == single
        assert sorted(data.order(1)) == list(range(25))
        assert data.order(1) != data.order(2)
        assert data[-1].id == data.ids[24]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: scene(-1), ValueError, "seed >= 0"),
        (lambda: scene(0, size=8), ValueError, "size >= 16"),
        (lambda: scene(0, n_objects=4), ValueError, "1 to 3"),
        (lambda: SceneDataset(0), ValueError, "1 to 10"),
        (lambda: SceneDataset(5, split="tset"), ValueError, "Did you mean 'test'"),
        (lambda: SceneDataset(5)[5], IndexError, "no scene 5"),
        (lambda: signed_distance("sqare", np.zeros((1, 1)), np.zeros((1, 1))), ValueError, "'square'"),
        (lambda: load_model("scenes_vg"), ValueError, "'scenes_vgg'"),
    ],
)
def test_bad_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_area_one_and_a_distance(shape):
    side = np.linspace(-1.6, 1.6, 401)
    x, y = np.meshgrid(side, side)
    distance = signed_distance(shape, x, y)
    step = side[1] - side[0]
    assert (distance < 0).sum() * step**2 == pytest.approx(1.0, abs=0.01)
    assert np.hypot(x, y)[distance < 0].max() == pytest.approx(reach(shape), abs=0.02)
    # A distance changes by no more than the way walked, and by just that along the normal near the outline.
    assert max(np.abs(np.diff(distance, axis=axis)).max() for axis in (0, 1)) < step * 1.000001
    slope = np.hypot(*np.gradient(distance, step))
    assert np.median(slope[np.abs(distance) < 0.02]) == pytest.approx(1.0, abs=0.01)


def test_textures_stay_in_range_and_differ():
    side = (np.arange(40) + 0.5) / 40 - 0.5
    u, v = np.meshgrid(side, side)
    shares = [object_texture(name, u, v, 3.0, 1 / 40) for name in TEXTURES]
    shares += [ground_texture(name, np.random.default_rng(0), 40) for name in GROUNDS]
    for i, share in enumerate(shares):
        assert 0 <= share.min() <= share.max() <= 1
        assert all(np.abs(share - other).mean() > 0.02 for other in shares[:i])


def test_noise_has_the_stated_spread():
    drawn = np.stack([noise(np.random.default_rng(seed), 224, 0.6) for seed in range(60)])
    assert drawn.std() == pytest.approx(1.0, abs=0.05)
    assert abs(drawn.mean()) < 0.1


@pytest.mark.parametrize("name", NETS)
def test_target_layer_gives_64_maps_of_8x8_just_before_the_pooling(name):
    net = load_model(name)
    kept = {}
    net.get_submodule(TARGET_LAYER[name]).register_forward_hook(lambda _m, _i, out: kept.update(out=out.clone()))
    with torch.no_grad():
        logits = net(net.preprocess(scene(1).image)[None])
    assert kept["out"].shape == (1, 64, 8, 8)
    assert kept["out"].min() == 0
    assert logits.shape == (1, len(CLASS_NAMES))
    assert net.target_layer == TARGET_LAYER[name]
    assert not net.training


def test_the_vgg_head_is_not_linear():
    net = load_model("scenes_vgg")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 16, 256, generator=generator)
    with torch.no_grad():
        middle, mean = net.classifier((a + b) / 2), (net.classifier(a) + net.classifier(b)) / 2
    assert (middle - mean).abs().max() > 0.05 * mean.abs().max()


def test_folding_batch_norm_keeps_the_function():
    torch.manual_seed(0)
    net = SceneVGG(batch_norm=True)
    images = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        net(images)  # moves the running statistics away from 0 and 1
        for module in net.features:
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2.0)
                module.bias.uniform_(-1.0, 1.0)
        folded = net.folded()
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
        torch.testing.assert_close(folded(images), net.eval()(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_committed_checkpoint_is_right_on_scenes_that_it_never_saw(name, held_out):
    net = load_model(name)
    images = torch.stack([net.preprocess(s.image) for s in held_out])
    with torch.no_grad():
        right = net(images).argmax(1) == torch.tensor([s.label for s in held_out])
    assert right.float().mean() > 0.95


@pytest.mark.parametrize("name", NETS)
def test_the_card_is_of_the_file(name):
    path = checkpoints_dir() / f"{name}.safetensors"
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["bytes"] == path.stat().st_size
    assert facts["parameters"] == sum(p.numel() for p in load_model(name, weights="random").parameters())
    assert facts["accuracy"]["one object"]["top1"] > 0.95
    assert facts["accuracy"]["one object"]["n"] >= 2000
    assert path.with_suffix(".md").read_text() == card(facts)


def test_checkpoints_are_small():
    assert sum((checkpoints_dir() / f"{name}.safetensors").stat().st_size for name in NETS) < 4_000_000


def test_preprocessing_is_that_of_the_training(drawn):
    transform = load_model("scenes_vgg").preprocess
    trained_on = normalise(torch.from_numpy(np.stack([pixels(s) for s in drawn[:4]])), MEAN, STD)
    torch.testing.assert_close(torch.stack([transform(s.image) for s in drawn[:4]]), trained_on)
    assert transform(scene(0, size=100).image).shape == (3, SIZE, SIZE)


@pytest.mark.parametrize("name", NETS)
def test_training_repeats_and_writes_what_it_reports(name, tmp_path):
    short = {"limit": 128, "limit_test": 20, "epochs": 2, "seed": 5, "tensorboard": False}
    configs = [
        read_config(name, {**short, "folder": str(tmp_path / run), "export": str(tmp_path / f"export_{run}")})
        for run in "ab"
    ]
    first, second = map(train, configs)
    assert first["sha256"] == second["sha256"]
    exported = tmp_path / "export_a"
    assert sorted(p.name for p in exported.iterdir()) == [f"{name}.{e}" for e in ("json", "md", "safetensors")]
    assert json.loads((exported / f"{name}.json").read_text())["accuracy"] == first["accuracy"]
    trained = load_model(name, weights=exported / f"{name}.safetensors")
    assert trained.target_layer == TARGET_LAYER[name]
    start = load_model(name, weights="random", seed=5).state_dict()
    assert start.keys() == trained.state_dict().keys()  # batch norm of the VGG is folded
    assert any(not torch.equal(start[key], value) for key, value in trained.state_dict().items())


def test_missing_checkpoint_names_the_command(tmp_path):
    with pytest.raises(MissingData, match=r"campanion train scenes_vgg"):
        load_model("scenes_vgg", weights=tmp_path / "nowhere.safetensors")
