"""How long a method takes for one image, without the trunk's pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch

from campanion.cams.explain import explain_game
from campanion.cams.methods import parse
from campanion.experiments.subject import Subject
from campanion.game.game import ChannelGame
from campanion.progress import track

IMAGES = 10
PATIENCE = 300.0  # seconds after which no further image is timed: Score-CAM on VGG16 takes minutes an image on a CPU


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
