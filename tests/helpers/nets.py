"""Tiny random networks with 8 channels at the layer ``target``, one for every kind of head, and plain loops over them.

Images are 3 x 24 x 24; the target layer gives 8 maps of 6 x 6.
"""

from __future__ import annotations

from itertools import product
from math import factorial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS, CLASSES = 8, 5


class Net(nn.Module):
    """A trunk of one convolution, then whatever ``tail`` is."""

    target_layer = "target"

    def __init__(self, *tail: nn.Module, last: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, stride=4, padding=1)
        self.target = last()
        self.tail = nn.Sequential(*tail)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.target(self.stem(x)))


class VGGLike(Net):
    """Written the old way: view, in-place and functional ReLU, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.relu, self.drop = nn.MaxPool2d(2), nn.ReLU(inplace=True), nn.Dropout()
        self.fc1, self.fc2, self.fc3 = nn.Linear(CHANNELS * 9, 16), nn.Linear(16, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.target(self.stem(x)))
        x = self.drop(self.relu(self.fc1(x.view(x.size(0), -1))))
        return self.fc3(F.dropout(F.relu(self.fc2(x)), training=self.training))


class LeNetLike(VGGLike):
    """The flattening of the old tutorials, and a batch size asked for at the start."""

    def forward(self, x: Tensor) -> Tensor:
        batch = x.size(0)
        x = self.pool(self.target(self.stem(x))).view(-1, CHANNELS * 9).view(batch, -1)
        return self.fc3(torch.relu(self.fc2(F.relu(self.fc1(x)))))


class Convolutions(Net):
    """More convolutions after the target, with one in-place ReLU used again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv1, self.conv2 = nn.Conv2d(CHANNELS, 6, 3), nn.Conv2d(6, 7, 3)
        self.fc = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.relu(self.conv1(self.target(self.stem(x))))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Residual(Convolutions):
    """A residual block after the target, added in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.stem(x))
        out = self.norm(self.conv1(x))
        out += x
        return self.fc(self.relu(out).mean((2, 3)))


class Around(Residual):
    """A connection that goes around the target layer."""

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        return self.fc((self.norm(self.conv1(self.target(first))) + first.tanh()).relu().mean((2, 3)))


class Branches(Residual):
    """Control flow that depends on the data."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.stem(x))
        if x.amin() >= 0:
            x = self.conv1(x).relu()
        return self.fc(x.mean((2, 3)))


class Aliases(Residual):
    """In-place changes that are read under another name, and one whose result is not read at all."""

    def __init__(self, unread: bool) -> None:
        super().__init__()
        self.unread = unread

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.stem(x))
        if self.unread:
            x.sub_(0.2)
            return self.fc(x.mean((2, 3)))
        before = x
        x += 0.3
        return self.fc((x + before).tanh().mean((2, 3)))


