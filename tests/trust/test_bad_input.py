"""Whatever comes in, a map without NaN comes out or one sentence of our own: 1,000 drawn cases, the same every time."""

from __future__ import annotations

import numpy as np
import torch
from campanion import METHODS, explain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor, nn

CLASSES = 3
PICKY = {"cam", "lift_cam", "lrp_cam", "lfi_cam", "abn"}  # not for every network
QUICK = {"orderings": 2, "sizes": (8, 12), "masks": 4, "samples": 4, "steps": 2, "segments": 3, "groups": 3}


class Cnn(nn.Module):
    """8 x 8 images, ``channels`` maps of ``grid`` at ``target``, one of several heads."""

    target_layer = "target"

    def __init__(self, channels: int, grid: tuple[int, int], head: str, in_place: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.act = nn.ReLU(inplace=in_place)  # one module, used twice by the head "shared"
        self.target = nn.AdaptiveAvgPool2d(grid)
        self.kind = head
        self.conv = nn.Conv2d(channels, channels, 1)
        self.fc1, self.fc2 = nn.Linear(channels, 4), nn.Linear(4, CLASSES)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.act(self.stem(x)))
        if self.kind == "shared":
            x = self.act(self.conv(self.act(self.conv(x))))
        if self.kind == "branch" and float(x.detach().sum()) > 0:
            x = self.conv(x)
        x = x.mean((2, 3))
        return self.fc2(self.fc1(x).relu()) if self.kind == "mlp" else self.fc(x)


def cnn(channels: int, grid: tuple[int, int], head: str, in_place: bool, dtype: torch.dtype) -> Cnn:
    torch.manual_seed(channels)
    return Cnn(channels, grid, head, in_place).to(dtype).eval()


NETS = st.builds(
    cnn,
    st.sampled_from([1, 2, 5]),
    st.sampled_from([(1, 1), (1, 3), (4, 4)]),
    st.sampled_from(["linear", "mlp", "shared", "branch"]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
METHOD = st.sampled_from([m for m in METHODS if m not in ("xrai", "lime")])


def options(method: str) -> dict[str, object]:
    return {name: value for name, value in QUICK.items() if name in METHODS[method].options}


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(NETS, METHOD, st.sampled_from([(8, 8), (5, 11), (8, 3)]), st.integers(1, 3), st.data())
def test_strange_networks_and_images(
    model: Cnn, method: str, size: tuple[int, int], count: int, data: st.DataObject
) -> None:
    dtype = model.fc.weight.dtype
    images = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(count)).to(dtype)
    trouble = data.draw(st.sampled_from(["none", "constant", "zero", "huge", "tiny", "nan", "inf", "dead", "hooks"]))
    if trouble == "constant":
        images[0] = 1.5
    elif trouble in ("zero", "huge", "tiny"):
        images *= {"zero": 0.0, "huge": 1e30 if dtype.itemsize > 2 else 1e4, "tiny": 1e-7}[trouble]
    elif trouble in ("nan", "inf"):
        images[-1, 0, 0, 0] = float(trouble)
    elif trouble == "dead":
        with torch.no_grad():
            model.stem.bias.fill_(-1e4)
    calls = []
    if trouble == "hooks":
        model.act.register_forward_hook(lambda _m, _i, out: calls.append(out.shape))
        model.target.register_forward_hook(lambda _m, _i, out: out * 1.0)
        model.fc.register_full_backward_hook(lambda *_: calls.append("back"))
    found, sentence = refused(lambda: explain(model, images, None, method, **options(method)))
    if trouble in ("nan", "inf"):
        assert "NaN or infinite" in sentence
    elif found is None:
        assert method in PICKY
    else:
        maps, flagged = found.maps[method], found.degenerate[method]
        assert maps.shape == (count, *size)
        assert bool(((maps >= 0) & (maps <= 1)).all())  # also refuses NaN
        assert torch.equal(maps.flatten(1).amax(1) == 0, flagged)


LINEAR = cnn(2, (4, 4), "linear", False, torch.float32)
IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
STRANGE = st.sampled_from(
    [None, -1, 0, 1, 2, 3, 10**30, 1.0, float("nan"), True, "cat", "", b"1", [], [0], [0, 1], [0, 1, 2], [[0, 1]],
     [0.0, 1.0], [None, 1], ["a", "b"], {}, {0: 1}, np.int64(1), np.array([0, 1]), np.array([0.5, 1]),
     np.array(["a", "b"]), torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), torch.tensor([[0, 1]]), torch.tensor([]),
     torch.tensor([True, False]), torch.tensor([1j, 1]), object(), int, lambda x: x, range(2), (0, 1), slice(2)]
)  # fmt: skip
GIVEN = st.sampled_from(["images", "targets", "methods", "layer", "model", "option"])


def everything() -> dict[str, object]:
    return {"model": LINEAR, "images": IMAGES, "targets": [0, 1], "methods": ("grad_cam", "fd_cam")}


@settings(max_examples=200, derandomize=True, deadline=None)
@given(GIVEN, STRANGE)
def test_arguments_of_any_type(name: str, value: object) -> None:
    arguments = everything() | ({"percentile": value} if name == "option" else {name: value})
    found, _ = refused(lambda: explain(**arguments))
    if found is not None:
        assert all(bool(maps.isfinite().all()) for maps in found.maps.values())


OPTIONS = sorted({(m, o) for m in METHODS if m not in ("xrai", "abn", "lfi_cam") for o in METHODS[m].options})


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.sampled_from(OPTIONS), STRANGE)
def test_options_of_any_type(option: tuple[str, str], value: object) -> None:
    method, name = option
    arguments = everything() | {"methods": method, **options(method), name: value}
    found, _ = refused(lambda: explain(**arguments))
    if found is not None:
        assert bool(found.maps[method].isfinite().all())
