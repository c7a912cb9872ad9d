"""Trained checkpoints: their accuracy, the maps that they learned to make of all test images, and which are alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from campanion import paths
from campanion.cams import explain
from campanion.cams.maps import min_max_map, upsample
from campanion.data.photographs import photograph
from campanion.data.scenes import scene
from campanion.experiments.mapfiles import read_maps, save_maps
from campanion.experiments.training_runs import set_name
from campanion.inference import eval_mode
from campanion.models.load import load_trained, read_card, weights_of
from campanion.progress import track
from campanion.training.batches import Draw, normalise
from campanion.training.checkpoint import export_checkpoint
from campanion.training.parts import Part, evaluate, open_part
from campanion.training.settings import Config, config_of_card

SEED = 0  # of what a study of training runs draws
LEARNED = {"lfi": "lfi_cam", "abn": "abn"}
SMALL = 2_000_000  # bytes of weights that are committed


@dataclass(frozen=True)
class Trained:
    """A finished checkpoint; ``form``: LFI-CAM's generation and what became of its FIN, ``top1``: on test images."""

    path: Path
    name: str
    method: str
    data: str
    network: str
    form: str
    lr: float
    seed: int
    top1: float
    sha256: str

    @property
    def about(self) -> str:
        """``lr 0.07, seed 0``."""
        return f"lr {self.lr:g}, seed {self.seed}"


def finished(checkpoints: Iterable[str | Path]) -> list[Trained]:
    """Those of ``checkpoints`` (weights or cards) that are there and learn a map of their own, by method, learning rate
    and seed; ValueError where they are of several data sets, networks or forms of LFI-CAM.
    """
    networks = [n for p in checkpoints if Path(p).is_file() and (n := _read(Path(p))).method in LEARNED.values()]
    for kind, attribute in (("data sets", "data"), ("networks", "network"), ("forms of LFI-CAM", "form")):
        values = {getattr(n, attribute) for n in networks} - {""}
        if len(values) > 1:
            raise ValueError(f"These checkpoints are of several {kind}: {', '.join(sorted(values))}. Compare one.")
    return sorted(networks, key=lambda n: (n.method, n.lr, n.seed))


def _read(path: Path) -> Trained:
    facts = _facts(path)
    network, attention = facts["network"], facts["network"]["attention"]
    return Trained(
        path=weights_of(path),
        name=facts["name"],
        method=LEARNED.get(attention, "none"),
        data=set_name(facts["data"]["name"], facts["input"]["size"]),
        network=network["network"],
        form=f"{network['generation']}, FIN {network.get('fin', 'trained')}" if attention == "lfi" else "",
        lr=facts["recipe"]["lr"],
        seed=facts["seed"],
        top1=facts["accuracy"]["test"]["top1"],
        sha256=facts["sha256"],
    )


def _facts(path: str | Path) -> dict:
    if "settings" not in (facts := read_card(path)):
        raise ValueError(f"{path} has no settings in its card: it is of no settings file of `campanion train`.")
    return facts


def range_of(top1: Sequence[float], network: str, tested: str) -> dict[str, object]:
    """Several training runs of a network in the place of a provenance's weights: their number and their accuracies."""
    spread = f"top-1 {min(top1):.1f} to {max(top1):.1f} % on {tested}"
    return {"name": f"of {len(top1)} training runs of {network}", "accuracy": spread}


def config_of(path: str | Path, limit: int | None = None) -> Config:
    """Settings that open the test images of a checkpoint, the first ``limit`` in the set's fixed order."""
    return config_of_card(_facts(path)["settings"], limit_test=limit)


def accuracy(path: str | Path, limit: int | None = None, device: str = "cpu") -> dict[str, float]:
    """``top1``, ``loss`` and ``n`` of a checkpoint on the test images of the set that it was trained on."""
    return evaluate(load_trained(path, device), open_part(config_of(path, limit), "test", device))


def maps_of(
    path: str | Path, method: str | None = None, limit: int | None = None, device: str = "cpu"
) -> tuple[Tensor, list[str], str]:
    """The map of each test image of a checkpoint in 0..1, [N, H, W], for the predicted class; the images' ids; the
    method, which is the network's own learned map where none is named (ValueError where it learns none).
    """
    config = config_of(path, limit)
    method = method or LEARNED.get(config.attention)
    if method is None:
        raise ValueError(f"{config.network} learns no map of its own: name a method, such as method='grad_cam'.")
    network, part = load_trained(path, device), open_part(config, "test", device)
    batches = batches_of(part, network, 50, f"maps of {method}", device)
    maps = [explain(network, images, methods=(method,)).maps[method] for images in batches]
    return torch.cat(maps).cpu().float(), list(part.ids), method


