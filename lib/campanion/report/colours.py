"""One colour for each network, method and attention mechanism, the same in every figure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from campanion.report.networks import NETWORKS, NetworkName

#: What the papers print.
PAPER = "#D55E00"
METHODS = {
    "fd_cam": "#000000",
    "lift_cam": "#D55E00",
    "grad_cam": "#0072B2",
    "grad_cam_pp": "#56B4E9",
    "xgrad_cam": "#009E73",
    "layer_cam": "#CC79A7",
    "score_cam": "#E69F00",
    "group_cam": "#777777",
    "ablation_cam": "#882255",
    "shap_cam": "#332288",
    "cam": "#999933",
    "gradient": "#117733",
    "smooth_grad": "#44AA99",
    "integrated_gradients": "#88CCEE",
    "xrai": "#AA4499",
    "lrp_cam": "#CC6677",
    "lime_cam": "#DDCC77",
}
ATTENTION = {"plain": "#777777", "abn": "#E69F00", "lfi": "#0072B2"}
OTHER = NetworkName("", "")  # the look of what is not listed
_LINES = ("-", "--", "-.", ":")


def network(model: str, data: str = "") -> dict[str, str]:
    """Colour and mark of a network, for ``ax.plot``; the mark is hollow on COCO, whose networks are those of VOC."""
    parts = model.split("_")
    listed = model if model in NETWORKS else parts[1] if len(parts) > 3 else ""  # a training run names its network
    look = NETWORKS.get(listed, OTHER)
    return {"color": look.colour, "marker": look.mark, "mfc": "white" if data.startswith("coco") else look.colour}


def method(name: str) -> str:
    """The colour of a method, whatever follows its name: ``xgrad_cam:lift``, ``shap_cam_100``."""
    base = "shap_cam" if name.startswith("shap_cam") else re.split("[:,]", name)[0]
    return METHODS.get(base, OTHER.colour)


def lines(methods: Iterable[str]) -> Mapping[str, dict[str, str]]:
    """Colour and line style of each method; a second form of a method has the next line style."""
    looks, seen = {}, Counter()
    for name in methods:
        colour = method(name)
        place = list(METHODS.values()).index(colour) + seen[colour]
        looks[name] = {"color": colour, "ls": _LINES[place % len(_LINES)]}
        seen[colour] += 1
    return looks


def attention(kind: str) -> str:
    """The colour of the plain network, of ABN or of LFI-CAM in any of its forms: ``lfi_cam:paper``, ``lfi-table3``."""
    return ATTENTION["lfi" if kind.startswith("lfi") else kind]
