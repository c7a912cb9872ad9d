"""SHAP-CAM with few orderings (LIFT-CAM Table 1): how faithful are its maps, and how much do they owe to luck?

SHAP-CAM_n is the map of the Shapley values that n random orderings of the channels give (Algorithm 1). The paper takes
n = 1, 10 and 100 and averages ten simulations, each with orderings of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import nn

from campanion import metrics
from campanion.cams.explain import enlarged, weighted
from campanion.data import Dataset, Sample, open_dataset
from campanion.experiments.evaluation import evaluate, image_generator, settings_of
from campanion.experiments.modes import QUICK_IMAGES, QUICK_MODELS, committed, pick_device
from campanion.experiments.protocols import LIFT_METHODS, LIFT_ROWS, Protocol
from campanion.experiments.resumed import per_image
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models import load_model
from campanion.outputs import probabilities
from campanion.results import provenance
from campanion.results.measures import as_published
from campanion.results.rows import read_rows, rows_path, with_rows, write_rows
from campanion.results.statistics import paired, summarise
from campanion.results.store import load_result, make_run, save_result

METRICS = ("iic", "ad", "add")
ROWS = "orderings"


@dataclass(frozen=True)
class Orderings:
    """What is measured; all of it decides numbers and is kept in the rows' file.

    Attributes:
        counts: numbers of orderings n.
        simulations: independent sets of orderings for each n.
        seed: of the order of the images and of the orderings.
        precision: of the masked pictures' forwards, see :func:`campanion.inference.fast`.
        layer: the target layer, by default the model's own.
    """

    counts: tuple[int, ...] = (1, 10, 100)
    simulations: int = 10
    seed: int = 0
    precision: str = "float32"
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.simulations < 1 or not self.counts or min(self.counts) < 1:
            raise ValueError(f"counts and simulations must be at least 1; got {self.counts} and {self.simulations}.")

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the rows: ``shap_cam_1`` and so on."""
        return tuple(f"shap_cam_{n}" for n in self.counts)


def evaluate_orderings(
    model: nn.Module, data: Dataset, protocol: Orderings | None = None, limit: int | None = None, **options: object
) -> pd.DataFrame:
    """Rows (image x method x simulation) of at least the first ``limit`` images, predicted classes; resumable.

    Columns: target, label, correct, probability, increase (Y < O), drop, drop_in_deletion (fractions, LIFT-CAM eq. 12
    to 14), seconds (of the image, in all rows of it), device and torch. ``options`` are those of
    :func:`campanion.experiments.resumed.per_image`.

    Example:
        >>> rows = evaluate_orderings(load_model("scenes_vgg"), open_dataset("scenes"), limit=10)
    """
    protocol = protocol or Orderings()
    network = fast(model, protocol.precision)
    options = {"name": ROWS, "key": ("image", "method", "simulation"), **options}
    settings = settings_of(model, data, protocol)
    return per_image(
        lambda sample: measure(model, network, sample, protocol), model, data, settings, limit=limit, **options
    )


def measure(model: nn.Module, network: nn.Module, sample: Sample, protocol: Orderings) -> list[dict[str, object]]:
    """The rows of one image, one for each number of orderings and simulation."""
    image = model.preprocess(sample.image).unsqueeze(0).to(next(model.parameters()).device)
    game = ChannelGame.of(model, image, protocol.layer)
    target = game.target(None)
    generator = image_generator(protocol.seed, sample.id)
    runs = [
        (name, n, s)
        for name, n in zip(protocol.methods, protocol.counts, strict=True)
        for s in range(protocol.simulations)
    ]
    weights = torch.cat([game.shapley(target, n, generator).values for _, n, _ in runs])
    # Simulations that agree (with a linear head all do) share one map.
    distinct, place = torch.unique(weights, dim=0, return_inverse=True)
    maps = torch.cat([enlarged(game, weighted(game, each[None]))[0] for each in distinct])
    score = getattr(model, "activation", "softmax")
    confidence = metrics.confidence(network, image, maps.unsqueeze(0), target, score=score)
    shared = {
        "image": sample.id, "target": int(target), "label": sample.label,
        "correct": int(target) in sample.labels, "probability": float(probabilities(model, game.logits)[0, target]),
    }  # fmt: skip
    return [
        {
            **shared, "method": name, "simulation": s, "increase": float(confidence.iic[0, j]),
            "drop": float(confidence.average_drop[0, j]), "drop_in_deletion": float(confidence.add[0, j]),
        }
        for (name, _, s), j in zip(runs, place.tolist(), strict=True)
    ]  # fmt: skip


