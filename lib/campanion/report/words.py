"""Numbers and answers as a person would write them: ``-0.011 [-0.017, -0.005]``."""

from __future__ import annotations

from math import floor, log10

from campanion.cams.methods import label
from campanion.report.rule import Comparison
from campanion.results.measures import TITLES, limits

_MOST = 4  # decimals
_NAMES = {
    "plain": "the plain network",
    "lfi-paper": "LFI-CAM",
    "lfi-paper-finfrozen": "LFI-CAM with a frozen FIN",
    "lfi-paper-finnone": "LFI-CAM without FIN",
    "fd_cam:percentile=5,percentile_of=channel": "FD-CAM's groups",
}


def method(name: str) -> str:
    """A method, or a row that stands for none, as one prints it: ``XGrad-CAM``, ``SHAP-CAM (100 orderings)``."""
    first, _, rest = name.partition(" ")
    if rest in ("lfi_cam", "mean_features"):
        return f"{method(first)}{', map' if rest == 'lfi_cam' else ', mean of the features'}"
    if name.startswith("shap_cam_"):
        return f"SHAP-CAM ({counted(name.removeprefix('shap_cam_'), 'ordering')})"
    return _NAMES.get(name, label(name).replace(" (lift)", ""))


def metric(name: str) -> str:
    """A metric within a sentence, without its unit: ``deletion AUC``."""
    title = TITLES[name].partition(" (")[0]
    return title if title[1:2].isupper() else title[0].lower() + title[1:]


def counted(number: int | str, noun: str) -> str:
    """A number and its noun, which has an s but for one: ``1 claim``, ``10 orderings``."""
    return f"{number} {noun}{'s' * (str(number) != '1')}"


def number(value: float, decimals: int, sign: bool = False) -> str:
    """A number without a minus before zero."""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{decimals}f}"


def decimals(half_width: float, least: int = 0) -> int:
    """How many decimals a number deserves whose interval is so wide: one significant digit of the half-width, two if
    the first is a 1."""
    if half_width <= 0:
        return _MOST
    power = floor(log10(half_width))
    return min(max(-power + (half_width / 10**power < 2), least, 0), _MOST)


def interval(value: float, low: float | None, high: float | None, metric: str = "", sign: bool = False) -> str:
    """A number with its 95 % interval: ``-0.011 [-0.017, -0.005]``."""
    least = 1 if "(%)" in TITLES.get(metric, "") else 3 if limits(metric)[1] == 1 else 0
    if low is None or high is None or low != low:
        return f"{number(value, max(least, 2), sign)} (no interval)"
    if low == high:
        return number(value, 2 if abs(value) >= 1 else _MOST, sign)
    places = decimals((high - low) / 2, least)
    return f"{number(value, places, sign)} [{number(low, places)}, {number(high, places)}]"


def measured(c: Comparison) -> str:
    """The value of a comparison with its interval, which stays where the metric can be."""
    if " / " in c.method:
        value, *ends = (f"{float(f'{v:.2g}'):,.{int(v < 10)}f}" for v in (c.value, c.low, c.high) if v is not None)
        return f"{value} times{f' [{ends[0]}, {ends[1]}]' if ends else ''}"
    if c.reference is not None or c.low is None:
        return interval(c.value, c.low, c.high, c.metric, sign=c.reference is not None)
    least, most = (-1.0, 1.0) if c.method.startswith("rank") else limits(c.metric)
    return interval(c.value, max(c.low, least), min(c.high, most), c.metric)


def size(c: Comparison) -> str:
    """The N of a comparison: images (or trainings), or the methods over which a rank correlation is."""
    return f"{c.n:,}{' methods' * c.method.startswith('rank correlation')}"


def printed(c: Comparison) -> str:
    """The paper's own value of the comparison, or an empty text."""
    if c.printed is None:
        return ""
    text = f"{c.printed:.4f}".rstrip("0").rstrip(".")
    return f"+{text}" if c.reference is not None and c.printed > 0 else text


def quantity(c: Comparison) -> str:
    """What is compared: ``Insertion AUC: FD-CAM - Grad-CAM``; differences are turned, above 0 is as claimed."""
    if " / " in c.method:
        slow, fast = c.method.split(" / ")
        return f"Time of {method(slow)} over that of {method(fast)}"
    if c.method.startswith("rank correlation"):
        return f"{TITLES[c.metric]}: rank correlation with the {TITLES[c.method.rpartition(' ')[2]].lower()}"
    first, *second = (method(m) for m in (c.method, c.reference) if m is not None)
    name = f"{first} over {second[0]}" if second else first
    bound = "" if not c.bound else f" ({'at least' if c.sign > 0 else 'at most'} {c.bound:.4g})"
    return f"{TITLES[c.metric]}: {name}{bound}"


def chance(power: float | None) -> str:
    """A power as text: ``31 %``, ``below 1 %``, or empty where the paper prints no difference."""
    if power is None:
        return ""
    return "below 1 %" if power < 0.005 else "above 99 %" if power > 0.995 else f"{100 * power:.0f} %"
