"""The VQA network, the question fixed, and LIFT-CAM through its unit norm, product and tanh."""

from __future__ import annotations

import json

import pytest
import torch
from campanion import explain, metrics
from campanion.data.questions import ANSWERS, SceneQuestions
from campanion.errors import MissingData
from campanion.game.game import ChannelGame
from campanion.game.unitnorm import UnitNorm, multiply
from campanion.models.vqa import Design, build_vqa, last_linear, load_vqa, stored, with_question
from campanion.paths import checkpoints_dir
from captum.attr import DeepLift
from nets import CHANNELS, all_coalitions, shapley_of
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

WORDS = ("what", "colour", "shape", "is", "the", "disc", "object")
SMALL = Design("scenes", WORDS, ANSWERS, joint=16, embedding=8, hidden=8, classifier=12)
TEXT = "What colour is the disc?"


class Tiny(nn.Module):
    """An image encoder with 8 channels at the layer ``target``; its last layer's bias is large or none."""

    def __init__(self, joint: int, bias: bool) -> None:
        super().__init__()
        self.stem, self.target = nn.Conv2d(3, CHANNELS, 3, stride=4, padding=1), nn.ReLU()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(CHANNELS * 4, joint, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.target(self.stem(x))), 1))


def tiny(bias: bool = True) -> nn.Module:
    """A VQA network of double precision around :class:`Tiny`, its question fixed."""
    torch.manual_seed(1)
    model = build_vqa(SMALL)
    model.picture.cnn = Tiny(SMALL.joint, bias)
    model.target_layer = "picture.cnn.target"
    for layer in (model.classifier[2], model.classifier[5], model.question.linear):
        layer.weight.data.mul_(4)  # far from linear: the two tanh bend
    return with_question(model.double().eval(), TEXT)


def random_images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 24, 24, dtype=torch.double, generator=torch.Generator().manual_seed(2))


def masked_logits(asked: nn.Module, image: Tensor, rows: Tensor) -> Tensor:
    """Logits [M, C] of the whole network with channels switched off by a hook: no line of the package."""
    handle = asked.picture.cnn.target.register_forward_hook(lambda _m, _i, out: out * rows[:, :, None, None])
    with torch.no_grad():
        found = asked(image.expand(len(rows), -1, -1, -1))
    handle.remove()
    return found


def test_the_formula() -> None:
    model = build_vqa(SMALL)
    images, tokens = torch.randn(2, 3, 64, 64), model.encode([TEXT, "what is the disc"])
    u = model.picture.cnn(images)
    _, (h, c) = model.question.lstm(torch.tanh(model.question.embedding(tokens[1:, :4])))
    e = model.question.linear(torch.tanh(torch.cat([h[0], h[1], c[0], c[1]], 1)))
    first, last = model.classifier[2], model.classifier[5]
    expected = last(torch.tanh(first(torch.tanh(u[1:] / u[1:].norm() * e))))
    assert torch.allclose(model(images, tokens)[1:], expected, atol=1e-6)


def test_words() -> None:
    model = build_vqa(SMALL)
    tokens = model.encode(["What colour is the DISC?", "the unicorn"])
    assert tokens.tolist() == [[2, 3, 5, 6, 7], [6, 1, 0, 0, 0]]
    with pytest.raises(ValueError, match="'\\?!' has none"):
        model.encode(["?!"])


def test_a_question_does_not_depend_on_the_padding_of_others() -> None:
    model = build_vqa(SMALL)
    alone = model.question(model.encode(["the disc"]))
    beside = model.question(model.encode(["the disc", "what colour is the object"]))
    assert torch.allclose(alone, beside[:1], atol=1e-6)


def test_with_question_is_the_network() -> None:
    model = build_vqa(SMALL)
    asked, images = with_question(model, TEXT), torch.randn(2, 3, 64, 64)
    assert torch.allclose(asked(images), model(images, model.encode([TEXT, TEXT])), atol=1e-6)
    assert asked.class_names == list(ANSWERS)
    assert not asked.training
    assert not [p for p in asked.parameters() if p.grad is not None]
    head = ChannelGame.of(asked, images).head
    assert head.kind == "generic"
    assert head.module is not None


