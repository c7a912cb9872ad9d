"""LFI-CAM: sizes, every generation against a plain implementation channel by channel, gradients, dead channels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from campanion import explain
from campanion.experiments.learned import config_of
from campanion.game.game import ChannelGame
from campanion.models import build_model
from campanion.models.lfi import GENERATIONS, LFICAM
from campanion.models.load import load_trained
from campanion.models.network import Backbone
from campanion.training.loop import train
from campanion.training.settings import difference, make_config
from nets import masked_logits, random_images
from torch import Tensor, nn
from torch.nn import functional as F

# Millions of parameters with 1000 classes: the paper's Table 3, to three decimals, and the published code.
SIZES = {
    "table3": {"resnet18": 17.471, "resnet34": 29.940, "resnet50": 43.047, "resnet101": 62.039, "resnet152": 77.683},
    "published": {
        "resnet18": 21.131, "resnet34": 31.239, "resnet50": 176.568, "resnet101": 195.560, "resnet152": 211.204,
    },
}  # fmt: skip
CIFAR_SIZES = {
    ("resnet110", "published"): 4.065, ("resnet20", "published"): 0.420,
    ("resnet110", "table3"): 2.529, ("resnet20", "table3"): 0.404,
}  # fmt: skip


def millions(*args: object, **more: object) -> float:
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(*args, **more).parameters()) / 1e6


def tiny(generation: str, dtype: torch.dtype = torch.float64) -> LFICAM:
    """ResNet20 with 5 classes and batch norms that have seen images, in eval mode."""
    network = build_model("resnet20", "lfi", generation, num_classes=5, seed=2).to(dtype)
    with torch.no_grad():
        for seed in range(4):
            network(random_images(8, 16, seed, dtype))
    return network.eval()


@pytest.mark.parametrize("generation", SIZES)
def test_sizes_with_the_imagenet_stem(generation: str) -> None:
    assert {n: round(millions(n, "lfi", generation), 3) for n in SIZES[generation]} == SIZES[generation]


@pytest.mark.parametrize("generation", ["published", "paper"])
def test_the_supplements_fin_alone_is_151_million_for_resnet50(generation: str) -> None:
    # four times a 3x3 convolution of 2048 channels and its batch norm
    assert millions("resnet50", "lfi", generation) - millions("resnet50") == pytest.approx(
        4 * (2048 * 2048 * 9 + 2 * 2048) / 1e6
    )


@pytest.mark.parametrize(("name", "generation"), CIFAR_SIZES)
def test_sizes_with_the_cifar_stem(name: str, generation: str) -> None:
    found = millions(name, "lfi", generation, stem="cifar", num_classes=10)
    assert found == pytest.approx(CIFAR_SIZES[name, generation], abs=6e-4)


@pytest.mark.parametrize(
    ("name", "generation", "stem", "shape"),
    [
        ("resnet18", "paper", "imagenet", (512, 14)), ("resnet18", "published", "imagenet", (512, 14)),
        ("seresnet50", "table3", "imagenet", (1024, 14)), ("densenet121", "paper", "imagenet", (1024, 14)),
        ("resnet44", "paper", "cifar", (256, 8)), ("resnet44", "table3", "cifar", (128, 16)),
        ("densenet100", "published", "cifar", (342, 8)), ("resnext29_8x64d", "paper", "cifar", (1024, 8)),
        ("resnet18", "paper", "cifar", (512, 4)),
    ],
)  # fmt: skip
def test_size_of_the_maps(name: str, generation: str, stem: str, shape: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = build_model(name, "lfi", generation, stem)
        images = torch.zeros(2, 3, *(2 * [224 if stem == "imagenet" else 32]))
        assert network.backbone.maps(images).shape == (2, shape[0], shape[1], shape[1])
        logits, attention = network.forward_with_map(images)
        assert (logits.shape, attention.shape) == ((2, 1000), (2, shape[1], shape[1]))


def plain_fin(fin: nn.Module, x: Tensor, relu_after: tuple[int, ...], softmax: bool) -> Tensor:
    """FIN from its weights, in eval mode, without its forward."""
    convolutions = [m for m in fin.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in fin.modules() if isinstance(m, nn.BatchNorm2d)]
    for i, (conv, norm) in enumerate(zip(convolutions, norms, strict=True), start=1):
        x = F.conv2d(x, conv.weight, padding=conv.weight.shape[2] // 2)
        x = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
        x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
        x = x.clamp_min(0) if i in relu_after else x
    w = x.flatten(2).sum(2) / x[0, 0].numel()
    return w.exp() / w.exp().sum(1, keepdim=True) if softmax else w


def plain_gray(images: Tensor, side: int, generation: str, mean: tuple, std: tuple) -> Tensor:
    """[B, side, side] without torch's interpolation: for a whole factor f, align_corners=False reads two pixels."""
    f = images.shape[2] // side
    if generation == "paper":
        red, green, blue = (images[:, c] * std[c] + mean[c] for c in range(3))
        gray = 0.299 * red + 0.587 * green + 0.114 * blue
        return gray.reshape(len(gray), side, f, side, f).sum((2, 4)) / f**2
    gray = (images[:, 0] + images[:, 1] + images[:, 2]) / 3
    near, far = slice(f // 2 - 1, None, f), slice(f // 2, None, f)
    rows = (gray[:, near] + gray[:, far]) / 2
    return (rows[..., near] + rows[..., far]) / 2


@pytest.mark.parametrize("generation", GENERATIONS)
def test_equal_to_a_loop_over_channels(generation: str) -> None:
    network, images = tiny(generation), random_images(3, 16)
    with torch.no_grad():
        maps = network.backbone.maps(images)
        side, channels = maps.shape[3], maps.shape[1]
        assert side == (8 if generation == "table3" else 4)
        mean, std = network.preprocess.mean, network.preprocess.std
        gray = plain_gray(images, side, generation, mean, std)
        masked = torch.zeros_like(maps)
        for b in range(3):
            for k in range(channels):
                low, high = maps[b, k].min(), maps[b, k].max()
                if high > low:
                    span = high - low + (1e-5 if generation == "table3" else 0)
                    masked[b, k] = gray[b] * (maps[b, k] - low) / span
                elif high > 0 and generation == "published":
                    masked[b, k] = gray[b]
        relu_after = (1, 2, 3, 4) if generation == "paper" else (2, 4)  # published: the CIFAR file has two
        w = plain_fin(network.fin, masked, relu_after, softmax=generation != "table3")
        cam = torch.zeros_like(gray)
        for k in range(channels):
            cam += w[:, k, None, None] * maps[:, k]
        cam = cam.clamp_min(0)
        if generation == "table3":
            attention = (cam - cam.min()) / (cam.max() - cam.min())
        else:
            attention = torch.stack([(c - c.min()) / (c.max() - c.min()) for c in cam])
        pooled = torch.stack([((1 + attention) * maps[:, k]).mean((1, 2)) for k in range(channels)], 1)
        expected = pooled @ network.backbone.fc.weight.T + network.backbone.fc.bias

        logits, found = network.forward_with_map(images)
        torch.testing.assert_close(network.importance(images), w)
        torch.testing.assert_close(found, attention)
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(network(images), expected)
        torch.testing.assert_close(network.attention_map(images), attention)
    assert (w >= 0).all()
    assert w.std() > 0
    if generation != "table3":
        assert (found.amin((1, 2)) == 0).all()
        assert (found.amax((1, 2)) == 1).all()


def test_published_has_a_relu_after_every_norm_with_the_imagenet_stem() -> None:
    with torch.device("meta"):
        kinds = {g: [type(m).__name__ for m in build_model("resnet18", "lfi", g).fin.layers] for g in GENERATIONS}
    every = ["Conv2d", "BatchNorm2d", "ReLU"] * 4
    assert kinds["published"] == kinds["paper"] == every
    assert kinds["table3"] == ["Conv2d", "BatchNorm2d", "Conv2d", "BatchNorm2d", "ReLU"] * 2


@pytest.mark.parametrize("generation", GENERATIONS)
def test_gradients(generation: str) -> None:
    network = build_model("resnet20", "lfi", generation, num_classes=5)
    loss, logits = network.loss(random_images(4, 16, dtype=torch.float32), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert logits.shape == (4, 5)
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == set(network.unused)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    fin = {name for name, _ in network.named_parameters() if name.startswith("fin.")}
    if generation == "table3":  # L is detached: FIN stays as it was initialised
        assert without == fin
    else:
        assert without == set()
        assert all(p.grad.any() for name, p in network.named_parameters() if name in fin and "weight" in name)


class Given(Backbone):
    """A backbone whose maps are given."""

    stem, target_layer = "imagenet", "features"

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.channels = maps.shape[1]
        self.given, self.features = nn.Parameter(maps), nn.ReLU()
        self.fc = nn.Linear(self.channels, 5)

    def maps(self, images: Tensor) -> Tensor:
        return self.features(self.given)

    def classify(self, maps: Tensor) -> Tensor:
        return self.fc(maps.mean((2, 3)))


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("every", [False, True])
def test_dead_and_constant_channels(generation: str, every: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 6, 4, 4, generator=generator)
    maps[:, 0], maps[:, 1] = -1.0, 2.5  # dead after the ReLU, constant
    maps[0, 2] = 0.0
    if every:
        maps[:, 2:] = torch.tensor([0.5, 1.0, -2.0, 3.0])[:, None, None]
    network = LFICAM(Given(maps), generation)
    images = torch.rand(2, 3, 16, 16, generator=generator)
    masked = []
    network.fin.register_forward_pre_hook(lambda _m, inputs: masked.append(inputs[0].detach()))
    logits, attention = network.forward_with_map(images)
    F.cross_entropy(logits, torch.tensor([0, 3])).backward()
    assert logits.isfinite().all()
    assert attention.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    assert network.backbone.given.grad.any()
    gray = network.gray(images, (4, 4))[:, 0]
    assert not masked[0][:, 0].any()
    torch.testing.assert_close(masked[0][:, 1], gray if generation == "published" else torch.zeros_like(gray))
    if every:  # L is constant over space; in table3 not over the batch, unless both images' scores agree
        cam = network.activation_map(network.backbone.maps(images), network.importance(images)).detach()
        torch.testing.assert_close(cam, cam[:, :1, :1].expand_as(cam))
        if generation == "paper":
            assert attention.amax() < 1e-3


def test_a_map_that_is_constant_stays_or_becomes_zero() -> None:
    maps = torch.ones(1, 3, 4, 4)
    flat = {g: LFICAM(Given(maps), g).attention(torch.full((2, 4, 4), 0.7)) for g in GENERATIONS}
    assert not flat["paper"].any()
    for generation in ("published", "table3"):
        assert torch.equal(flat[generation], torch.full((2, 4, 4), 0.7))


def test_in_table3_an_image_depends_on_its_neighbours() -> None:
    images = random_images(3, 16)
    with torch.no_grad():
        for generation in GENERATIONS:
            network = tiny(generation)
            alone = torch.cat([network(image[None]) for image in images])
            assert torch.allclose(network(images), alone, atol=1e-9) == (generation != "table3")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_autocast(generation: str) -> None:
    network = build_model("resnet20", "lfi", generation, num_classes=5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, logits = network.loss(random_images(4, 16, dtype=torch.float32), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert loss.isfinite()
    assert logits.dtype == torch.bfloat16
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    trained = tiny(generation, torch.float32)
    images = random_images(3, 16, dtype=torch.float32)
    with torch.no_grad():
        exact, attention = trained.forward_with_map(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded, rough = trained.forward_with_map(images)
    torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.1)
    torch.testing.assert_close(rough.float(), attention, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_learned_map_is_explained(generation: str) -> None:
    network, images = tiny(generation), random_images(2, 16)
    network.train()
    e = explain(network, images, methods=("lfi_cam",))
    assert network.training
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(e.raw["lfi_cam"], network.attention_map(images))
        torch.testing.assert_close(e.scores, network(images).amax(1))
    assert e.maps["lfi_cam"].shape == (2, 16, 16)
    assert (e.maps["lfi_cam"].amax((1, 2)) == 1).all()
    other = explain(network, images, targets=[0, 1], methods="lfi_cam", layer="backbone.layer2")
    assert torch.equal(other.maps["lfi_cam"], e.maps["lfi_cam"])  # of no class, and of no other layer


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_other_cam(generation: str) -> None:
    network, images = tiny(generation), random_images(2, 16)
    methods = ("cam", "grad_cam", "layer_cam", "score_cam", "ablation_cam", "lift_cam", "fd_cam", "lrp_cam")
    e = explain(network, images, methods=methods)
    for name in methods:
        assert e.maps[name].isfinite().all(), name
        assert not e.degenerate[name].any(), name
    # the classifier is linear in the attended maps: F^c(A) - F^c(0) is shared out
    shared = e.scores - network.backbone.fc.bias[e.targets]
    torch.testing.assert_close(e.weights["lift_cam"].sum(1), shared.detach())
    torch.testing.assert_close(e.weights["ablation_cam"], e.weights["lift_cam"])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_game_of_the_attended_maps(generation: str) -> None:
    network, images = tiny(generation), random_images(2, 16)
    game = ChannelGame.of(network, images)
    assert game.head.kind == "linear"
    rows = torch.rand(6, game.channels, generator=torch.Generator().manual_seed(0)) < 0.5
    assert game.value(rows, 1).shape == (2, 6)
    alone = ChannelGame.of(network, images[:1])
    torch.testing.assert_close(alone.value(rows, 1)[0], masked_logits(network, images[0], rows, "attended")[:, 1])


@pytest.mark.parametrize("generation", ["paper", "published"])
def test_the_game_of_the_maps_that_fin_weighs(generation: str) -> None:
    """A channel that is switched off in F changes what FIN sees: the coalition's value is that of the whole network."""
    network, images = tiny(generation), random_images(2, 16)
    game = ChannelGame.of(network, images, "backbone.layer3")
    assert game.head.kind == "generic"
    rows = torch.rand(6, game.channels, generator=torch.Generator().manual_seed(0)) < 0.5
    values = game.value(rows, 1)
    for b, image in enumerate(images):
        torch.testing.assert_close(values[b], masked_logits(network, image, rows, "backbone.layer3")[:, 1])
    attended = ChannelGame.of(network, images).value(rows, 1)
    assert not torch.allclose(values, attended, atol=1e-4)
    e = explain(network, images, methods=("grad_cam", "ablation_cam", "fd_cam"), layer="backbone.layer3")
    assert all(maps.isfinite().all() for maps in e.maps.values())
    failure = ""
    try:  # FIN multiplies what it has weighed: DeepLIFT has no rule for that, but a FIN near 1 / N hardly matters
        lifted = explain(network, images, methods="lift_cam", layer="backbone.layer3")
    except ValueError as refused:
        failure = str(refused)
    if failure:
        assert "Choose a later layer" in failure
    else:
        ends = torch.tensor([[False], [True]]).expand(2, game.channels)
        nothing, every = torch.stack([game.value(ends, t)[b] for b, t in enumerate(lifted.targets.tolist())]).unbind(1)
        torch.testing.assert_close(lifted.weights["lift_cam"].sum(1), every - nothing, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("fin", ["frozen", "none"])
def test_without_a_trained_fin(generation: str, fin: str) -> None:
    images = random_images(4, 16, dtype=torch.float32)
    usual = build_model("resnet20", "lfi", generation, num_classes=5, seed=3)
    network = build_model("resnet20", "lfi", generation, num_classes=5, seed=3, fin=fin)
    own = dict(network.named_parameters())
    for name, weight in usual.named_parameters():  # the same start, whatever becomes of FIN
        assert torch.equal(own[name], weight) if fin == "frozen" or not name.startswith("fin.") else name not in own
    loss, _ = network.loss(images, torch.tensor([0, 1, 2, 3]))
    loss.backward()
    without = {name for name, p in own.items() if p.grad is None}
    assert without == set(network.unused) == {name for name in own if name.startswith("fin.")}
    assert all(p.grad.isfinite().all() for p in own.values() if p.grad is not None)
    if fin == "none":
        maps = network.eval().backbone.maps(images)
        cam = network.activation_map(maps, network.importance(images)).detach()
        torch.testing.assert_close(cam, maps.detach().mean(1))  # the mean feature map


def test_a_frozen_fin_passes_the_gradient_on() -> None:
    """Its weights are fixed, but the maps that it reads are learned through it; in table3 they are not."""
    maps = torch.rand(2, 6, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for generation in GENERATIONS:
        network = LFICAM(Given(maps.detach()), generation, fin="frozen")
        weighed = network.attention(network.activation_map(maps.detach(), network.importance(images, maps)))
        assert weighed.requires_grad == (generation != "table3")


def test_settings_without_fin_are_those_of_before() -> None:
    usual = make_config({"data": "cifar10", "network": "resnet20", "attention": "lfi"})
    assert "fin" not in usual.spec
    older = {name: value for name, value in usual.settled().items() if name != "fin"}
    assert difference(older, usual.settled()) == ""
    assert usual.run == "cifar10_resnet20_lfi-paper_lr0.1_seed0_short"
    frozen = make_config({"data": "cifar10", "network": "resnet20", "attention": "lfi", "fin": "frozen"})
    assert frozen.settled() == {**usual.settled(), "fin": "frozen"}
    assert frozen.spec == {**usual.spec, "fin": "frozen"}
    assert frozen.run == "cifar10_resnet20_lfi-paper-finfrozen_lr0.1_seed0_short"


@pytest.mark.parametrize("fin", ["frozen", "none"])
def test_a_checkpoint_and_its_card_keep_fin(tmp_path: Path, fin: str) -> None:
    settings = {
        "data": "scenes", "network": "resnet20", "attention": "lfi", "fin": fin, "size": 32, "limit": 16,
        "limit_test": 8, "epochs": 3, "batch": 8, "device": "cpu", "folder": str(tmp_path),
    }  # fmt: skip
    config = make_config(settings)
    facts = train(config)
    path = config.place / f"{facts['name']}.safetensors"
    network = load_trained(path)
    assert (network.fin is None) == (fin == "none")
    if fin == "frozen":
        started = build_model("resnet20", "lfi", num_classes=10, fin=fin)
        for name, weight in started.fin.named_parameters():
            torch.testing.assert_close(dict(network.fin.named_parameters())[name], weight, atol=1e-3, rtol=1e-3)
    assert {"frozen": "FIN as initialised", "none": "no FIN"}[fin] in path.with_suffix(".md").read_text()
    assert config_of(path).fin == fin


def test_refusals() -> None:
    images = random_images(1, 16, dtype=torch.float32)
    plain, abn = build_model("resnet20", num_classes=5), build_model("resnet20", "abn", num_classes=5)
    for network in (plain, abn):
        with pytest.raises(ValueError, match=r"lfi_cam needs .*attention='lfi'.*(ResNet|ABN) has none\.$"):
            explain(network, images, methods="lfi_cam")
    with pytest.raises(ValueError, match="Unknown generation 'table2'"):
        LFICAM(plain, "table2")
    with pytest.raises(ValueError, match="Unknown fin 'off'"):
        LFICAM(plain, fin="off")
    with pytest.raises(ValueError, match="fin must be one of 'trained', 'frozen', 'none', not 'off'"):
        build_model("resnet20", "lfi", fin="off")
    with pytest.raises(ValueError, match="fin='none' is an option of attention='lfi'"):
        build_model("resnet20", fin="none")
