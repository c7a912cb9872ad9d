"""How fast training is: ``python benchmarks/training.py [--device cuda] [--only NAME ...]``; README.md explains it.

One training step (forward, backward, SGD) on noise that lies on the device; reading and augmenting images is timed on
its own. Networks that are compared run in turn, so that other work on the machine slows each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from campanion.models import build_model
from campanion.models.lfi import LFICAM, unit_range
from campanion.models.network import Objective
from campanion.training.batches import augment, draw, normalise
from clock import machine
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).resolve().parent
ATTENTIONS = (None, "abn", "lfi")
#: Dense bf16 operations per second that the makers state.
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12}


def channel_loop(network: LFICAM, images: Tensor, maps: Tensor) -> Tensor:
    """LFI-CAM's map, eq. 5-9, channel by channel, as the authors' code goes about it."""
    gray = network.gray(images, maps.shape[-2:])
    masked = []
    for k in range(maps.shape[1]):
        channel = maps[:, k : k + 1]
        constant = (channel > 0).to(maps.dtype) if network.form.constant_channel else None
        masked.append(gray * unit_range(channel, (2, 3), network.form.margin, constant))
    weights = network.fin(torch.cat(masked, 1))
    cam = torch.zeros_like(maps[:, 0])
    for k in range(maps.shape[1]):
        cam = cam + weights[:, k, None, None] * maps[:, k]
    return cam.relu()


def batched(network: LFICAM, images: Tensor, maps: Tensor) -> Tensor:
    """The same in three tensor operations, as this library has it."""
    return network.activation_map(maps, network.importance(images, maps))


def step_of(network: nn.Module, batch: int, size: int, device: str, precision: str) -> Callable[[], None]:
    """One training step of ``network`` on noise."""
    network.to(device, memory_format=torch.channels_last).train()
    objective = Objective(network)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=device)

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            loss, _ = objective(images, labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def multiply_adds(step: Callable[[], None]) -> float:
    """Of convolutions and matrix products in one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 2


def in_turn(steps: dict[str, Callable[[], None]], repeats: int, device: str) -> dict[str, dict[str, float]]:
    """Median wall and processor seconds of each, after one call that is not counted."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {clock: statistics.median(t[i] for t in found) for i, clock in enumerate(("wall", "cpu"))}
        for name, found in times.items()
    }


def throughput(depth: int, options: argparse.Namespace) -> dict[str, object]:
    """Images per second of a CIFAR ResNet, plain and with each attention branch."""
    steps = {
        str(kind): step_of(
            build_model(f"resnet{depth}", kind, num_classes=10), options.batch, 32, options.device, options.precision
        )
        for kind in ATTENTIONS
    }
    work = {name: multiply_adds(step) for name, step in steps.items()}
    times = in_turn(steps, options.repeats, options.device)
    rows = {}
    for name, seconds in times.items():
        rows[name] = {clock: options.batch / seconds[clock] for clock in ("wall", "cpu")}
        rows[name]["gmac_per_image"] = work[name] / options.batch / 1e9
        if options.device == "cuda":
            card = torch.cuda.get_device_name()
            peak = next((value for key, value in PEAK.items() if key in card), None)
            rows[name]["share_of_peak"] = None if peak is None else 2 * work[name] / seconds["wall"] / peak
    return {"images_per_s": rows, "batch": options.batch, "precision": options.precision}


def overhead(options: argparse.Namespace) -> dict[str, object]:
    """A step of ResNet18 with LFI-CAM over one of ResNet18, beside the ratio of their multiply-adds."""
    batch, size = (64, 224) if options.device == "cuda" else (8, 96)
    steps = {
        str(kind): step_of(build_model("resnet18", kind, num_classes=10), batch, size, options.device, "fp32")
        for kind in (None, "lfi")
    }
    work = {name: multiply_adds(step) for name, step in steps.items()}
    times = in_turn(steps, options.repeats, options.device)
    ratio = {clock: times["lfi"][clock] / times["None"][clock] for clock in ("wall", "cpu")}
    macs = work["lfi"] / work["None"]
    over = {clock: value / macs for clock, value in ratio.items()}
    return {"times": times, "ratio": ratio, "multiply_adds": macs, "over": over, "goal": 1.15, "batch": batch}


def branch(options: argparse.Namespace) -> dict[str, object]:
    """LFI-CAM's attention branch of ResNet18, forward and backward: channel by channel over all at once.

    With FIN's convolutions, which both ways share, and (``"without FIN"``) with fixed weights in their place.
    """
    rows: dict[str, object] = {}
    images = torch.randn(8, 3, 224, 224, device=options.device)
    for name, generation in (("paper", "paper"), ("table3", "table3"), ("without FIN", "paper")):
        network = build_model("resnet18", "lfi", generation, num_classes=10).to(options.device)
        channels = network.backbone.channels
        side = 14 if generation == "table3" else 7
        maps = torch.rand(8, channels, side, side, device=options.device, requires_grad=True)
        if name == "without FIN":
            network.fin = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        ways = {"loop": channel_loop, "batched": batched}
        found = {key: way(network.eval(), images, maps).detach() for key, way in ways.items()}
        torch.testing.assert_close(found["loop"], found["batched"], atol=1e-3, rtol=1e-3)
        network.train()
        steps = {
            key: lambda way=way, net=network, f=maps: way(net, images, f).sum().backward() for key, way in ways.items()
        }
        times = in_turn(steps, options.repeats, options.device)
        ratio = {clock: times["loop"][clock] / times["batched"][clock] for clock in ("wall", "cpu")}
        rows[name] = {"times": times, "ratio": ratio}
    return {"rows": rows, "goal": 3, "batch": 8}


def loader(options: argparse.Namespace) -> dict[str, object]:
    """Images per second that leave the memory augmented and normalised, for 32 pixels and for 96."""
    rows = {}
    for name, size, kind in (("cifar", 32, "shift_flip"), ("imagenette", 96, "resized_crop_flip")):
        pixels = torch.randint(256, (512, size, size, 3), dtype=torch.uint8, device=options.device)
        generator = torch.Generator().manual_seed(0)

        def read(pixels: Tensor = pixels, kind: str = kind, size: int = size, g: torch.Generator = generator) -> None:
            drawn = draw(torch.arange(128), kind, size, g)
            normalise(augment(pixels[drawn.indices.to(pixels.device)], drawn), (0.5,) * 3, (0.25,) * 3)

        seconds = in_turn({name: read}, max(5, options.repeats), options.device)[name]
        rows[name] = {clock: 128 / value for clock, value in seconds.items()}
    return {"images_per_s": rows}


CASES: dict[str, Callable[[argparse.Namespace], dict[str, object]]] = {
    "resnet20": lambda options: throughput(20, options),
    "resnet110": lambda options: throughput(110, options),
    "overhead": overhead,
    "branch": branch,
    "loader": loader,
}


def main() -> None:
    """Run the cases asked for; print and keep their numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--batch", type=int, default=128, help="of the CIFAR networks (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "training.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kept = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.only:
        found = CASES[name](options)
        about = machine(options.threads, options.device)
        key = f"{name}, {options.device}, {options.precision}"
        kept[key] = {**found, "machine": about, "date": datetime.now(UTC).date().isoformat()}
        print(key, json.dumps(found, indent=1), flush=True)
        options.out.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