def test_other_questions_give_other_maps_through_the_one_interface() -> None:
    model = build_vqa(SMALL)
    images = torch.randn(2, 3, 64, 64)
    found = [
        explain(with_question(model, text), images, 3, ("grad_cam", "lift_cam", "fd_cam", "shap_cam"), orderings=4)
        for text in (TEXT, "what shape is the object")
    ]
    for name, maps in found[0].maps.items():
        assert maps.shape == (2, 64, 64)
        assert not torch.equal(found[0].weights[name], found[1].weights[name])
    asked = with_question(model, TEXT)
    direct = metrics.confidence(asked, images, found[0].maps["lift_cam"], found[0].targets)
    fused = metrics.confidence(
        lambda x: asked.answer(model.picture(x)), images, found[0].maps["lift_cam"], found[0].targets
    )
    assert torch.allclose(direct.explanation, fused.explanation, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_lift_sums_to_the_difference_of_the_scores(bias: bool) -> None:
    asked, images = tiny(bias), random_images()
    game = ChannelGame.of(asked, images)
    for answer in (0, 5, 20):
        target = game.target(answer)
        weights = explain(asked, images, answer, "lift_cam").weights["lift_cam"]
        difference = game.score(target) - game.value(torch.zeros(1, CHANNELS), target)[:, 0]
        assert difference.abs().min() > 1e-3
        assert torch.allclose(weights.sum(1), difference, atol=1e-10)


@pytest.mark.filterwarnings("ignore:Input Tensor")
def test_without_the_rule_of_the_norm_the_sum_is_wrong() -> None:
    """What makes the test above one that can fail: captum takes the norm's plain gradient."""
    asked, images = tiny(), random_images()
    game = ChannelGame.of(asked, images)
    target = game.target(5)
    difference = game.score(target) - game.value(torch.zeros(1, CHANNELS), target)[:, 0]
    with pytest.warns(UserWarning, match="Setting forward"):
        plain = DeepLift(game.head.module).attribute(game.activations.clone(), target=target).sum((1, 2, 3))
    assert ((plain - difference).abs() > 0.01 * difference.abs()).any()


def test_lift_is_near_brute_force_shapley_values_and_nearer_than_grad_cam() -> None:
    asked, images = tiny(), random_images()
    answers = asked(images).argmax(1)
    e = explain(asked, images, answers, ("grad_cam", "lift_cam", "shap_cam"), orderings=3000)
    cosines = {name: [] for name in e.weights}
    for b, answer in enumerate(answers.tolist()):
        truth = shapley_of(masked_logits(asked, images[b], all_coalitions())[:, answer])
        assert torch.isclose(truth.sum(), e.weights["lift_cam"][b].sum(), atol=1e-8)
        for name, weights in e.weights.items():
            cosines[name].append(float(torch.cosine_similarity(weights[b], truth, dim=0)))
    assert min(cosines["shap_cam"]) > 0.99
    assert min(cosines["lift_cam"]) > 0.8
    assert sum(cosines["lift_cam"]) > sum(cosines["grad_cam"])


class TestUnitNorm:
    x, reference, gradient = torch.randn(3, 6, 5, dtype=torch.double, generator=torch.Generator().manual_seed(3))

    def test_sums_to_the_difference(self) -> None:
        found = (multiply(self.gradient, self.x, self.reference) * (self.x - self.reference)).sum(1)
        change = F.normalize(self.x, dim=1) - F.normalize(self.reference, dim=1)
        assert torch.allclose(found, (self.gradient * change).sum(1), atol=1e-12)

    def test_is_the_gradient_where_the_difference_vanishes(self) -> None:
        x = self.x.clone().requires_grad_(True)
        (expected,) = torch.autograd.grad((self.gradient * UnitNorm()(x)).sum(), x)
        assert torch.allclose(multiply(self.gradient, self.x, self.x), expected, atol=1e-12)

    def test_shares_each_product_as_shapley_does(self) -> None:
        """y_i = x_i s: the mean over both orders of changing x_i and s, and s' part by the exact rule of the square."""
        x, x0 = self.x[0], self.reference[0]
        s, s0 = 1 / x.norm(), 1 / x0.norm()
        square = (x + x0) / (x @ x - x0 @ x0)  # of |x|^2, divided by its change
        for i in range(5):
            unit = torch.zeros(1, 5, dtype=torch.double)
            unit[0, i] = 1
            own = ((x[i] - x0[i]) * s0 + (x[i] - x0[i]) * s) / 2
            length = (x0[i] * (s - s0) + x[i] * (s - s0)) / 2
            expected = length * square * (x - x0)
            expected[i] += own
            found = multiply(unit, x[None], x0[None])[0] * (x - x0)
            assert torch.allclose(found, expected, atol=1e-12)

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_row_of_zeros_has_no_direction(self, which: int) -> None:
        pair = [self.x, self.reference]
        pair[which] = torch.zeros_like(self.x)
        found = (multiply(self.gradient, *pair) * (pair[0] - pair[1])).sum(1)
        change = F.normalize(pair[0], dim=1) - F.normalize(pair[1], dim=1)
        assert torch.allclose(found, (self.gradient * change).sum(1), atol=1e-12)

    def test_any_network_with_normalize_is_recognised(self) -> None:
        asked = tiny()
        game = ChannelGame.of(asked, torch.randn(1, 3, 64, 64).double())
        steps = [type(m) for m in game.head.module.children()]
        assert steps.count(UnitNorm) == 1


def test_a_file_holds_the_network_and_half_of_the_bytes(tmp_path) -> None:
    model = build_vqa(SMALL, seed=4)
    state, about = stored(model)
    save_file(state, tmp_path / "small.safetensors", metadata=about)
    again = load_vqa(weights=tmp_path / "small.safetensors")
    assert again.design == SMALL
    assert again.weights["name"] == "small"
    images, tokens = torch.randn(2, 3, 64, 64), model.encode([TEXT, TEXT])
    assert torch.allclose(again(images, tokens), model(images, tokens), atol=0.02)
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.float16}


