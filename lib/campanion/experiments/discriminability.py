"""Notebook 20: one image, two classes: does a map follow the class that it is asked about? (FD-CAM Figs. 1 and 6)

From the rows of the pointing game (:mod:`campanion.experiments.pointing`), which hold every class of every image.
"""

from __future__ import annotations

import pandas as pd

from campanion.experiments.pointing import CENTRE, CHEAP, MASKED, RANDOM, rows_question
from campanion.experiments.protocols import FD_METHODS
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject, in_order
from campanion.results.statistics import means_and_differences

METHODS = (*FD_METHODS, RANDOM)
METRICS = ("own", "swapped", "gap", "follows", "overlap", "correlation")
#: Which of an image's two classes: the one of higher score, or the other, which FD-CAM's section IV-C is about.
PARTS = ("dominant", "other")
SHARED = 1e-4  # per cent of the image that boxes must share to overlap: less is rounding


def pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of images with exactly two classes, none of them marked difficult, with what tells the two maps apart.

    For class c and the other class d of an image, in per cent:

    - ``own``: energy of c's map in the boxes of c;
    - ``swapped``: energy of *d's* map in the boxes of c, where they are not d's own;
    - ``gap`` = own - swapped: how much of the energy goes to c's boxes because c was asked for. For a map that ignores
      the class it is the energy where both classes' boxes overlap; the random point's row says how large that part is;
    - ``follows``: 100 where the gap is positive, for maps on images whose boxes of c and d share nothing (as the
      random point's rows tell, where there are any), so that chance would give 50;
    - ``overlap``: IoU of the highest fifth of both maps, and ``correlation`` of their pixels (not in per cent).

    ``part`` says which class it is: "dominant", of the higher score, or "other". ValueError where no image has two
    classes.
    """
    clear = rows[(rows["n_classes"] == 2) & (rows["method"] != CENTRE) & ~rows["difficult"].astype(bool)]
    clear = clear[clear.groupby(["image", "method"])["target"].transform("count") == 2]
    if clear.empty:
        raise ValueError("No image in these rows has two classes: measure more images in notebook 22.")
    # With two rows for each image and method, sum - own value is the other class's value.
    by_map = clear.groupby(["image", "method"])
    elsewhere = by_map["other_energy"].transform("sum") - clear["other_energy"]
    two = clear.assign(own=clear["own_energy"], swapped=elsewhere, gap=clear["own_energy"] - elsewhere)
    shared = two["image"].isin(two.loc[(two["method"] == RANDOM) & (two["gap"] > SHARED), "image"])
    two["follows"] = (100.0 * (two["gap"] > 0)).where(~shared & (two["method"] != RANDOM))
    dominant = two["score"] == by_map["score"].transform("max")
    return two.assign(part=dominant.map({True: "dominant", False: "other"}))


def summary(rows: pd.DataFrame, subject: Subject, masked: pd.DataFrame) -> Answer:
    """Means of :data:`METRICS` by method, and differences to FD-CAM on the same images; one metric for each part.

    The metric of a part is named after it: ``gap``, ``gap_dominant``, ``gap_other``. Intervals resample images. Where
    some methods were measured on fewer images, their means are over these, and the differences over the shared ones.
    """
    all_rows = pd.concat([part for part in (rows, masked) if len(part)], ignore_index=True)
    two = pairs(all_rows)
    predicted = two.drop_duplicates(["image", "target"])["predicted"].mean()
    # Overlap and correlation are one number for a pair of classes: they have no parts.
    of_parts = {f"{metric}_{part}": two[metric].where(two["part"] == part) for part in PARTS for metric in METRICS[:4]}
    means, differences = means_and_differences(
        in_order(two.assign(**of_parts), METHODS), [*METRICS, *of_parts], "fd_cam"
    )
    return Answer(
        means,
        differences,
        accuracy=f"{100 * predicted:.1f} % of the classes in these pictures predicted",
        counted=all_rows[all_rows["image"].isin(two["image"])],
    )


def question() -> Question:
    """Notebook 20's question, put to the kept rows of the pointing game in a full run."""
    masked = rows_question("pointing_masked", MASKED, limit=0)
    return rows_question("pointing", CHEAP, limit=0, conclude=summary, beside=(masked,))
