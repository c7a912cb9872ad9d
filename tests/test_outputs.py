"""What a probability is, what a target is, and which wrappers are looked through."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torchvision
from campanion import explain
from campanion.explorer.bench import Bench
from campanion.game import ChannelGame
from campanion.metrics import confidence, insertion_deletion
from campanion.models import load_model
from campanion.outputs import Outputs, activation_of, eager, unwrap
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

METHODS = ("grad_cam", "fd_cam", "lift_cam", "score_cam")


class Net(nn.Module):
    """A small CNN with ``classes`` outputs; ``last`` is applied to the logits."""

    def __init__(self, classes: int = 5, last: object = lambda y: y) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.f = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()
        )
        self.fc, self.last = nn.Linear(16, classes), last
        with torch.no_grad():
            self.fc.weight.mul_(20)

    def forward(self, x: Tensor) -> object:
        return self.last(self.fc(self.f(x).mean((2, 3))))


class Negative(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return -self.net(x)


X = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
MAPS = torch.rand(2, 24, 24, generator=torch.Generator().manual_seed(2))
EVERY = ("grad_cam", "fd_cam", "fd_cam:score=probability", "lift_cam", "ablation_cam", "score_cam", "group_cam", "rise",
         "gradient", "integrated_gradients", "lime_cam")  # fmt: skip


def same(a: object, b: object, methods: tuple[str, ...] = METHODS, atol: float = 1e-5) -> None:
    for name in methods:
        assert torch.allclose(a.maps[name], b.maps[name], atol=atol), name
        assert torch.equal(a.degenerate[name], b.degenerate[name])
        assert torch.allclose(a.raw[name], b.raw[name], atol=1e-4), name
    assert not all(a.degenerate[name].all() for name in methods)


def masked_scores(net: nn.Module, image: Tensor, score: object) -> Tensor:
    """Score-CAM's weights [K] by a plain loop: ``score`` of the logits of the image masked by each channel."""
    channels = F.interpolate(net.f(image[None]), image.shape[-2:], mode="bilinear")[0]
    weights = []
    for channel in channels:
        low, high = channel.min(), channel.max()
        seen = net(image[None] * (channel - low) / (high - low).clamp_min(1e-12))
        weights.append(score(seen) if high > low else torch.tensor(0.0))
    return torch.stack(weights).detach()


def area(net: nn.Module, image: Tensor, ranked: Tensor, score: object, step: int) -> float:
    """RISE's insertion area from a zero image, by a plain loop."""
    order, points = ranked.flatten().argsort(descending=True, stable=True), []
    for k in range(0, len(order) + 1, step):
        seen = torch.zeros_like(image).flatten(1)
        seen[:, order[:k]] = image.flatten(1)[:, order[:k]]
        points.append(float(score(net(seen.view_as(image)[None]))))
    points = torch.tensor(points, dtype=torch.float64)
    return float((points.sum() - (points[0] + points[-1]) / 2) / (len(points) - 1))


SCORES = {
    "one logit": (1, None, lambda y: y.sigmoid()[0, 0]),
    "one logit, lower": (1, None, lambda y: (-y).sigmoid()[0, 0]),
    "several labels": (5, "sigmoid", lambda y: y.sigmoid()[0, 0]),
    "classes": (5, None, lambda y: y.softmax(1)[0, 0]),
    "temperature": (5, lambda y: (y / 3).softmax(1), lambda y: (y / 3).softmax(1)[0, 0]),
    "regression": (1, lambda y: y, lambda y: y[0, 0]),
    "regression, lower": (1, lambda y: y, lambda y: -y[0, 0]),
}