class Positions(Net):
    """Pixels as rows: a reshape that is not a flattening, and a layer that takes two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.both = nn.Linear(CHANNELS, 6), nn.Bilinear(6, 6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.stem(x))
        n, _, h, w = x.shape
        rows = self.mix(x.permute(0, 2, 3, 1).reshape(-1, CHANNELS)).relu()
        rows = rows.view(n, h * w, 6).mean(1)
        return self.both(rows, rows.tanh())


def _norm(width: int, kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    norm = kind(width)
    for value in (norm.running_mean, norm.weight.data, norm.bias.data):
        value.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    return norm


def _half_active(conv: nn.Conv2d) -> nn.Conv2d:
    """With random biases alone, a class may have no pixel that passes the ReLU after it."""
    conv.weight.data.mul_(3)
    conv.bias.data.fill_(0.1)
    return conv


def _pooled(*more: nn.Module) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), *more


# name -> (builder, kind of head that it must be recognised as)
NETS = {
    "linear": (lambda: Net(*_pooled(nn.Linear(8, CLASSES))), "linear"),
    "linear_flat": (lambda: Net(nn.MaxPool2d(3), nn.Flatten(), nn.Linear(32, CLASSES, bias=False)), "linear"),
    "linear_norm": (lambda: Net(_norm(8), nn.Sigmoid(), *_pooled(nn.Dropout(), nn.Linear(8, CLASSES))), "linear"),
    "linear_in_place": (
        lambda: Net(nn.ReLU(inplace=True), *_pooled(nn.Linear(8, CLASSES)), last=nn.Identity),
        "linear",
    ),
    "mlp": (VGGLike, "mlp"),
    "mlp_view": (LeNetLike, "mlp"),
    "mlp_norm": (
        lambda: Net(
            _norm(8), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 16), _norm(16, nn.BatchNorm1d),
            nn.Tanh(), nn.Linear(16, CLASSES), last=nn.Identity,
        ),
        "mlp",
    ),
    "pixel": (
        lambda: Net(nn.Dropout(), _half_active(nn.Conv2d(8, CLASSES, 1)), nn.ReLU(inplace=True), *_pooled()),
        "pixel",
    ),
    "pixel_norm": (
        lambda: Net(_norm(8), nn.Sigmoid(), nn.Conv2d(8, CLASSES, 1, bias=False), nn.Softplus(), nn.ELU(), *_pooled()),
        "pixel",
    ),
    "convolutions": (Convolutions, "generic"),
    "residual": (Residual, "generic"),
    "around": (Around, "generic"),
    "branches": (Branches, "generic"),
    "aliases": (lambda: Aliases(unread=False), "generic"),
    "unread": (lambda: Aliases(unread=True), "linear"),
    "positions": (Positions, "generic"),
}  # fmt: skip


def net(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The network ``name`` with random weights, in eval mode."""
    torch.manual_seed(seed)
    return NETS[name][0]().to(dtype).eval()


def random_images(count: int = 2, size: int = 24, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random images [count, 3, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64).to(dtype)


def masked_logits(model: nn.Module, image: Tensor, rows: Tensor, layer: str = "target") -> Tensor:
    """Logits [M, C] of the whole network, run on ``image`` once for every 0/1 row that masks the layer's channels."""
    out = []
    for row in rows:
        mask = row.to(image.dtype)[None, :, None, None]
        handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, output, mask=mask: output * mask)
        with torch.no_grad():
            out.append(model(image[None])[0])
        handle.remove()
    return torch.stack(out)


def all_coalitions() -> Tensor:
    """All 2^8 coalitions, bool [256, 8]."""
    return torch.tensor(list(product([False, True], repeat=CHANNELS)))


def shapley_of(values: Tensor) -> Tensor:
    """Exact Shapley values [8] from v of :func:`all_coalitions`, by the definition."""
    table = dict(zip(map(tuple, all_coalitions().int().tolist()), values.tolist(), strict=True))
    phi = torch.zeros(CHANNELS, dtype=torch.float64)
    for coalition, value in table.items():
        size = sum(coalition)
        for k in range(CHANNELS):
            if not coalition[k]:
                with_k = table[(*coalition[:k], 1, *coalition[k + 1 :])]
                phi[k] += factorial(size) * factorial(CHANNELS - size - 1) / factorial(CHANNELS) * (with_k - value)
    return phi


def slope(network: nn.Module, images: Tensor, target: int, layer: str = "target") -> Tensor:
    """Autograd's, by what a hook puts in the place of the layer's output."""
    kept = []

    def hold(_module: object, _inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().clone().requires_grad_(True))
        with torch.enable_grad():  # the trunk may run without
            return kept[0].clone()

    handle = network.get_submodule(layer).register_forward_hook(hold)
    logits = network(images.clone())
    handle.remove()
    return torch.autograd.grad(logits[:, target].sum(), kept[0])[0]


class Straight(torch.autograd.Function):
    """A ReLU whose gradient its author defines."""

    @staticmethod
    def forward(_context: object, x: Tensor) -> Tensor:
        return x.relu()

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        return 3 * gradient.clamp_min(0)
