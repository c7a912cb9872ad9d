"""The pointing game (FD-CAM Table II): does a map's highest point lie on the class, for every class in the picture?

An image gives rows for every class in it and every method, so that beside the hits it can be seen how well the maps of
two classes in one picture are told apart: the energy of each on the other's boxes, and how much they overlap.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from campanion import metrics
from campanion.cams.explain import explain_game
from campanion.cams.maps import min_max_map, upsample
from campanion.cams.methods import parse
from campanion.data import Dataset, Sample, open_dataset
from campanion.experiments.evaluation import input_boxes
from campanion.experiments.resumed import per_image
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models import load_model
from campanion.outputs import probabilities

#: Baselines without a map, which the paper lacks: the middle of the picture, and a point drawn uniformly.
CENTRE, RANDOM = "centre point", "random point"
#: Methods that cost little more than one forward pass an image, and those that forward hundreds of masked pictures.
CHEAP = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam", "ablation_cam", "fd_cam", "lift_cam", CENTRE, RANDOM,
)  # fmt: skip
MASKED = ("score_cam", "group_cam")

TOLERANCE = 15  # pixels of a picture whose longer side has LONG_SIDE
LONG_SIDE = 500  # as nearly all of VOC's have: copies of another size are judged as the originals
TOP = 0.2  # share of the pixels in a map's mask, where maps are compared


def evaluate_pointing(
    model: nn.Module,
    data: Dataset,
    methods: Sequence[str] = CHEAP,
    limit: int | None = None,
    name: str = "pointing",
    seed: int = 0,
    precision: str = "float32",
    fresh: bool = False,
) -> pd.DataFrame:
    """Rows (image x class present x method) of at least the first ``limit`` images of ``data.order(seed)``.

    Finished images are kept in ``out/rows/<name>_<data>_<model>.jsonl`` and not measured again; committed rows of the
    same name and settings count as finished. Methods of very different cost may have runs of their own, under other
    names and over fewer images.

    Columns: target; difficult (all of the class's objects are marked so); n_classes in the picture; area of the class's
    boxes (share of the picture); score (logit), probability, predicted (present by the network: probability above 1/2,
    or the highest class of a softmax); hit (eq. 12: the highest pixel of the map at the input's size is in a box of the
    class); hit_15 (:func:`tolerant_size`; for the random point both are the expected value); degenerate (a constant
    map); own_energy (share of the map's sum in the class's boxes), other_energy (in the other classes' boxes outside
    its own); overlap and correlation with the maps of the other classes (:func:`likeness`); seconds (the image's share
    of the run's time, in all rows of it), device and torch.

    Args:
        methods: as :func:`campanion.cams.methods.parse` reads them, and :data:`CENTRE` and :data:`RANDOM`.
        precision: of the masked pictures' forwards, see :func:`campanion.inference.fast`.
        fresh: start anew.

    Raises:
        ValueError: unknown method, classes other than the network's, or the rows' file was made with other settings.

    Example:
        >>> rows = evaluate_pointing(load_model("voc_mlp"), open_dataset("voc2007"), ["grad_cam", "fd_cam"], limit=100)
        >>> 100 * rows[~rows.difficult].groupby("method").hit.mean()
    """
    settings = pointing_settings(model, data, methods, seed, precision)
    network = fast(model, precision)
    return per_image(
        lambda sample: measure(model, network, sample, methods),
        model, data, settings, name, limit, ("image", "target", "method"), fresh,
    )  # fmt: skip


def pointing_settings(
    model: nn.Module, data: Dataset, methods: Sequence[str], seed: int, precision: str
) -> dict[str, object]:
    """Everything that decides the numbers of :func:`evaluate_pointing`, checked: kept with the rows."""
    for name in methods:
        if name not in (CENTRE, RANDOM):
            parse(name)
    if tuple(model.class_names) != tuple(data.class_names):
        raise ValueError(f"{model.weights['name']} does not tell the classes of {data.name}: choose a network of them.")
    return {
        "methods": list(methods), "model": model.weights["name"], "weights": model.weights["sha256"],
        "layer": model.target_layer, "data": data.name, "pictures": data.card, "seed": seed, "precision": precision,
        "tolerance": TOLERANCE, "long_side": LONG_SIDE, "top": TOP,
    }  # fmt: skip


def open_pictures(name: str) -> Dataset:
    """The data set ``name``; of Pascal VOC 2007 the validation part, which the paper plays on."""
    return open_dataset(name, split="val" if name == "voc2007" else None)


def measure(model: nn.Module, network: nn.Module, sample: Sample, methods: Sequence[str]) -> list[dict[str, object]]:
    """The rows of one image, one for each class in it and method; one forward pass serves all of them."""
    device = next(model.parameters()).device
    image = model.preprocess(sample.image).unsqueeze(0).to(device)
    game = ChannelGame.of(model, image)
    game.use_network(network)
    classes, size, wide = sample.labels, tuple(image.shape[-2:]), tolerant_size(sample.image.size)
    boxes, far = ([input_boxes(sample, c, s) for c in classes] for s in (size, wide))
    chances, several = probabilities(model, game.logits)[0], getattr(model, "activation", "softmax") == "sigmoid"
    areas = metrics.box_masks(boxes, *size).double().mean((1, 2)).tolist()
    facts = [
        {
            "image": sample.id, "target": c, "n_classes": len(classes), "area": area,
            "difficult": all(o.difficult for o in sample.objects if o.label == c),
            "score": float(game.logits[0, c]), "probability": float(chances[c]),
            "predicted": bool(chances[c] > 0.5) if several else c == int(chances.argmax()),
        }
        for c, area in zip(classes, areas, strict=True)
    ]  # fmt: skip
    rows = []
    for name in methods:
        if name == CENTRE:
            measured = _centre(boxes, far, size, wide)
        elif name == RANDOM:
            measured = _random(boxes, far, size, wide)
        else:
            measured = _mapped(game, name, classes, boxes, far, wide)
        values = {column: value.tolist() for column, value in measured.items()}
        for j, fact in enumerate(facts):
            own = {column: each[j] for column, each in values.items()}
            rows.append({**fact, "method": name, **{k: v for k, v in own.items() if not math.isnan(v)}})
    return rows


def tolerant_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) at which the tolerance of 15 pixels is measured, of a picture of ``size`` (width, height).

    TorchRay measures it in the original picture. VOC's have 500 pixels on their longer side, so a picture that was
    resized is taken back to that, and the map is enlarged to it, not squashed.
    """
    width, height = size
    scale = LONG_SIDE / max(size)
    return max(1, round(height * scale)), max(1, round(width * scale))


def likeness(maps: Tensor) -> tuple[Tensor, Tensor]:
    """How alike the maps [T, H, W] of T classes in one picture are: for each its mean over the T - 1 others, [T].

    The first number is the IoU of the masks of each map's highest fifth of pixels, of which those that are zero do not
    count; the second is Pearson's correlation of the pixels. Constant maps tell nothing and are left out; NaN where
    nothing is left, as for a single class.
    """
    flat = maps.flatten(1).double()
    top = ((flat >= flat.quantile(1 - TOP, 1, keepdim=True)) & (flat > 0)).double()
    both, count = top @ top.T, top.sum(1)
    pairs = torch.stack([both / (count + count[:, None] - both), torch.corrcoef(flat).reshape(both.shape)])
    told = (flat.amax(1) > flat.amin(1)) & ~torch.eye(len(flat), dtype=torch.bool, device=maps.device)
    overlap, correlation = pairs.masked_fill(~(told & told.T), math.nan).nanmean(2)
    return overlap, correlation


def _mapped(
    game: ChannelGame, name: str, classes: Sequence[int], boxes: list[Tensor], far: list[Tensor], wide: tuple[int, int]
) -> dict[str, Tensor]:
    """Columns [T] of a method's maps of T classes."""
    method, options = parse(name)
    each = [explain_game(game, c, [method], {method: options}) for c in classes]
    maps, raw, degenerate = (torch.cat([getattr(e, part)[method] for e in each]) for part in _PARTS)
    own = metrics.energy_pointing_game(maps, boxes)
    overlap, correlation = likeness(maps)
    return {
        "hit": metrics.pointing_game(maps, boxes).double(),
        "hit_15": metrics.pointing_game(min_max_map(upsample(raw, wide))[0], far, tolerance=TOLERANCE).double(),
        "degenerate": degenerate,
        "own_energy": own,
        "other_energy": _others(metrics.energy_pointing_game(maps, [torch.cat(boxes)] * len(boxes)), own),
        "overlap": overlap,
        "correlation": correlation,
    }


_PARTS = ("maps", "raw", "degenerate")


def _others(in_any: Tensor, own: Tensor) -> Tensor:
    """Energy on the other classes alone; NaN where there is no other."""
    return in_any - own if len(own) > 1 else torch.full_like(own, math.nan)


def _centre(boxes: list[Tensor], far: list[Tensor], size: tuple[int, int], wide: tuple[int, int]) -> dict[str, Tensor]:
    hits = []
    for rectangles, (height, width), tolerance in ((boxes, size, 0), (far, wide, TOLERANCE)):
        point = torch.zeros(len(rectangles), height, width)
        point[:, height // 2, width // 2] = 1
        hits.append(metrics.pointing_game(point, rectangles, tolerance=tolerance).double())
    return {"hit": hits[0], "hit_15": hits[1]}


def _random(boxes: list[Tensor], far: list[Tensor], size: tuple[int, int], wide: tuple[int, int]) -> dict[str, Tensor]:
    """The expected hits of a point drawn uniformly, which are also the energies of an even map."""
    own = metrics.box_masks(boxes, *size).double().mean((1, 2))
    anywhere = metrics.box_masks([torch.cat(boxes)] * len(boxes), *size).double().mean((1, 2))
    near = [within(mask, TOLERANCE) for mask in metrics.box_masks(far, *wide).numpy()]
    return {
        "hit": own, "hit_15": torch.tensor(near, dtype=torch.float64), "own_energy": own,
        "other_energy": _others(anywhere, own),
    }  # fmt: skip


def within(mask: np.ndarray, distance: float) -> float:
    """Share of the pixels of ``mask`` [H, W] that lie nearer than ``distance`` to one that is True."""
    return float((distance_transform_edt(~mask) < distance).mean()) if mask.any() else 0.0


def main(arguments: list[str] | None = None) -> None:
    """``... --model voc_mlp --methods score_cam group_cam --name pointing_masked``."""
    parser = argparse.ArgumentParser(
        prog="python -m campanion.experiments.pointing", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default="voc2007")
    parser.add_argument("--limit", type=int, help="images (default: all)")
    parser.add_argument("--methods", nargs="+", default=list(CHEAP), help="default: %(default)s")
    parser.add_argument("--name", default="pointing", help="of the rows; another one for other methods")
    parser.add_argument("--seed", type=int, default=0, help="of the images' order")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    given = parser.parse_args(arguments)
    model, data = load_model(given.model, device=given.device), open_pictures(given.data)
    rows = evaluate_pointing(model, data, given.methods, given.limit, given.name, given.seed, given.precision)
    print(rows[~rows["difficult"]].groupby("method").mean(numeric_only=True).to_string())


if __name__ == "__main__":
    main()
