"""The contract of ``explain``: what it returns, what it refuses, and what it leaves behind (nothing)."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from campanion import METHODS, Explanation, explain
from campanion.cams import explain_game
from campanion.game.game import ChannelGame
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import CLASSES, net, random_images
from torch import Tensor, nn

QUICK = {"orderings": 4, "sizes": (24, 28), "masks": 8, "samples": 8, "steps": 4, "segments": 6}
KINDS = ["linear", "mlp", "pixel", "convolutions", "branches"]
SLOW = {"xrai"}
LEARNED = {"lfi_cam", "abn"}  # of networks that make a map of their own: test_lfi.py, test_abn.py


def methods_for(kind: str) -> list[str]:
    missing = {"branches": {"cam", "lift_cam", "lrp_cam"}, "linear": set()}.get(kind, {"cam"})
    return [m for m in METHODS if m not in missing | SLOW | LEARNED]


def quick(methods: list[str]) -> dict:
    known = {option for m in methods for option in METHODS[m].options}
    return {k: v for k, v in QUICK.items() if k in known}


def run(
    model: nn.Module, images: Tensor, targets: object = None, methods: list[str] = (), **more: object
) -> Explanation:
    return explain(model, images, targets, methods, **quick(methods), **more)


def check(e: Explanation, count: int, size: tuple[int, int]) -> None:
    """What holds for every map: range, size, no NaN, zeros where (and only where) it is flagged as degenerate."""
    for method, maps in e.maps.items():
        assert maps.shape == (count, *size), method
        assert not maps.isnan().any(), method
        assert maps.amin() >= 0, method
        assert maps.amax() <= 1, method
        flagged = e.degenerate[method]
        assert torch.equal(maps.amax((1, 2)) == 0, flagged), method
        assert (maps.amin((1, 2)) == 0).all(), method
        assert (maps.amax((1, 2))[~flagged] == 1).all(), method
        assert not e.raw[method].isnan().any(), method
        assert not e.raw[method].requires_grad, method
        assert e.seconds[method] >= 0
    for method, weights in e.weights.items():
        assert METHODS[method].gives == "weights"
        assert weights.isfinite().all(), method


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_as_it_was(kind: str) -> None:
    model, images = net(kind), random_images()
    model.train()
    model.target.eval()
    for i, p in enumerate(model.parameters()):
        p.requires_grad_(i % 2 == 0)
    seen = []
    model.target.register_forward_hook(lambda _m, _i, out: seen.append(out.shape))
    model.stem.weight.grad = torch.ones_like(model.stem.weight)

    def facts() -> tuple:
        hooks = [(dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks)) for m in model.modules()]
        grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
        return hooks, flags, [g is not None and float(g.sum()) for g in grads], list(vars(model))

    before, state, kept = facts(), copy.deepcopy(model.state_dict()), images.clone()
    check(run(model, images, [1, 3], methods_for(kind)), 2, (24, 24))
    assert facts() == before
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(images, kept)
    assert not images.requires_grad
    assert seen  # and the user's hook is still there


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_networks_and_callers_without_gradients(kind: str) -> None:
    model, images, methods = net(kind), random_images(), methods_for(kind)
    expected = run(model, images, 1, methods)
    model.requires_grad_(False)
    with torch.no_grad():
        frozen = run(model, images, 1, methods)
    with torch.inference_mode():
        inferred = run(model, images + 0, torch.tensor([1, 1]), methods)
    for method in methods:
        assert torch.allclose(frozen.maps[method], expected.maps[method], atol=1e-9), method
        assert torch.allclose(inferred.maps[method], expected.maps[method], atol=1e-9), method


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_images_one_by_one(kind: str) -> None:
    model, images, methods, targets = net(kind), random_images(3), methods_for(kind), [0, 3, 1]

    def seeded(some: Tensor, target: list[int]) -> dict[str, Tensor]:
        maps = run(model, some, target, methods).maps
        for method in methods:
            if "generator" in METHODS[method].options:
                generator = torch.Generator().manual_seed(3)
                maps[method + " seeded"] = run(model, some, target, [method], generator=generator).maps[method]
        return maps

    together = seeded(images, targets)
    for b in range(3):
        for method, maps in seeded(images[b : b + 1], targets[b : b + 1]).items():
            assert torch.allclose(maps[0], together[method][b], atol=1e-7), method


def test_the_trunk_runs_once_and_the_head_backwards_once() -> None:
    model, images, forwards = net("mlp"), random_images(), []
    model.stem.register_forward_hook(lambda *_: forwards.append(1))
    methods = ["grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam", "ablation_cam", "fd_cam", "lift_cam", "shap_cam"]
    e = run(model, images, None, methods)
    assert len(forwards) == 1
    assert e.targets.tolist() == model(images).argmax(1).tolist()
    assert torch.allclose(e.scores, model(images).amax(1))
    assert list(e.maps) == list(e.raw) == list(e.degenerate) == list(e.seconds) == methods
    forwards.clear()
    game = ChannelGame.of(model, images)
    for target in range(CLASSES):
        again = explain_game(game, target, ["grad_cam", "fd_cam"], {"fd_cam": {"percentile": 20.0}})
        assert torch.equal(again.maps["grad_cam"], explain(model, images, target, "grad_cam").maps["grad_cam"])
    assert len(forwards) == 1 + CLASSES


class Tiny(nn.Module):
    """``channels`` maps of a chosen size and range, and a linear or deep head."""

    def __init__(self, channels: int, maps: int, deep: bool, signed: bool) -> None:
        super().__init__()
        self.target = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.Identity() if signed else nn.ReLU(), nn.AdaptiveAvgPool2d(maps)
        )
        head = (nn.Linear(channels, 6), nn.ReLU(), nn.Linear(6, 3)) if deep else (nn.Linear(channels, 3),)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.target(x))


@given(
    st.sampled_from([1, 2, 5, 40]), st.sampled_from([1, 2, 7]), st.booleans(), st.booleans(),
    st.sampled_from(["noise", "constant", "dead", "lowered", "huge", "tiny"]), st.sampled_from([(16, 16), (19, 33)]),
    st.integers(0, 5),
)  # fmt: skip
@settings(max_examples=16, deadline=None, derandomize=True)
def test_never_nan(
    channels: int, maps: int, deep: bool, signed: bool, trouble: str, size: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    model, images = Tiny(channels, maps, deep, signed).eval(), torch.randn(2, 3, *size)
    scale = {"huge": 1e12, "tiny": 1e-20}.get(trouble, 1.0)
    with torch.no_grad():
        if trouble == "constant":
            images[0] = 1.5
        if trouble == "dead":
            model.target[0].weight.zero_()
            model.target[0].bias.fill_(-1)
        if trouble == "lowered":
            model.head[-1].bias.fill_(-100)
        model.head[-1].weight.mul_(scale)
    methods = [m for m in methods_for("mlp" if deep else "linear") if m != "lime"] + (["lime"] if seed == 0 else [])
    e = run(model, images, None, methods, layer="target")
    check(e, 2, size)
    if maps == 1:
        assert e.degenerate["grad_cam"].all()  # one number is no map, however enlarging rounds it
        assert e.degenerate["fd_cam"].all()
    if trouble == "dead" and not signed:
        assert all(e.degenerate[m].all() for m in ("grad_cam", "lift_cam", "fd_cam", "score_cam", "group_cam"))


def test_xrai_of_a_constant_image(recwarn: pytest.WarningsRecorder) -> None:
    images = random_images(2, dtype=torch.float32)
    images[0] = 1.5
    e = explain(net("mlp", dtype=torch.float32), images, 1, "xrai")
    check(e, 2, (24, 24))
    assert e.degenerate["xrai"].tolist() == [True, False]
    assert not [str(w.message) for w in recwarn]


def test_targets_and_layers_of_every_form() -> None:
    model, images = net("mlp"), random_images()
    expected = explain(model, images, [2, 2], "grad_cam")
    for target in (2, torch.tensor(2), torch.tensor([2, 2]), (2, 2)):
        assert torch.equal(explain(model, images, target, "grad_cam").maps["grad_cam"], expected.maps["grad_cam"])
    for layer in ("target", model.target):
        found = explain(model, images, 2, "grad_cam", layer=layer)
        assert torch.equal(found.maps["grad_cam"], expected.maps["grad_cam"])
    assert explain(model, images, 2, "grad_cam", layer="stem").raw["grad_cam"].shape == (2, 6, 6)
    assert explain(model, images, 2, "grad_cam", layer="pool").raw["grad_cam"].shape == (2, 3, 3)
    assert explain(model, images).maps.keys() == {"fd_cam", "lift_cam"}


def test_importing_what_every_notebook_imports_brings_no_library_that_only_some_methods_call():
    code = (
        "import sys; from campanion import explain; from campanion.report import figures; "
        "from campanion.experiments import faithfulness, gallery; "
        "print(sorted({'captum', 'saliency', 'scipy', 'skimage.segmentation', 'sklearn'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
