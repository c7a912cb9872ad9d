"""What is measured: the name of every metric in rows and tables, its title with the unit, which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from campanion.errors import one_of

_HIGHER = {
    "insertion": "Insertion AUC",
    "overall": "Insertion - deletion",
    "overall_several": "Insertion - deletion, several targets",
    "early_insertion": "Insertion after a seventh",
    "pointing_accuracy": "Pointing game accuracy (%)",
    "pointing_not_predicted": "Pointing accuracy, not predicted (%)",
    "own_energy": "Energy on its own class (%)",
    "iic": "Increase in confidence (%)",
    "add": "Average drop in deletion (%)",
    "shap_cosine": "Cosine with SHAP values",
    "energy_proportion": "Energy in the box (%)",
    "grid_energy": "Energy in the half of the class (%)",
    "grid_hit": "Highest point in the half of the class (%)",
    "map_mean": "Mean of the map",
    "iou": "IoU between models (%)",
    "within": "Cosine within a group",
}
_LOWER = {
    "deletion": "Deletion AUC",
    "early_deletion": "Deletion after a seventh",
    "other_energy": "Energy on other classes (%)",
    "overlap": "Overlap of two classes' maps (%)",
    "score_change": "Change of the score (%)",
    "variation": "Total variation",
    "ad": "Average drop (%)",
    "local_accuracy_gap": "Gap to local accuracy (%)",
    "lrp_gap": "Gap to LRP (%)",
    "top1_error": "Top-1 error (%)",
    "accuracy_range": "Range of accuracies (points)",
    "parameters": "Parameters (M)",
    "seconds_per_image": "Seconds per image",
}

DIRECTION: Mapping[str, str] = dict.fromkeys(_HIGHER, "higher") | dict.fromkeys(_LOWER, "lower")
TITLES: Mapping[str, str] = _HIGHER | _LOWER
_SHARES = ("insertion", "deletion", "early_insertion", "early_deletion", "small", "empty", "distinct")
_UNIT = dict.fromkeys(_SHARES, (0.0, 1.0)) | dict.fromkeys(("overall", "shap_cosine", "within", "between"), (-1.0, 1.0))
_OPEN = frozenset({"add", "score_change", "local_accuracy_gap", "lrp_gap"})  # in per cent, but not shares of a whole


def better(metric: str) -> int:
    """1 where higher values of ``metric`` are better, -1 where lower ones are; ValueError for an unknown metric."""
    one_of("metric", metric, DIRECTION)
    return 1 if DIRECTION[metric] == "higher" else -1


def limits(metric: str) -> tuple[float, float]:
    """Between which values a mean of the metric can lie, such as (0, 100); infinite for a metric that is not listed."""
    if metric in _UNIT:
        return _UNIT[metric]
    share = metric.startswith("best_") or (TITLES.get(metric, "").endswith("(%)") and metric not in _OPEN)
    return (0.0, 100.0) if share else (-inf, inf)