def by_simulation(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over the images of each simulation: method, simulation, iic, ad, add (per cent)."""
    return as_published(rows).groupby(["method", "simulation"], sort=False, as_index=False)[list(METRICS)].mean()


def study_orderings(
    notebook: str,
    mode: str,
    models: Sequence[str],
    limit: int | None = None,
    precision: str = "float32",
    device: str = "auto",
    protocol: Orderings | None = None,
) -> dict:
    """The result of ``notebook``: SHAP-CAM_1, _10, _100, and six CAMs on the same images.

    The interval of a mean is the bootstrap's over images of their means over simulations; ``sd`` is the spread of the
    simulations' own means, kept in ``extra["simulations"]``: the part of a single simulation's number that is luck.
    The six CAMs come from the committed rows of protocol ``lift`` or ``cams`` where they are there.

    Args:
        mode: ``"cached"`` reads the committed result, ``"quick"`` measures generated scenes with this project's two
            small networks, ``"full"`` measures ``models``, resuming finished images.
        models: names, with their data set: ``"voc_mlp@voc2007"``; without one it is ``imagenet-val``.
        limit: images of each data set (None: all; quick: 24).
        precision: of the masked pictures' forwards (quick: float32).

    Raises:
        MissingResult: cached, and there is no result; the sentence names the command that makes it.
        ValueError: unknown mode.
    """
    if (result := committed(notebook, mode)) is not None:
        return result
    if mode == "quick":
        models, limit, precision = [f"{name}@scenes" for name in QUICK_MODELS], limit or QUICK_IMAGES, "float32"
    protocol = replace(protocol or Orderings(), precision=precision)
    save_result(notebook, [_run(notebook, mode, each, limit, protocol, pick_device(device)) for each in models])
    return load_result(notebook)


def _run(notebook: str, mode: str, model: str, limit: int | None, protocol: Orderings, device: str) -> dict:
    model, _, data = model.partition("@")
    network, pictures = load_model(model, device=device), open_dataset(data or "imagenet-val")
    # Quick runs of several notebooks may go on side by side, and each measures anew.
    own = {"name": f"quick_{notebook}", "fresh": True} if mode == "quick" else {}
    rows = evaluate_orderings(network, pictures, protocol, limit, **own)
    settings = settings_of(network, pictures, protocol)
    write_rows(rows, rows_path(pictures.name, model, ROWS), settings)
    if mode == "quick":
        confidence = Protocol(curves=(), compared=LIFT_METHODS, orderings=0, seed=protocol.seed)
        cams = evaluate(network, pictures, confidence, limit, name=f"quick_{notebook}_cams", fresh=True)
    else:
        path = rows_path(pictures.name, model, with_rows(LIFT_ROWS, pictures.name, model))
        cams = read_rows(path)[0] if path.exists() else None
    one = rows.drop_duplicates("image")
    right = f"{100 * one['correct'].mean():.1f} % on these {len(one):,} images"
    several = getattr(network, "activation", "softmax") == "sigmoid"
    accuracy = f"the highest class is present in {right}" if several else f"top-1 {right}"
    record = provenance.collect(
        mode, pictures.name, len(one), {**network.weights, "accuracy": accuracy}, device, one["seconds"].sum() / 60,
        protocol.seed, {**settings, "protocol": ROWS},
    )  # fmt: skip
    record["device"] = " and ".join(sorted(one["device"].unique()))
    record["versions"]["torch"] = " and ".join(sorted(one["torch"].unique()))
    return make_run(*_tables(rows, cams), record, model, {"simulations": _simulations(rows)})


def _tables(rows: pd.DataFrame, cams: pd.DataFrame | None) -> tuple[list[dict], pd.DataFrame]:
    """Summary rows and paired differences of the SHAP-CAMs, averaged over simulations, and of ``cams``."""
    columns = ["image", "method", *METRICS]
    frame = as_published(rows).groupby(["image", "method"], sort=False, as_index=False)[list(METRICS)].mean()
    if cams is not None:
        known = cams[cams["method"].isin(LIFT_METHODS) & cams["image"].isin(set(frame["image"]))]
        frame = pd.concat([frame, as_published(known)[columns]], ignore_index=True)
    spread = by_simulation(rows).groupby("method")[list(METRICS)].std(ddof=1)
    summary = summarise(frame, METRICS).to_dict("records")
    for row in summary:
        if row["method"] in spread.index:
            row["sd"] = spread.loc[row["method"], row["metric"]]
    return summary, paired(frame, METRICS)


def _simulations(rows: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
    means = by_simulation(rows)
    return {
        method: {metric: part[metric].tolist() for metric in METRICS}
        for method, part in means.sort_values("simulation").groupby("method", sort=False)
    }


def main(arguments: list[str] | None = None) -> None:
    """``python -m campanion.experiments.orderings --model squeezenet1_1 --data imagenet-val --limit 500``."""
    parser = argparse.ArgumentParser(
        prog="python -m campanion.experiments.orderings", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default="imagenet-val")
    parser.add_argument("--limit", type=int, help="images (default: all)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args(arguments)
    model = load_model(options.model, device=options.device)
    protocol = Orderings(precision=options.precision)
    print(by_simulation(evaluate_orderings(model, open_dataset(options.data), protocol, options.limit)).to_string())


if __name__ == "__main__":
    main()
