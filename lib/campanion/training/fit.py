"""The loop of what is trained on the kept features of a frozen network: VOC's heads and the VQA networks.

As in :mod:`campanion.training.loop`, order and dropout of an epoch are seeded with (seed, epoch) and the learning rate
is a function of the step. So a run that was stopped resumes after its last whole epoch and ends with the same weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from campanion.paths import locked, out_dir
from campanion.progress import track
from campanion.training.checkpoint import load_state, save_state
from campanion.training.recipe import Recipe, learning_rate, make_optimiser, seed_of


def unfinished(name: str, settings: Mapping[str, object]) -> Path:
    """The folder of a run until its checkpoint is written: runs with other ``settings`` have another."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return out_dir() / "training" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def fit(
    network: nn.Module,
    loss_of: Callable[[Tensor, torch.Generator], Tensor],
    count: int,
    recipe: Recipe,
    seed: int,
    place: Path,
) -> None:
    """Train all of ``network`` that asks for gradients, in place; it ends in eval mode.

    ``loss_of`` a batch of indices (in 0 .. ``count`` - 1) may draw from the generator of the epoch. ``seed`` is of the
    order, the draws and dropout; ``place`` the folder of the state, of this run alone.
    """
    optimiser = make_optimiser([p for p in network.parameters() if p.requires_grad], recipe)
    batches_per_epoch = -(-count // recipe.batch)
    with locked(place / "lock"), torch.random.fork_rng():  # dropout draws from the global generator
        history = []
        if (state := load_state(place)) is not None:
            network.load_state_dict(state["network"])
            optimiser.load_state_dict(state["optimiser"])
            history = state["history"]
        for epoch in range(len(history), recipe.epochs):
            generator = torch.Generator().manual_seed(seed_of(seed, epoch, 0))
            torch.manual_seed(seed_of(seed, epoch, 2))
            network.train()
            batches, total = torch.randperm(count, generator=generator).split(recipe.batch), 0.0
            shown = track(batches, f"epoch {epoch + 1} of {recipe.epochs}", unit="batch")
            for step, batch in enumerate(shown, start=epoch * batches_per_epoch):
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(recipe, step, batches_per_epoch * recipe.epochs)
                loss = loss_of(batch, generator)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()
            history.append({"epoch": epoch + 1, "train_loss": total / len(batches)})
            parts = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            save_state(place, {**parts, "history": history})
            print(f"epoch {epoch + 1}: mean loss {total / len(batches):.4f}", flush=True)
    network.eval()