def test_a_torchvision_trunk_is_left_out_of_the_file_and_read_with_its_own_weights(tmp_path, monkeypatch) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    trunk = resnet18(weights=None)
    save_file(trunk.state_dict(), tmp_path / "weights" / "resnet18.safetensors")
    design = Design("resnet18", WORDS, ("yes", "no"), joint=8, embedding=4, hidden=4, classifier=6)
    model = build_vqa(design)
    assert model.target_layer == "picture.cnn.layer4"
    assert model.preprocess.size == 224
    state, about = stored(model)
    assert [key for key in state if key.startswith("picture")] == ["picture.cnn.fc.weight", "picture.cnn.fc.bias"]
    save_file(state, tmp_path / "weights" / "vqa_v2.safetensors", metadata=about)
    again = load_vqa("vqa_v2")
    assert torch.equal(again.picture.cnn.conv1.weight, trunk.conv1.weight)
    images, tokens = torch.randn(1, 3, 64, 64), model.encode([TEXT])
    assert torch.allclose(again(images, tokens), model(images, tokens), atol=0.02)


def test_bad_files_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    with pytest.raises(MissingData, match="train vqa_v2"):
        load_vqa("vqa_v2")
    state, about = stored(build_vqa(SMALL))
    path = tmp_path / "bad.safetensors"
    save_file(state, path)
    with pytest.raises(ValueError, match="does not say what network"):
        load_vqa(weights=path)
    design = json.loads(about["design"])
    save_file({k: v for k, v in state.items() if k != "classifier.5.bias"}, path, metadata=about)
    with pytest.raises(ValueError, match=r"does not fit bad: .*classifier\.5\.bias"):
        load_vqa(weights=path)
    save_file(state, path, metadata={"design": json.dumps({**design, "joint": 99})})
    with pytest.raises(ValueError, match="does not fit"):
        load_vqa(weights=path)


def test_a_network_that_does_not_end_in_a_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="does not end in a linear layer"):
        last_linear(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))


def test_the_committed_network_answers() -> None:
    model = load_vqa()
    facts = json.loads((checkpoints_dir() / "vqa_scenes.json").read_text())
    assert model.weights["sha256"] == facts["sha256"]
    assert facts["accuracy"]["all"]["top1"] > 0.9
    assert (checkpoints_dir() / "vqa_scenes.safetensors").stat().st_size == facts["bytes"] < 2_000_000


def test_the_sum_holds_for_the_committed_network() -> None:
    """Its vector of the empty image is hundreds of times shorter than that of a scene: the hard case of the norm."""
    data = SceneQuestions(6, seed=5)
    model = load_vqa().double()
    for sample in (data[i] for i in (0, 3, 7)):
        asked = with_question(model, sample.question.text)
        image = model.preprocess(sample.image)[None].double()
        game = ChannelGame.of(asked, image)
        target = game.target(None)
        weights = explain(asked, image, methods="lift_cam").weights["lift_cam"]
        difference = game.score(target) - game.value(torch.zeros(1, game.channels), target)[:, 0]
        assert torch.allclose(weights.sum(1), difference, rtol=0, atol=1e-8)
