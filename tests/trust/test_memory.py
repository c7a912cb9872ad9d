"""No copy of a network, no graph, and no batch of images larger than the stated bound is left or made."""

from __future__ import annotations

import copy
import gc
import threading
import weakref

import campanion
import pytest
import torch
from campanion import explain
from campanion.inference import fast, images_at_once, shared_copy
from campanion.metrics import confidence, insertion_deletion
from nets import Net, net, random_images
from torch import Tensor, nn

QUICK = {"orderings": 4, "sizes": (24, 30), "masks": 16, "samples": 8, "steps": 4, "segments": 4, "groups": 4}
METHODS = [name for name in campanion.METHODS if name not in ("abn", "lfi_cam", "cam")]


def asked(name: str) -> dict[str, object]:
    return {option: value for option, value in QUICK.items() if option in campanion.METHODS[name].options}


class Keeper(Net):
    """Keeps a lock, and its last features."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.lock, self.fc = threading.Lock(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        self.features = self.target(self.stem(x)).mean((2, 3))
        return self.fc(self.features)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", METHODS)
def test_nothing_outlives_a_call(method: str) -> None:
    """Without the garbage collector: the network dies with its last name, and keeps no graph while it lives."""
    name = "linear" if method == "cameras" else "mlp"  # images of other sizes
    model, images = net(name, dtype=torch.float32), random_images(1, dtype=torch.float32)
    explain(model, images, 1, method, **asked(method))  # imports of the first call
    gc.collect()
    gc.disable()
    try:
        explain(model, images, 1, method, **asked(method))
        assert not [v for m in model.modules() for v in vars(m).values() if isinstance(v, Tensor)]
        dead = [weakref.ref(p) for p in model.modules()]
        del model
        assert not [ref for ref in dead if ref() is not None]
    finally:
        gc.enable()


@pytest.mark.parametrize("methods", [("grad_cam",), ("score_cam",), ("integrated_gradients", "group_cam"), ("xrai",)])
def test_locks_and_kept_features_are_no_hindrance_and_keep_no_graph(methods: tuple[str, ...]) -> None:
    model, images = Keeper().eval(), random_images(1, dtype=torch.float32)
    twin = Keeper().eval()
    del twin.lock
    e = explain(model, images, 1, methods)
    assert torch.allclose(e.maps[methods[-1]], explain(twin, images, 1, methods[-1]).maps[methods[-1]], atol=1e-5)
    assert model.features.grad_fn is None
    copy.deepcopy(twin)  # as it was possible before
    curves = insertion_deletion(model, images, e.maps[methods[-1]], torch.tensor([1]), step=144)
    assert curves.insertion.isfinite().all()
    assert confidence(model, images, e.maps[methods[-1]], torch.tensor([1])).original.isfinite().all()


def test_a_copy_shares_every_tensor_and_leaves_the_networks_own() -> None:
    model = net("convolutions").train()
    copied = shared_copy(model)
    assert {p.data_ptr() for p in copied.parameters()} == {p.data_ptr() for p in model.parameters()}
    assert not any(m.training for m in copied.modules())
    assert all(m.training for m in model.modules())
    copied.fc.weight = nn.Parameter(torch.zeros_like(copied.fc.weight))
    assert model.fc.weight.abs().sum() > 0


def test_a_patched_forward_is_run_and_not_copied() -> None:
    model, images = net("linear"), random_images()
    inner = model.tail[2].forward
    model.tail[2].forward = lambda x: inner(x) / 3
    network = fast(model)
    for _ in range(3):
        assert torch.equal(network(images), model(images))


@pytest.mark.parametrize(("side", "at_once"), [(24, 16), (224, 16), (448, 4), (1024, 1), (4000, 1)])
def test_pixels_are_counted_and_not_images(side: int, at_once: int) -> None:
    images = torch.empty(1, 1).expand(1, 3, side, side)
    assert images_at_once(images) == at_once
    few, many = nn.Linear(1000, 1000, device="meta"), nn.Linear(10_000, 10_000, device="meta")
    assert images_at_once(images, many) == at_once
    assert images_at_once(images, few) == max(1, 6 * at_once // 16)


class Counting(nn.Module):
    """Says how many pixels it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.target, self.fc, self.most = nn.Conv2d(3, 6, 3, 8), nn.ReLU(), nn.Linear(6, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.most = max(self.most, x.shape[0] * x.shape[2] * x.shape[3])
        return self.fc(self.target(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize("method", ["score_cam", "group_cam", "rise", "smooth_grad", "integrated_gradients", "lime"])
def test_masked_batches_of_large_images_stay_below_the_bound(method: str) -> None:
    model, images = Counting().eval(), torch.rand(1, 3, 640, 640)
    seen = []
    model.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].shape[0]))
    explain(model, images, 1, method, layer="target", **asked(method))
    assert max(seen) <= 4  # 2 x 640 x 640 pixels are as many as 16 x 224 x 224; gradients on the way take twice as many
