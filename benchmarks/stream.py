"""Explain many images, or draw many orderings, in a process of its own: its memory and seconds as JSON."""

from __future__ import annotations

import json
import sys
from functools import partial

import torch
from campanion import explain, load_model
from campanion.game.game import ChannelGame
from clock import high_water, timed

BATCH, SIDE = 20, 64
METHODS = ("grad_cam", "lift_cam", "ablation_cam", "fd_cam", "shap_cam")


def stream(kind: str, count: int, device: str = "cpu") -> dict[str, float]:
    """``mb``, the most memory of this process so far, and ``s``, the seconds of the explanations.

    Images come in batches of 20 and their maps are dropped, as a loop over a data set does.
    """
    model, draw = load_model("scenes_vgg", device=device), torch.Generator().manual_seed(0)
    seconds = 0.0
    if kind == "images":
        for start in range(0, count, BATCH):
            batch = torch.randn(min(BATCH, count - start), 3, SIDE, SIDE, generator=draw).to(device)
            seconds += timed(partial(explain, model, batch, methods=METHODS, orderings=10), device)[0]
    else:
        game = ChannelGame.of(model, torch.randn(1, 3, SIDE, SIDE, generator=draw).to(device))
        seconds = timed(partial(game.shapley, None, count), device)[0]
    most = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else high_water(reset=False)
    return {"mb": round(most, 1), "s": round(seconds, 3)}


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    print(json.dumps(stream(sys.argv[1], int(sys.argv[2]), sys.argv[4])))
