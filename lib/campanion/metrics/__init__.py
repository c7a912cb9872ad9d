"""Metrics of saliency maps; each takes maps, so any map (a learned one, another library's) is measured alike."""

from campanion import torchvision_start  # noqa: F401 - before any import of torchvision
from campanion.metrics.confidence import ConfidenceResult, confidence
from campanion.metrics.curves import CurveResult, insertion_deletion
from campanion.metrics.localization import box_masks, energy_pointing_game, macro, micro, pointing_game
from campanion.metrics.similarity import shap_cosine
from campanion.metrics.stability import stability_iou

__all__ = [
    "ConfidenceResult", "CurveResult", "box_masks", "confidence", "energy_pointing_game", "insertion_deletion",
    "macro", "micro", "pointing_game", "shap_cosine", "stability_iou",
]  # fmt: skip
