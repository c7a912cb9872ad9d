"""Train one of the two small networks on generated scenes: ``python -m campanion train scenes_vgg``.

Writes ``NAME.safetensors``, its facts ``NAME.json`` and its card ``NAME.md``; the accuracies are measured on scenes
that were never trained on, with the network as read back from the written file. Minutes on one thread of a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from campanion.data.scenes import CLASS_NAMES, VERSION, SceneDataset
from campanion.errors import unknown
from campanion.models.load import load_model
from campanion.models.small import (
    MEAN,
    SCENE_NETS,
    SIZE,
    STD,
    TARGET_LAYER,
    SceneVGG,
    build_scene_net,
)
from campanion.paths import checkpoints_dir
from campanion.progress import track
from campanion.training.checkpoints import Clock, write_facts, write_weights

BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2


def draw(data: SceneDataset, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """All scenes: uint8 pictures [N, 3, H, W], labels [N], numbers of objects [N]."""
    pictures = np.empty((len(data), data.size, data.size, 3), dtype=np.uint8)
    labels, counts = torch.empty(2, len(data), dtype=torch.long)
    for i in track(range(len(data)), f"draw {name}", unit="scene"):
        sample = data[i]
        pictures[i], labels[i], counts[i] = np.asarray(sample.image), sample.label, len(sample.objects)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2), labels, counts


def normalise(pictures: Tensor, device: str) -> Tensor:
    """What a scene network's ``.preprocess`` does, for a batch of uint8 pictures of the right size."""
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (pictures.to(device).float() / 255 - mean) / std


def train(net: nn.Module, pictures: Tensor, labels: Tensor, epochs: int, seed: int, device: str) -> None:
    """Cross-entropy on the class of the largest object: AdamW, a one-cycle learning rate, random mirroring."""
    generator = torch.Generator().manual_seed(seed)
    net.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = len(labels) // BATCH * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.2)
    for epoch in range(epochs):
        batches = torch.randperm(len(labels), generator=generator).split(BATCH)[: len(labels) // BATCH]
        total = 0.0
        for batch in track(batches, f"epoch {epoch + 1} of {epochs}", unit="batch"):
            images, target = normalise(pictures[batch], device), labels[batch].to(device)
            # No shape becomes another one in the mirror.
            mirrored = torch.rand(len(batch), generator=generator).to(device)[:, None, None, None] < 0.5
            images = torch.where(mirrored, images.flip(3), images).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(net(images), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: mean loss {total / len(batches):.3f}", flush=True)


def accuracy(net: nn.Module, pictures: Tensor, labels: Tensor, device: str) -> float:
    """Share of the pictures whose highest logit is that of the largest object's class."""
    with torch.no_grad():
        right = sum(
            int((net(normalise(x, device)).argmax(1).cpu() == y).sum())
            for x, y in zip(pictures.split(250), labels.split(250), strict=True)
        )
    return right / len(labels)


def run(
    arch: str, folder: Path | None = None, scenes: int = 20_000, tests: int = 2_000, epochs: int = 5, seed: int = 0,
    device: str = "cpu",
) -> dict[str, object]:  # fmt: skip
    """Train ``arch``, write its three files to ``folder`` and return the facts.

    Raises:
        ValueError: unknown architecture, or too few scenes or epochs; raised before any work.
    """
    if arch not in SCENE_NETS:
        raise ValueError(unknown("scene network", arch, SCENE_NETS))
    if scenes < BATCH or tests < 20 or epochs < 1:
        raise ValueError(f"Training needs {BATCH} scenes, 20 test scenes and one epoch at the least.")
    clock = Clock()
    with torch.random.fork_rng():  # initialisation and dropout draw from the global generator
        torch.manual_seed(seed)
        # A plain VGG this small does not get off the ground within minutes; with batch norm it does.
        net = SceneVGG(batch_norm=True) if arch == "scenes_vgg" else build_scene_net(arch)
        pictures, labels, _ = draw(SceneDataset(scenes, seed), "training scenes")
        train(net, pictures, labels, epochs, seed, device)
    if isinstance(net, SceneVGG):
        net = net.folded()
    minutes = clock.minutes()
    path = (folder or checkpoints_dir()) / f"{arch}.safetensors"
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    write_weights(path, state, f"{arch}, scenes version {VERSION}")
    net = load_model(arch, weights=path, device=device)
    single, single_labels, _ = draw(SceneDataset(tests, split="test", single=True), "test scenes")
    mixed, mixed_labels, counts = draw(SceneDataset(tests, split="test"), "test scenes")
    several = counts > 1
    facts: dict[str, object] = {
        "name": arch,
        "parameters": sum(p.numel() for p in net.parameters()),
        "target_layer": TARGET_LAYER[arch],
        "input": {"size": SIZE, "mean": MEAN, "std": STD},
        "classes": CLASS_NAMES,
        "data": f"generated scenes, version {VERSION}: {scenes} of the train split, one to three objects in each",
        "scenes_version": VERSION,
        "seed": seed,
        "epochs": epochs,
        "training": f"AdamW, one cycle to {LEARNING_RATE}, weight decay {WEIGHT_DECAY}, batches of {BATCH}, mirroring"
        + (", batch norm folded into the convolutions afterwards" if arch == "scenes_vgg" else ""),
        "accuracy": {
            "one object": {"top1": accuracy(net, single, single_labels, device), "n": tests},
            "two or three objects": {
                "top1": accuracy(net, mixed[several], mixed_labels[several], device),
                "n": int(several.sum()),
            },
        },
        **minutes,
    }
    return write_facts(path, facts, card, device)


def card(facts: Mapping) -> str:
    """The model card, from the facts alone."""
    rows = "\n".join(f"| {name} | {100 * a['top1']:.2f} % | {a['n']:,} |" for name, a in facts["accuracy"].items())
    kind = SCENE_NETS[facts["name"]].__doc__.splitlines()[0]
    given = facts["input"]
    pixels = f"{given['size']}x{given['size']}, in 0..1, mean {given['mean'][0]}, standard deviation {given['std'][0]}"
    made = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    return f"""# {facts["name"]}

{kind} {facts["parameters"]:,} parameters; maps are explained at `{facts["target_layer"]}`
(64 channels of 8x8). It names the shape of the largest object of a generated scene: {", ".join(facts["classes"])}.

| test scenes | top-1 | N |
|---|---|---|
{rows}

- Data: {facts["data"]}. The test scenes are of the test split, which shares no seed with it.
- Input: RGB, {pixels}.
- Training: seed {facts["seed"]}, {facts["epochs"]} epochs, {facts["training"]}.
- It took {facts["minutes"]} minutes ({facts["cpu_minutes"]} of processor time) on {facts["device"]}, with {made}.
- Made again by `python -m campanion train {facts["name"]}` (with OMP_NUM_THREADS=1, on a like machine
  with these versions, to the same bytes).
- For: checking the machinery and quick runs of the notebooks. It knows drawn shapes and nothing else; no claim of a
  paper is drawn from it.
- File: `{facts["name"]}.safetensors`, {facts["bytes"]:,} bytes, sha256 `{facts["sha256"]}`. Licence: MIT, as the code.
"""