@pytest.mark.parametrize("case", SCORES)
def test_a_probability_is_what_the_activation_says(case):
    classes, activation, score = SCORES[case]
    net, target = Net(classes).eval(), "lower" if "lower" in case else 0
    e = explain(net, X, target, ("score_cam", "group_cam", "rise"), layer="f", activation=activation, masks=64)
    for b in range(2):
        assert torch.allclose(e.weights["score_cam"][b], masked_scores(net, X[b], score), atol=1e-4)
    assert "lower" in case or not e.degenerate["group_cam"].any()
    targets = target if isinstance(target, str) else torch.zeros(2, dtype=torch.long)
    curves = insertion_deletion(net, X, MAPS, targets, step=96, baseline="zero", activation=activation)
    kept = confidence(net, X, MAPS, targets, activation=activation)
    for b in range(2):
        assert float(curves.insertion[b]) == pytest.approx(area(net, X[b], MAPS[b], score, 96), abs=1e-4)
        assert float(kept.original[b]) == pytest.approx(float(score(net(X[b : b + 1]))), abs=1e-5)
        assert float(kept.explanation[b]) == pytest.approx(float(score(net(X[b : b + 1] * MAPS[b]))), abs=1e-5)


@pytest.mark.parametrize("activation", [None, "sigmoid", lambda y: y / 2])
def test_lower_explains_the_negative_network(activation):
    net = Net(1).eval()
    options = {"layer": "f", "activation": activation, "masks": 64}
    both = (
        explain(net, X, "lower", EVERY, **options),
        explain(Negative(net).eval(), X, 0, EVERY, **options | {"layer": "net.f"}),
    )
    same(*both, EVERY)
    assert torch.allclose(both[0].scores, -net(X)[:, 0])
    same(explain(net, X, "higher", EVERY, **options), explain(net, X, 0, EVERY, **options), EVERY)


def test_a_list_of_targets_mixes_signs_functions_and_classes():
    net = Net(1).eval()
    mixed = explain(net, X, ["lower", "higher"], METHODS, "f")
    for b, sign in enumerate(("lower", "higher")):
        alone = explain(net, X[b : b + 1], sign, METHODS, "f")
        for name in METHODS:
            assert torch.allclose(mixed.maps[name][b], alone.maps[name][0], atol=1e-5)
            assert torch.allclose(mixed.weights[name][b], alone.weights[name][0], atol=1e-4)
    net, images = Net(5).eval(), torch.cat([X, X])
    mixed = explain(net, images, [lambda y: y[:, 3], 2, lambda y: y[:, 1] - y[:, 2], 2], METHODS, "f")
    for b, logit in ((0, lambda y: y[:, 3]), (1, lambda y: y[:, 2]), (2, lambda y: y[:, 1] - y[:, 2])):
        alone = explain(net, images[b : b + 1], logit, ("grad_cam", "fd_cam", "lift_cam"), "f")
        for name in alone.maps:
            assert torch.allclose(mixed.maps[name][b], alone.maps[name][0], atol=1e-5), (b, name)


def test_a_function_stands_for_what_has_no_class():
    net, wanted = Net(5).eval(), torch.randn(1, 5, generator=torch.Generator().manual_seed(3))
    e = explain(net, X, lambda y: F.cosine_similarity(y, wanted), ("grad_cam", "score_cam", "ablation_cam"), "f")
    kept = {}
    handle = net.f.register_forward_hook(lambda _m, _i, out: kept.setdefault("a", out))
    cosine = F.cosine_similarity(net(X), wanted)
    handle.remove()
    (slope,) = torch.autograd.grad(cosine.sum(), kept["a"])
    assert torch.allclose(e.weights["grad_cam"], slope.mean((2, 3)), atol=1e-6)
    assert torch.allclose(e.scores, cosine)
    expected = torch.stack([masked_scores(net, x, lambda y: F.cosine_similarity(y, wanted)[0]) for x in X])
    assert torch.allclose(e.weights["score_cam"], expected, atol=1e-5)
    for k in range(16):
        without = kept["a"].detach().clone()
        without[:, k] = 0
        drop = cosine - F.cosine_similarity(net.fc(without.mean((2, 3))), wanted)
        assert torch.allclose(e.weights["ablation_cam"][:, k], drop, atol=1e-6)
    names = ("grad_cam", "fd_cam", "lift_cam")
    same(explain(net, X, lambda y: y[:, 3], names, "f"), explain(net, X, 3, names, "f"), names)


