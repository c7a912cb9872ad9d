"""Measure every method on every image of a data set: one pass, resumable per image, many tables.

An image is explained once; from its maps come the insertion and deletion areas (FD-CAM Table I), the confidence terms
(LIFT-CAM Table 3), the energy in the box (Table 5), and from its weights the cosine with the Shapley values (Table 2).
A table of a paper is a choice of columns of these rows.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict, replace

import pandas as pd
import torch
from torch import Tensor, nn

from campanion import metrics
from campanion.cams.explain import enlarged, explain_game, weighted
from campanion.cams.methods import parse
from campanion.data import Dataset, Sample, open_dataset
from campanion.experiments.protocols import LAST_POOLING, PROTOCOLS, STANDARD, Protocol
from campanion.experiments.resumed import per_image
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models import load_model
from campanion.outputs import probabilities


def evaluate(
    model: nn.Module,
    data: Dataset,
    protocol: Protocol = STANDARD,
    limit: int | None = None,
    name: str = "cams",
    fresh: bool = False,
) -> pd.DataFrame:
    """Rows (image x method) of at least the first ``limit`` images of ``data.order(protocol.seed)``, predicted classes.

    Finished images are kept in ``out/rows/<name>_<data>_<model>.jsonl``: the next call, which may ask for more, neither
    measures them again nor leaves them out. Committed rows of the same name, protocol and weights count as finished.
    ``fresh`` starts anew.

    Columns: target, label, correct, probability, insertion, deletion, increase (Y < O), drop, drop_in_deletion
    (fractions), the two curves, energy (where the predicted class has a box), shap_cosine, shap_error (relative
    standard error of the reference), seconds (the image's share of the run's time, in all rows of it), device and torch
    (what measured this image: a run may be continued elsewhere).

    Raises:
        ValueError: the rows' file was made with another protocol or other weights (it names the difference).
    """
    network = fast(model, protocol.precision)
    return per_image(
        lambda sample: measure(model, network, sample, protocol),
        model, data, settings_of(model, data, protocol), name, limit, fresh=fresh,
    )  # fmt: skip


def settings_of(model: nn.Module, data: Dataset, protocol: Protocol) -> dict[str, object]:
    """Everything that decides the numbers of :func:`evaluate`: kept with the rows, compared before adding to them."""
    return {
        **asdict(protocol), "model": model.weights["name"], "weights": model.weights["sha256"],
        "layer": layer_of(model, protocol), "data": data.name,
    }  # fmt: skip


def layer_of(model: nn.Module, protocol: Protocol) -> str:
    """The name of the layer that ``protocol`` explains ``model`` at.

    Raises:
        ValueError: it asks for the last max pooling, and there is none.
    """
    if protocol.layer != LAST_POOLING:
        return protocol.layer or model.target_layer
    poolings = [name for name, module in model.named_modules() if isinstance(module, nn.MaxPool2d)]
    if not poolings:
        raise ValueError(f"{model.weights['name']} has no max pooling to explain; a VGG has.")
    return poolings[-1]


def measure(model: nn.Module, network: nn.Module, sample: Sample, protocol: Protocol) -> list[dict[str, object]]:
    """The rows of one image, one for each method."""
    device = next(model.parameters()).device
    image = model.preprocess(sample.image).unsqueeze(0).to(device)
    game = ChannelGame.of(model, image, layer_of(model, protocol))
    game.use_network(network)
    target = game.target(None)
    score = getattr(model, "activation", "softmax")

    maps, weights, shapley = {}, {}, None
    if protocol.orderings:
        shapley = game.shapley(target, protocol.orderings, image_generator(protocol.seed, sample.id))
        maps["shap_cam"] = enlarged(game, weighted(game, shapley.values))[0]
    for name in dict.fromkeys(protocol.curves + protocol.compared):
        method, options = parse(name)
        explained = explain_game(game, target, [method], {method: options})
        maps[name] = explained.maps[method]
        if method in explained.weights:
            weights[name] = explained.weights[method]

    curves = None
    if protocol.curves:
        curves = metrics.insertion_deletion(
            network, image, torch.stack([maps[n] for n in protocol.curves], 1), target,
            step=protocol.step, baseline=protocol.baseline, score=score,
        )  # fmt: skip
    confidence = metrics.confidence(network, image, torch.stack(list(maps.values()), 1), target, score=score)
    boxes = input_boxes(sample, int(target), image.shape[-2:])
    shared = {
        "image": sample.id, "target": int(target), "label": sample.label,
        "correct": int(target) in sample.labels, "probability": float(probabilities(model, game.logits)[0, target]),
    }  # fmt: skip
    rows = []
    for i, name in enumerate(maps):
        row: dict[str, object] = {**shared, "method": name}
        if name in protocol.curves:
            j = protocol.curves.index(name)
            row |= {"insertion": float(curves.insertion[0, j]), "deletion": float(curves.deletion[0, j])}
            row |= {"insertion_curve": _rounded(curves.insertion_curve[0, j])}
            row |= {"deletion_curve": _rounded(curves.deletion_curve[0, j])}
        row |= {
            "increase": float(confidence.iic[0, i]),
            "drop": float(confidence.average_drop[0, i]),
            "drop_in_deletion": float(confidence.add[0, i]),
        }
        if len(boxes):
            row["energy"] = float(metrics.energy_pointing_game(maps[name], [boxes])[0])
        if shapley is not None and name in protocol.compared:
            row["shap_cosine"] = float(metrics.shap_cosine(weights[name], shapley.values)[0])
        if name == "shap_cam":
            row["shap_error"] = float(shapley.standard_error.norm() / shapley.values.norm().clamp_min(1e-12))
        rows.append(row)
    return rows


def _rounded(curve: Tensor) -> list[float]:
    """Four decimals are enough for a figure, and keep the rows' file small."""
    return [round(value, 4) for value in curve.tolist()]


def input_boxes(sample: Sample, label: int, size: tuple[int, int]) -> Tensor:
    """Boxes [n, 4] of class ``label`` in pixels of the network's input, the squashed picture of ``size`` (H, W)."""
    width, height = sample.image.size
    return sample.boxes(label) * torch.tensor([size[1] / width, size[0] / height] * 2)


def image_generator(seed: int, image: str) -> torch.Generator:
    """A generator that depends on the image's name alone, so that an image's numbers do not depend on the run."""
    digest = hashlib.sha256(f"{seed}:{image}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def main(arguments: list[str] | None = None) -> None:
    """``python -m campanion.experiments.evaluation --model squeezenet1_1 --data imagenet-val --limit 500``."""
    parser = argparse.ArgumentParser(
        prog="python -m campanion.experiments.evaluation", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default="imagenet-val")
    parser.add_argument("--protocol", default="cams", choices=PROTOCOLS, help="what is measured, and the rows' name")
    parser.add_argument("--limit", type=int, help="images (default: all)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args(arguments)
    model = load_model(options.model, device=options.device)
    protocol = replace(PROTOCOLS[options.protocol], precision=options.precision)
    frame = evaluate(model, open_dataset(options.data), protocol, options.limit, options.protocol)
    print(frame.groupby("method").mean(numeric_only=True).to_string())


if __name__ == "__main__":
    main()
