"""One picture, two classes: does a map follow the class that it is asked about? (FD-CAM Figs. 1 and 6, in numbers)

From the rows of :func:`campanion.experiments.pointing.evaluate_pointing`, which hold every class of every picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from campanion.data import open_dataset
from campanion.errors import MissingResult
from campanion.experiments.modes import QUICK_IMAGES, QUICK_MODELS, committed
from campanion.experiments.pointing import CENTRE, RANDOM, evaluate_pointing, pointing_settings
from campanion.experiments.protocols import FD_METHODS
from campanion.models import load_model
from campanion.results import provenance
from campanion.results.rows import read_rows, rows_path
from campanion.results.statistics import paired, summarise
from campanion.results.store import load_result, make_run, save_result

METHODS = (*FD_METHODS, RANDOM)
METRICS = ("own", "swapped", "gap", "follows", "overlap", "correlation")
#: Which of a picture's two classes: both, the one of higher score, or the other, which FD-CAM's section IV-C is about.
PARTS = ("both", "dominant", "other")
SHARED = 1e-4  # per cent of the picture that boxes must share to overlap: less is rounding
ROWS = ("pointing", "pointing_masked")  # names of the rows in a full run: cheap methods, and those with masked pictures


def pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of pictures with exactly two classes, none of them marked difficult, with what tells the two maps apart.

    For class c and the other class d of a picture, in per cent:

    - ``own``: energy of c's map in the boxes of c;
    - ``swapped``: energy of *d's* map in the boxes of c, where they are not d's own;
    - ``gap`` = own - swapped: how much of the energy goes to c's boxes because c was asked for. For a map that ignores
      the class it is the energy where both classes' boxes overlap; the random point's row says how large that part is;
    - ``follows``: 100 where the gap is positive, for maps on pictures whose boxes of c and d share nothing (as the
      random point's rows tell, where there are any), so that chance would give 50;
    - ``overlap``: IoU of the highest fifth of both maps, and ``correlation`` of their pixels (not in per cent).

    ``part`` says which class it is: "dominant", of the higher score, or "other".

    Args:
        rows: with image, target, method, n_classes, difficult, score, own_energy, other_energy, overlap, correlation.

    Raises:
        ValueError: no picture has two classes.
    """
    two = rows[(rows["n_classes"] == 2) & (rows["method"] != CENTRE)]
    clear = two[~two["difficult"].astype(bool)]
    per = clear.groupby(["image", "method"])["target"]
    clear = clear[per.transform("count") == 2]
    if clear.empty:
        raise ValueError("No picture in these rows has two classes: discriminability needs some.")
    # With two rows for each picture and method, sum - own value is the other class's value.
    both = clear.groupby(["image", "method"])
    elsewhere = both["other_energy"].transform("sum") - clear["other_energy"]
    result = clear.assign(own=100 * clear["own_energy"], swapped=100 * elsewhere, overlap=100 * clear["overlap"])
    result["gap"] = result["own"] - result["swapped"]
    even = result[result["method"] == RANDOM]
    shared = result["image"].isin(even.loc[even["gap"] > SHARED, "image"])
    result["follows"] = (100.0 * (result["gap"] > 0)).where(~shared & (result["method"] != RANDOM))
    result["part"] = "other"
    top = result.groupby(["image", "method"])["score"].transform("max")
    result.loc[result["score"] == top, "part"] = "dominant"
    return result


def summary(found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means of :data:`METRICS` by method, and differences to FD-CAM on the same pictures; one metric for each part.

    The metric of a part is named after it: ``gap``, ``gap_dominant``, ``gap_other``. Intervals resample pictures. Where
    some methods were measured on fewer pictures, their means are over these, and the differences over the shared ones.
    """
    order = {m: i for i, m in enumerate(METHODS)}
    found = found[found["method"].isin(METHODS)].sort_values("method", key=lambda m: m.map(order), kind="stable")
    means, differences = [], []
    for part in PARTS:
        rows = found if part == "both" else found[found["part"] == part]
        # Overlap and correlation are one number for a pair of classes: they have no parts.
        for metric in METRICS if part == "both" else METRICS[:4]:
            name = metric if part == "both" else f"{metric}_{part}"
            told = rows.assign(**{name: rows[metric]})
            told = told[told[name].notna()]
            if len(told):
                means.append(summarise(told, name))
                differences.append(paired(told, name, "fd_cam"))
    return pd.concat(means, ignore_index=True), pd.concat(differences, ignore_index=True)


def study(notebook: str, mode: str, models: Sequence[str], limit: int | None = None, device: str = "cpu") -> dict:
    """The result of ``notebook``: :func:`summary` for every model.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` measures generated scenes with this project's small
            networks; ``"full"`` takes the per-image rows of the pointing game (Table II's notebook) of ``models``.
        models: ``"voc_mlp@voc2007"``, the network and its data.
        limit: scenes of a quick run (24 at most).

    Raises:
        MissingResult: there is no result, or the pointing game has not been measured.
        ValueError: unknown mode.
    """
    if (result := committed(notebook, mode)) is not None:
        return result
    measured = _scenes(notebook, limit, device) if mode == "quick" else [_kept(m) for m in models]
    runs = []
    for model, data, rows, settings in measured:
        found = pairs(rows)
        present = found.drop_duplicates(["image", "target"])["predicted"].mean()
        accuracy = f"{100 * present:.1f} % of the classes in these pictures predicted"
        facts = {**load_model(model, device=device).weights, "accuracy": accuracy}
        images = found["image"].nunique()
        # A picture's seconds stand in each of its rows; what two protocols measured of it took two times.
        seconds = rows[rows["image"].isin(found["image"])].drop_duplicates(["image", "seconds"])["seconds"].sum()
        record = provenance.collect(mode, data, images, facts, device, seconds / 60, settings["seed"], settings)
        record["device"] = " and ".join(sorted(rows["device"].unique()))  # where the rows were measured
        means, differences = summary(found)
        runs.append(make_run(means, differences, record, model))
    save_result(notebook, runs)
    return load_result(notebook)


def _scenes(notebook: str, limit: int | None, device: str) -> list[tuple[str, str, pd.DataFrame, dict]]:
    data, measured = open_dataset("scenes"), []
    limit = min(limit or QUICK_IMAGES, QUICK_IMAGES)
    for name in QUICK_MODELS:
        model = load_model(name, device=device)
        rows = evaluate_pointing(model, data, METHODS, limit, name=f"quick_{notebook}", fresh=True)
        measured.append((name, "scenes", rows, pointing_settings(model, data, METHODS, 0, "float32")))
    return measured


def _kept(model: str) -> tuple[str, str, pd.DataFrame, dict]:
    """Rows of the pointing game: all of the cheap methods', and those of the others that there are."""
    model, _, data = model.partition("@")
    data = data or "voc2007"
    rows, settings = read_rows(rows_path(data, model, ROWS[0]))
    try:
        more, also = read_rows(rows_path(data, model, ROWS[1]))
    except MissingResult:
        return model, data, rows, settings
    if also["weights"] != settings["weights"]:
        raise ValueError(f"The rows {ROWS[0]} and {ROWS[1]} of {model} are of different weights: measure both anew.")
    return model, data, pd.concat([rows, more], ignore_index=True), settings