def test_a_pixel_of_a_segmentation_and_a_box_are_explained():
    torch.manual_seed(0)
    net = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    x = torch.randn(1, 3, 64, 64)
    by_key = explain(net, x, lambda y: y["out"][:, 2, 20, 30], "grad_cam", "backbone.16")
    by_tensor = explain(net, x, lambda y: y[:, 2, 20, 30], "grad_cam", "backbone.16")
    kept = {}
    handle = net.eval().backbone["16"].register_forward_hook(lambda _m, _i, out: kept.setdefault("a", out))
    value = net(x)["out"][0, 2, 20, 30]
    handle.remove()
    (slope,) = torch.autograd.grad(value, kept["a"])
    for e in (by_key, by_tensor):
        assert torch.allclose(e.weights["grad_cam"], slope.mean((2, 3)), atol=1e-7)
        assert torch.allclose(e.scores, value.detach())

    class Boxes(Net):
        """Detections as a list of dictionaries, one for each image."""

        def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
            return [{"scores": row.sigmoid()} for row in super().forward(x)]

    boxes, plain = Boxes(5).eval(), Net(5).eval()
    e = explain(boxes, X, lambda y: torch.stack([found["scores"][1] for found in y]), ("grad_cam", "ablation_cam"), "f")
    right = explain(plain, X, lambda y: y.sigmoid()[:, 1], ("grad_cam", "ablation_cam"), "f")
    same(e, right, ("grad_cam", "ablation_cam"))


class Named(NamedTuple):
    logits: Tensor
    aux_logits: Tensor


@dataclass
class Dataclass:
    loss: None
    logits: Tensor


class ModelOutput(OrderedDict):
    """As transformers has it: a dictionary whose entries are attributes too."""

    def __getattr__(self, name: str) -> Tensor:
        return self[name]


RETURNED = {
    "dataclass": lambda y: Dataclass(None, y),
    "ordered dictionary": lambda y: ModelOutput(logits=y, hidden=y.new_zeros(len(y), 3)),
    "dictionary": lambda y: {"logits": y},
    "dictionary of one": lambda y: {"scores": y},
    "tuple of one": lambda y: (y,),
    "logits first, auxiliary ones after": lambda y: (y, y * 2, y * 3),
    "named tuple": lambda y: Named(y, y * 2),
    "with features [B, K, h, w]": lambda y: (y.new_zeros(len(y), 4, 2, 2), y),
    "[B, C, 1, 1]": lambda y: y[:, :, None, None],
}


@pytest.mark.parametrize("form", RETURNED)
def test_logits_are_found_in_what_networks_return(form):
    net, right = Net(5, RETURNED[form]).eval(), Net(5).eval()
    same(explain(net, X, 2, METHODS, "f"), explain(right, X, 2, METHODS, "f"))
    found, expected = (insertion_deletion(n, X, MAPS, torch.tensor([2, 1]), step=96) for n in (net, right))
    assert torch.allclose(found.insertion, expected.insertion, atol=1e-6)


def test_one_number_for_each_image_is_one_logit():
    for squeeze in (lambda y: y.squeeze(1), lambda y: y.squeeze(), lambda y: y[:, 0]):
        for images in (X, X[:1]):
            net = Net(1, squeeze).eval()
            same(explain(net, images, None, METHODS, "f"), explain(Net(1).eval(), images, 0, METHODS, "f"))


