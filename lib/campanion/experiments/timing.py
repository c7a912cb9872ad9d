"""Notebooks 15 and 30: seconds of each method, and of channel weights by matrix product and by forward passes.

LIFT-CAM asks for one backward pass of the head, Ablation-CAM for K coalitions, SHAP-CAM_n for n K of them (K channels).
A coalition is a row of a matrix product here (``game/heads.py``); published code runs the head, or the network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch

from campanion.cams.explain import explain_game
from campanion.cams.methods import get_method, parse
from campanion.data import Sample
from campanion.experiments.convergence import as_black_box
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject
from campanion.game.game import ChannelGame
from campanion.progress import track
from campanion.results.statistics import paired, summarise

IMAGES = 10
PATIENCE = 300.0  # seconds after which no further image is timed: Score-CAM on VGG16 takes minutes an image on a CPU
#: What is timed by :func:`measure`, by the name of its rows.
TITLES = {
    "forward": "one forward pass of the network",
    "lift_cam": "LIFT-CAM",
    "ablation_cam": "Ablation-CAM, matrix product",
    "ablation_cam_head": "Ablation-CAM, K forwards of the head",
    "ablation_cam_network": "Ablation-CAM, K forwards of the network",
    "shap_cam_1": "SHAP-CAM, 1 ordering, matrix product",
    "shap_cam_100": "SHAP-CAM, 100 orderings, matrix product",
    "shap_cam_1_head": "SHAP-CAM, 1 ordering, forwards of the head",
}


def median_seconds(function: Callable[[], object], block: float = 0.05) -> float:
    """Median wall time of ``function()`` over blocks that take ``block`` seconds together; a GPU's work is awaited. A
    call of twice that is timed once, after one that is not; one of ten times as long is made once.
    """
    from torch.utils.benchmark import Timer  # only here: it warns on import where a compiler's CUDA has no driver

    began = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    first = time.perf_counter() - began
    timer = Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads())
    if first >= 2 * block:  # a block of its own, which Timer would call four times
        return first if first >= 10 * block else timer.timeit(1).median
    return timer.blocked_autorange(min_run_time=block).median


def seconds_per_image(subject: Subject, methods: Sequence[str], limit: int = IMAGES) -> pd.DataFrame:
    """Median wall time of every method on each of the first ``limit`` images of ``data.order(0)``, one at a time:
    rows ``image, method, seconds_per_image``.

    Every repetition starts from a game that no other method has asked: a backward pass that several methods could share
    is paid by each; the shared forward pass of the trunk is not counted. Methods take turns image by image, so that a
    machine's slow minutes meet all of them alike. After five minutes no further image is begun, once two are timed.
    """
    for name in methods:
        parse(name)
    rows, data, began = [], subject.data, time.perf_counter()
    for index in track(data.order(0)[:limit], f"timing {len(methods)} methods", unit="image"):
        if len(rows) >= 2 * len(methods) and time.perf_counter() - began > PATIENCE:
            break
        sample = data[index]
        game = ChannelGame.of(subject.parts, subject.image(sample))
        for name in methods:
            seconds = median_seconds(partial(_once, game, subject, name))
            rows.append({"image": sample.id, "method": name, "seconds_per_image": seconds})
    return pd.DataFrame(rows)


def _once(game: ChannelGame, subject: Subject, name: str) -> None:
    fresh = game.fresh(game.head)  # without what other methods have computed, but with the graph of the shared pass
    fresh.use_network(subject.network)
    explain_game(fresh, None, [name])


def measure(subject: Subject, sample: Sample) -> list[dict[str, object]]:
    """Rows image, method (keys of :data:`TITLES`) and seconds_per_image, a median; the trunk's pass is not counted."""
    image = subject.image(sample)
    played = ChannelGame.of(subject.parts, image)
    network, target = subject.network, played.target(None)
    lift, ablation = (get_method(name).function for name in ("lift_cam", "ablation_cam"))
    batch = image.expand(32, -1, -1, -1)

    def forwards() -> None:
        for start in range(0, played.channels, len(batch)):
            network(batch[: played.channels - start])

    def fresh(black_box: bool = False) -> ChannelGame:
        """A game that remembers nothing, so that no method finds what another has computed."""
        return as_black_box(played) if black_box else played.fresh()

    timed = {
        "forward": partial(network, image),
        "lift_cam": lambda: lift(fresh(), target),
        "ablation_cam": lambda: ablation(fresh(), target),
        "ablation_cam_head": lambda: ablation(fresh(True), target),
        "ablation_cam_network": forwards,
        "shap_cam_1": lambda: fresh().shapley(target, 1),
        "shap_cam_100": lambda: fresh().shapley(target, 100),
        "shap_cam_1_head": lambda: fresh(True).shapley(target, 1),
    }
    # The first call of a process pays for what later ones find ready.
    subject.once("warm", lambda: [function() for function in timed.values()])
    return [
        {"image": sample.id, "method": name, "seconds_per_image": median_seconds(function)}
        for name, function in timed.items()
    ]


def summary(rows: pd.DataFrame, subject: Subject) -> Answer:
    """Mean seconds and their paired differences."""
    rows = rows.set_index("method").loc[list(TITLES)].reset_index()
    return Answer(summarise(rows, "seconds_per_image"), paired(rows, "seconds_per_image"))


def question() -> Question:
    """What channel weights cost, notebook 30."""
    return Question("costs", measure, summary, {"seed": 0}, anew=True, quick_images=1, data="scenes")
