"""Where the channels of a layer's output are: recognised, told, or refused."""

from __future__ import annotations

import pytest
import torch
import torchvision
from campanion import explain
from campanion.explorer.bench import Bench
from campanion.game import ChannelGame
from PIL import Image
from torch import Tensor, nn

LIKE = {"layer_cam", "grad_cam", "fd_cam", "ablation_cam", "score_cam"}


class Net(nn.Module):
    """A CNN whose ``target`` gets the maps in the given order of dimensions, and gives them back."""

    def __init__(self, order: str, stride: tuple[int, int] = (4, 4), channels: int = 6, reader: str = "norm") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.order, self.reader = order, reader
        self.stem, self.target = nn.Conv2d(3, channels, stride, stride), nn.Identity()
        self.norm, self.fc = nn.LayerNorm(channels), nn.Linear(channels, 4)
        self.conv = nn.Conv2d(channels, channels, 1)
        self.cls = nn.Parameter(torch.randn(1, 2, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        if self.order == "last":
            x = self.target(x.permute(0, 2, 3, 1))
            return self.fc((self.norm(x) if self.reader == "norm" else x.sigmoid()).mean((1, 2)))
        if self.order == "tokens":
            x = self.target(torch.cat([self.cls.expand(len(x), -1, -1), x.flatten(2).mT], 1))
            return self.fc(self.norm(x[:, 2:] * x[:, :1].sigmoid()).mean(1))
        if self.order == "tokens, first":  # the same network with its maps in their usual place
            x = self.target(x).flatten(2).mT
            return self.fc(self.norm(x * self.cls[:, :1].sigmoid()).mean(1))
        x = self.target(x)
        if self.reader == "norm":
            x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        read = {"mean": torch.sigmoid, "conv": self.conv}.get(self.reader, lambda x: x)(x)
        return self.fc((read[..., 1:] if self.reader == "none" else read).mean((2, 3)))


def equal(a: nn.Module, b: nn.Module, images: Tensor, **options: object) -> None:
    assert torch.allclose(a(images), b(images), atol=1e-6)
    found, right = explain(a, images, 1, LIKE, "target", **options), explain(b, images, 1, LIKE, "target")
    for name in LIKE:
        assert torch.allclose(found.raw[name], right.raw[name], atol=1e-5), name
        assert torch.allclose(found.maps[name], right.maps[name], atol=1e-4), name


@pytest.mark.parametrize("size", [(24, 24), (24, 40), (20, 28)])
@pytest.mark.parametrize("reader", ["norm", "mean"])
def test_channels_last_are_found_from_sizes_and_from_what_reads_them(size, reader):
    equal(Net("last", reader=reader).eval(), Net("first", reader=reader).eval(), torch.randn(2, 3, *size))


@pytest.mark.parametrize("size", [(24, 24), (24, 40), (20, 28)])
def test_tokens_are_found_with_their_class_tokens(size):
    equal(Net("tokens").eval(), Net("tokens, first").eval(), torch.randn(2, 3, *size))
    grid = (size[0] // 4, size[1] // 4)
    equal(Net("tokens").eval(), Net("tokens, first").eval(), torch.randn(2, 3, *size), layout=grid)


def test_as_many_channels_as_rows_is_no_trap():
    images = torch.randn(2, 3, 24, 24)
    for order in ("first", "last"):  # [B, 6, 6, 6]: the norm behind the layer, or a convolution, decides
        game = ChannelGame.of(Net(order).eval(), images, "target")
        assert game.played.placed.kind == f"channels_{order}"
    assert ChannelGame.of(Net("first", reader="conv").eval(), images, "target").played.placed.kind == "channels_first"


def test_unlike_strides_stay_where_the_network_reads_them():
    images = torch.randn(1, 3, 64, 64)  # [B, 16, 16, 4]: rows by 4, columns by 16, and as many channels as rows
    net = Net("first", (4, 16), 16, "conv").eval()
    assert ChannelGame.of(net, images, "target").played.placed.kind == "channels_first"
    with pytest.raises(ValueError, match="where are its channels"):
        explain(Net("first", (4, 16), 7, "none").eval(), images, 1, "grad_cam", "target")
    e = explain(Net("first", (4, 16), 7, "none").eval(), images, 1, "grad_cam", "target", layout="channels_first")
    assert e.raw["grad_cam"].shape == (1, 16, 4)


def test_windows_and_unknown_layouts_are_refused():
    net, images = torchvision.models.vit_b_32(num_classes=3).eval(), torch.randn(1, 3, 224, 224)
    nn.init.normal_(net.heads.head.weight)
    for layer in ("encoder.layers.encoder_layer_11", "encoder.ln"):
        with pytest.raises(ValueError, match="only on its class token"):
            explain(net, images, 1, "grad_cam", layer)
    with pytest.raises(ValueError, match="layout must be one of"):
        explain(net, images, 1, "grad_cam", layout="rows")
    with pytest.raises(ValueError, match="its layout is 'tokens'"):
        explain(net, images, 1, "grad_cam", layout="channels_last")
    with pytest.raises(ValueError, match="no grid of tokens"):
        explain(net, images, 1, "grad_cam", layout=(90, 90))
    with pytest.raises(ValueError, match="a map needs one tensor"):
        explain(net, images, 1, "grad_cam", "heads")


def test_the_explorer_offers_layers_of_every_layout():
    net = torchvision.models.swin_t(num_classes=3).eval()
    net.preprocess, net.class_names, net.target_layer = lambda _image: torch.randn(3, 64, 64), ["a", "b", "c"], "norm"
    bench = Bench(net, Image.new("RGB", (64, 64)))
    assert {"norm", "features", "features.5"} <= set(bench.layers())
    assert "head" not in bench.layers()
    assert bench.explain("grad_cam").map.shape == (64, 64)


class Tokens(nn.Module):
    """Patches of any size and stride as tokens, with class tokens before or behind them, mixed by attention."""

    def __init__(self, patch: tuple[int, int], stride: tuple[int, int], before: int = 0, behind: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.target = nn.Conv2d(3, 12, patch, stride), nn.LayerNorm(12)
        self.tokens, self.before = nn.Parameter(torch.randn(1, before + behind, 12)), before
        self.mix, self.fc, self.last = nn.MultiheadAttention(12, 2, batch_first=True), nn.Linear(12, 4), bool(behind)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokens.expand(len(x), -1, -1)
        x = torch.cat([tokens[:, : self.before], self.stem(x).flatten(2).mT, tokens[:, self.before :]], 1)
        x = self.target(x)
        return self.fc((x + self.mix(x, x, x, need_weights=False)[0])[:, -1 if self.last else 0])


@pytest.mark.parametrize(
    ("patch", "stride", "before", "grid"),
    [
        ((8, 8), (4, 4), 0, (5, 5)),
        ((8, 8), (4, 4), 1, (5, 5)),
        ((4, 8), (4, 8), 0, (6, 3)),
        ((12, 12),) * 2 + (5, (2, 2)),
    ],
)
def test_the_grid_is_that_of_the_networks_own_patches(patch, stride, before, grid):
    """Overlapping patches, oblong ones, and more class tokens than patches: square patches would fit some other way."""
    net, images = Tokens(patch, stride, before).double().eval(), torch.randn(2, 3, 24, 24).double()
    e, kept = explain(net, images, 1, "grad_cam", "target"), []
    handle = net.target.register_forward_hook(lambda _m, _i, output: kept.append(output))
    logits = net(images)
    handle.remove()
    slope = torch.autograd.grad(logits[:, 1].sum(), kept[0])[0][:, before:]
    assert e.raw["grad_cam"].shape[1:] == grid
    assert torch.allclose(e.weights["grad_cam"], slope.mean(1), atol=1e-10)


def test_a_class_token_behind_the_patches_is_refused():
    with pytest.raises(ValueError, match="class token last"):
        explain(Tokens((4, 4), (4, 4), behind=1), torch.randn(1, 3, 24, 24), 1, "grad_cam", "target")


READERS = {
    "movedim": lambda x: x.movedim(-1, 1).mean((2, 3)),
    "rows": lambda x: x.reshape(len(x), -1, x.shape[3]).mean(1),
    "flatten": lambda x: x.flatten(1, 2).mean(1),
    "product": lambda x: (x @ nn.Parameter(torch.eye(8).double())).mean((1, 2)),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_cube_is_read_as_the_network_reads_it(reader, caplog):
    """[B, 8, 8, 8]: sizes say nothing."""
    images, net = torch.randn(1, 3, 32, 32).double(), Net("last", channels=8).double().eval()
    net.forward = lambda x: net.fc(READERS[reader](net.target(net.stem(x).relu().permute(0, 2, 3, 1))))
    game = ChannelGame.of(net, images, "target")
    assert game.played.placed.kind == "channels_last"
    assert torch.allclose(game.activations, net.stem(images).relu())
    net.forward = lambda x: net.fc(net.target(net.stem(x).relu()).flatten(2).mean(2))
    assert ChannelGame.of(net, images, "target").played.placed.kind == "channels_first"
    assert not caplog.messages
    net.forward = lambda x: net.fc(net.target(net.stem(x).relu())[:, :, ::2, ::2].mean((2, 3)))
    explain(net, images, 1, "grad_cam", "target")
    assert "layout='channels_last'" in caplog.text