@pytest.mark.parametrize(
    ("change", "targets", "sentence"),
    [
        (lambda y: (y, y[:, :2]), 1, "several tensors that may be logits"),
        (lambda y: y[:, :, None, None].expand(-1, -1, 3, 3), 1, "must return logits"),
        (lambda y: "cat", 1, "must return logits"),
        (lambda y: y, "lower", "'lower' is for networks of one output; this one has 5"),
        (lambda y: y, "up", "'higher', 'lower' or a function"),
        (lambda y: y, lambda y: y, "one number for each of 2 images"),
        (lambda y: y, lambda y: y[:, 9], "fails on the network's output"),
        (lambda y: y, lambda y: y.argmax(1), "floating-point"),
        (lambda y: y, ["lower"], "one for each of 2 images"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(change, targets, sentence):
    with pytest.raises(ValueError, match=sentence):
        explain(Net(5, change).eval(), X, targets, "grad_cam", "f")


def test_a_softmax_of_one_logit_and_unknown_activations_are_refused():
    net = Net(1).eval()
    with pytest.raises(ValueError, match="always 1"):
        explain(net, X, 0, "score_cam", "f", activation="softmax")
    with pytest.raises(ValueError, match="always 1"):
        insertion_deletion(net, X, MAPS, torch.zeros(2, dtype=torch.long), step=96, activation="softmax")
    with pytest.raises(ValueError, match="'softmax', 'sigmoid' or a function"):
        explain(net, X, 0, "score_cam", "f", activation="relu")
    with pytest.raises(ValueError, match="differ: pass one"):
        confidence(net, X, MAPS, torch.zeros(2, dtype=torch.long), activation="sigmoid", score="softmax")
    with pytest.raises(ValueError, match="one number for each"):
        explain(net, X, 0, "score_cam", "f", activation=lambda y: y.new_ones(3, 7))


def test_the_activation_is_found_through_wrappers_and_not_in_hidden_layers():
    net = Net(5)
    assert activation_of(net) is None
    for hidden in (torch.relu, F.gelu, torch.tanh, "gelu", "relu", nn.Sigmoid()):
        net.activation = hidden
        assert activation_of(net) is None
    del net.activation
    net.activation = "sigmoid"

    class Module(nn.Module):  # as a LightningModule is written
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss = net, nn.CrossEntropyLoss()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    for wrapped in (nn.DataParallel(net), AveragedModel(net), Module(), nn.DataParallel(Module()), torch.compile(net)):
        assert activation_of(wrapped) == "sigmoid"
        assert Outputs.of(wrapped).probabilities(torch.zeros(1, 5)).tolist() == [[0.5] * 5]
    net.activation = torch.sigmoid
    assert activation_of(nn.DataParallel(net)) is torch.sigmoid
    right = explain(net.eval(), X, 1, "score_cam", "f", activation="sigmoid").weights["score_cam"]
    found = explain(nn.DataParallel(net).eval(), X, 1, "score_cam", "module.f").weights["score_cam"]
    assert torch.allclose(found, right)
    targets = torch.tensor([1, 2])
    right = insertion_deletion(net, X, MAPS, targets, step=96, activation="sigmoid").insertion
    assert torch.allclose(insertion_deletion(nn.DataParallel(net), X, MAPS, targets, step=96).insertion, right)


def counted(net: nn.Module) -> list[int]:
    """How many images pass the first convolution, in a list that grows while they do."""
    seen = []
    next(m for m in net.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(
        lambda _m, _i, o: seen.append(len(o))
    )
    return seen


def wrappers(net: nn.Module) -> dict[str, nn.Module]:
    own, inner = copy.deepcopy(net), copy.deepcopy(net)
    own.compile(backend="eager")
    inner.layer4 = torch.compile(inner.layer4, backend="eager")
    both = torch.compile(nn.DataParallel(copy.deepcopy(net)), backend="eager")
    found = {
        "DataParallel": nn.DataParallel(copy.deepcopy(net)),
        "AveragedModel": AveragedModel(net).eval(),
        "torch.compile": torch.compile(copy.deepcopy(net), backend="eager"),
        "compiled in place": own,
        "a layer compiled": inner,
        "DataParallel compiled": both,
    }
    for name in ("torch.compile", "compiled in place", "a layer compiled", "DataParallel compiled"):
        with torch.no_grad():
            found[name](torch.randn(1, 3, 64, 64))  # compiled before hooks are there
    return found


def test_wrappers_cost_one_pass_and_change_no_map():
    torch.manual_seed(0)
    net, x = torchvision.models.resnet18(num_classes=7).eval(), torch.randn(1, 3, 64, 64)
    methods = ("grad_cam", "fd_cam", "lift_cam", "shap_cam")
    right = explain(net, x, 1, methods, "layer4")
    for name, wrapped in wrappers(net).items():
        prefix = unwrap(wrapped)[1]
        seen = counted(wrapped)
        for layer in {f"{prefix}layer4", "layer4"}:
            found = explain(wrapped, x, 1, methods, layer)
            same(found, right, methods)
        assert sum(seen) <= 2 * len({prefix, ""}), (name, seen)


def test_compiled_networks_are_compiled_again_afterwards():
    from torch._dynamo import eval_frame

    net = torch.compile(Net(5).eval(), backend="eager")
    explain(net, X, 1, "grad_cam", "_orig_mod.f")
    assert eval_frame._stance.stance == "default"
    with eager(net), eager(net):
        assert eval_frame._stance.stance == "force_eager"
    assert eval_frame._stance.stance == "default"


def test_a_wrapper_with_a_hook_of_its_own_is_not_passed_by():
    net = Net(5).eval()
    wrapped = nn.DataParallel(net)
    wrapped.register_forward_hook(lambda _m, _i, out: out * -1)
    same(explain(wrapped, X, 1, METHODS, "module.f"), explain(Negative(net), X, 1, METHODS, "net.f"))


def test_torchscript_is_a_sentence():
    net = Net(5).eval()
    for scripted in (torch.jit.trace(net, X),):
        with pytest.raises(ValueError, match="TorchScript"):
            explain(scripted, X, 1, "grad_cam", "f")


def test_the_explorer_looks_through_wrappers():
    net = load_model("scenes_vgg")
    image = Image.new("RGB", (64, 64), (200, 40, 40))
    plain, wrapped = Bench(net, image), Bench(nn.DataParallel(net), image)
    assert wrapped.layer == plain.layer
    assert torch.allclose(wrapped.probabilities, plain.probabilities)
    assert torch.allclose(wrapped.explain("score_cam").map, plain.explain("score_cam").map, atol=1e-6)
    several = Bench(net, image, activation="sigmoid")
    assert torch.allclose(several.probabilities, several.game.logits[0].sigmoid())
    begin = several.curves("grad_cam").insertion_curve[0, -1]
    assert float(begin) == pytest.approx(float(several.probabilities.max()), abs=1e-5)


def test_game_takes_an_activation():
    game = ChannelGame.of(Net(5).eval(), X, "f", activation="sigmoid")
    every = game.probability(torch.ones(1, 16), [1, 2])
    assert torch.allclose(every[:, 0], game.logits.sigmoid()[[0, 1], [1, 2]], atol=1e-6)


def test_the_explorer_explains_one_output_by_its_sign():
    net = Net(1).eval()
    net.preprocess, net.class_names, net.target_layer = lambda _image: X[0], ["score"], "f"
    bench = Bench(net, Image.new("RGB", (24, 24)))
    for method in ("grad_cam", "score_cam"):
        lower, higher = bench.explain(method, "lower"), bench.explain(method, "higher")
        right = explain(Negative(net), X[:1], 0, method, "net.f")
        assert torch.allclose(lower.weights, right.weights[method][0], atol=1e-5)
        assert torch.allclose(higher.map, bench.explain(method, 0).map, atol=1e-6)
    begin = bench.curves("score_cam", "lower").insertion_curve[0, -1]
    assert float(begin) == pytest.approx(float((-net(X[:1])).sigmoid()), abs=1e-5)