@torch.no_grad()
def learned_maps(network: Trained, limit: int | None = None, device: str = "cpu") -> tuple[Tensor, dict]:
    """Maps [N, h, w] as the network makes them, and ``ids`` of the test images, the ``size`` that maps are enlarged to
    and the maps ``shown``, [h, w] rounded, of :func:`images_to_show`.

    They are kept in ``out/maps``, and read from there while checkpoint and images are the same; those of networks
    whose weights are not in the repository are committed in ``data/results/maps``.
    """
    config = config_of(network.path.with_suffix(".json"), limit)
    about = {"sha256": network.sha256, "limit": limit, "size": config.pixels}
    for folder in (maps_dir(), paths.root() / "data" / "results" / "maps", paths.out_dir() / "maps"):
        if (file := folder / f"{network.name}.safetensors").is_file():
            maps, header = read_maps(file)
            if limit and (about | {"limit": None}).items() <= header.items() and "shown" in header:  # those of a few
                place, ids = {name: i for i, name in enumerate(header["ids"])}, [*open_part(config, "test", device).ids]
                return maps[[place[name] for name in ids]], header | {"ids": ids}
            if about.items() <= header.items() and "shown" in header:
                return maps, header
    part, model = open_part(config, "test", device), load_trained(network.path, device)
    with eval_mode(model):
        batches = batches_of(part, model, 250, f"maps of {network.name}", device)
        maps = torch.cat([model.attention_map(images).float().cpu() for images in batches])
        about["shown"] = {}
        for name, photo in images_to_show(network.data).items():
            (drawn,) = model.attention_map(model.preprocess(photo)[None].to(device))
            about["shown"][name] = [[round(v, 4) for v in row] for row in drawn.tolist()]
    save_maps(maps, part.ids, about, file)
    return maps, about | {"ids": list(part.ids)}


def maps_dir() -> Path:
    """Where maps of networks are committed whose weights are too large for it."""
    return paths.results_dir() / "maps"


def keep(path: str | Path, device: str = "cpu") -> list[Path]:
    """Copy a finished training run to where it is committed: its card, and its weights where they have at most
    :data:`SMALL` bytes, else the learned maps of all test images, which LFI-CAM's Fig. 6 needs; returns the files.
    """
    path = weights_of(path)
    network, small = _read(path), path.stat().st_size <= SMALL
    if path.parent == paths.checkpoints_dir():  # what a name finds, also after a new training
        raise ValueError(f"{path} is committed already: give the path of a training run's own file.")
    files = export_checkpoint(path, paths.checkpoints_dir(), weights=small)
    if not small and network.method in LEARNED.values():
        maps, about = learned_maps(network, None, device)
        files.append(maps_dir() / f"{network.name}.safetensors")
        save_maps(maps, about.pop("ids"), about, files[-1])
    return files


def batches_of(part: Part, network: nn.Module, size: int, task: str, device: str | torch.device) -> Iterator[Tensor]:
    """The test images as the network takes them, ``size`` at a time; ``task`` is said beside the progress."""
    draws = [Draw(indices) for indices in torch.arange(len(part.labels)).split(size)]
    mean, std = network.preprocess.mean, network.preprocess.std
    for pixels in track(part.images.batches(draws), task, total=len(draws), unit="batch"):
        yield normalise(pixels.to(device), mean, std)


def images_to_show(data: str) -> dict[str, Image.Image]:
    """Generated scenes for networks of those, for others photographs of a cat, a dog and a horse, by name."""
    if data == "scenes":
        return {f"scene {seed}": scene(seed, n_objects=2).image for seed in (28, 31, 40)}
    return {name: photograph(name) for name in ("cat", "dog", "horse")}


def enlarged(maps: Tensor, side: int) -> Tensor:
    """Maps [N, side, side] in 0..1 as :func:`campanion.explain` gives them: enlarged, then stretched to 0..1."""
    return min_max_map(upsample(maps, (side, side)))[0]
