"""Seconds per image of each method, the shared forward pass of the trunk not counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch
from torch import nn

from campanion.cams import explain_game
from campanion.cams.methods import parse
from campanion.data import Dataset
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.progress import track

IMAGES = 10


def median_seconds(function: Callable[[], object], least: float = 0.1) -> float:
    """Median wall time of ``function()`` over blocks that take ``least`` seconds together; a GPU's work is awaited."""
    from torch.utils.benchmark import Timer  # only here: it warns on import where a compiler's CUDA has no driver

    timer = Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=least).median


def seconds_per_image(
    model: nn.Module,
    data: Dataset,
    methods: Sequence[str],
    limit: int = IMAGES,
    precision: str = "float32",
    seed: int = 0,
) -> pd.DataFrame:
    """Median wall time of every method on each of the first ``limit`` images of ``data.order(seed)``, one at a time.

    Every repetition starts from a game that no other method has asked: a backward pass that several methods could share
    is paid by each. Methods take turns image by image, so that a machine's slow minutes meet all of them alike.

    Args:
        methods: as :func:`campanion.cams.methods.parse` reads them.
        precision: of masked pictures' forwards (Score-CAM), see :func:`campanion.inference.fast`.

    Returns:
        Rows with ``image, method, seconds_per_image``.

    Example:
        >>> seconds_per_image(model, open_dataset("imagenet-val"), ["lift_cam", "ablation_cam"], limit=5)
    """
    network = fast(model, precision)
    device = next(model.parameters()).device
    rows = []
    for index in track(data.order(seed)[:limit], f"timing {len(methods)} methods", unit="image"):
        sample = data[index]
        game = ChannelGame.of(model, model.preprocess(sample.image).unsqueeze(0).to(device))
        for name in methods:
            method, options = parse(name)
            seconds = median_seconds(partial(_once, game, network, method, options))
            rows.append({"image": sample.id, "method": name, "seconds_per_image": seconds})
    return pd.DataFrame(rows)


def _once(game: ChannelGame, network: nn.Module, method: str, options: dict) -> None:
    fresh = game.image(0)  # without what other methods have computed
    fresh.use_network(network)
    explain_game(fresh, None, [method], {method: options})
