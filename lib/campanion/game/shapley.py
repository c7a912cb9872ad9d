"""Shapley values of a channel game from sampled orderings (LIFT-CAM eq. 6 and Algorithm 1).

    phi_k = E over orderings of [ v(k and all before it) - v(all before it) ]

Algorithm 1 evaluates the head twice per channel and ordering. Here an ordering costs one running sum of the channels'
contributions (``game/heads.py``), and channels that contribute nothing (null players: their marginals are exactly
zero in every ordering) are left out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from campanion.progress import track

if TYPE_CHECKING:
    from campanion.game.game import ChannelGame

_BLOCK_ELEMENTS = 2**24  # numbers held at once by the orderings of one block: 64 MB in float32
_CACHED = 2**20  # numbers that stay in a processor's cache: 4 MB in float32


@dataclass(frozen=True)
class Shapley:
    """Shapley values [B, K] in logits, their standard errors [B, K] and the number of orderings that they took."""

    values: Tensor
    standard_error: Tensor
    orderings: int


@torch.no_grad()
def sample(
    game: ChannelGame,
    target: Tensor,
    orderings: int = 100,
    generator: torch.Generator | None = None,
    antithetic: bool = False,
    tolerance: float | None = None,
    progress: bool = False,
) -> Shapley:
    """Estimate the values of ``game`` for classes ``target`` [B]; arguments as in :meth:`ChannelGame.shapley`."""
    if orderings < 1 or (antithetic and orderings % 2):
        raise ValueError(f"orderings must be at least 1, and even when antithetic; got {orderings}.")
    if game.head.kind == "linear":  # additive game: every marginal of k is C_k, whatever came before
        values = game.contributions(target)[0].squeeze(2)
        return Shapley(values.clone(), torch.zeros_like(values), orderings)
    generator = generator or torch.Generator().manual_seed(0)
    walks = [_walk(game, b, target) for b in range(len(target))]
    pairs = 2 if antithetic else 1
    size = max(1, min(512, _BLOCK_ELEMENTS // _numbers_per_ordering(game, target)))
    starts = range(0, orderings // pairs, size)
    total = squares = torch.zeros(len(target), game.channels, dtype=torch.float64, device=target.device)
    done = 0
    for start in track(starts, "orderings") if progress else starts:
        count = min(size, orderings // pairs - start)
        # Drawn on the CPU whatever the device, so that a seed means the same orderings everywhere.
        order = torch.rand(count, game.channels, generator=generator).argsort(1).to(target.device)
        marginals = torch.stack([walk(order) for walk in walks])
        if antithetic:
            marginals = (marginals + torch.stack([walk(order.flip(1)) for walk in walks])) / 2
        total, squares = total + marginals.sum(1), squares + marginals.square().sum(1)
        done += count
        if tolerance is not None and done > 1:
            error = _standard_error(total, squares, done).norm(dim=1)
            if bool((error <= tolerance * (total / done).norm(dim=1)).all()):
                break
    dtype = game.activations.dtype
    return Shapley((total / done).to(dtype), _standard_error(total, squares, done).to(dtype), done * pairs)


def _standard_error(total: Tensor, squares: Tensor, n: int) -> Tensor:
    """Standard error of the mean from sums over n draws; infinite for one draw, where it cannot be known."""
    if n < 2:
        return torch.full_like(total, torch.inf)
    return ((squares / n - (total / n).square()).clamp_min(0) / (n - 1)).sqrt()


def _numbers_per_ordering(game: ChannelGame, target: Tensor) -> int:
    if game.head.kind == "generic":
        return game.channels**2
    width = game.contributions(target)[0].shape[2]
    return (2 if game.head.kind == "pixel" else 5) * width + 4 * game.channels


def _walk(game: ChannelGame, b: int, target: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from orderings [R, K] to the marginals [R, K] (float64, by channel) of image ``b``."""
    if game.head.kind == "generic":
        live = (game.activations[b] != 0).flatten(1).any(1)

        def values(steps: Tensor) -> Tensor:
            place = torch.full((len(steps), game.channels), game.channels, device=steps.device)
            ranks = torch.arange(steps.shape[1] + 1, device=steps.device)
            place.scatter_(1, steps, ranks[:-1].expand_as(steps))
            rows = (place.unsqueeze(1) < ranks[None, :, None]).flatten(0, 1).to(game.activations.dtype)
            return game.value_of_image(b, rows, target)[0].reshape(len(steps), -1)
    else:
        each, offset = (part[b] for part in game.contributions(target))
        live = (each != 0).any(1)
        one = target[b : b + 1]
        pixel = game.head.kind == "pixel"

        def values(steps: Tensor) -> Tensor:
            if pixel:
                return _pixel_prefixes(game.head.rest, each, offset, steps)
            return _mlp_prefixes(lambda z: game.head.finish(z, one), each, offset, steps)

    def marginals(order: Tensor) -> Tensor:
        steps = order[live[order]].reshape(len(order), -1)
        out = torch.zeros(order.shape, dtype=torch.float64, device=order.device)
        return out.scatter_(1, steps, values(steps).diff(dim=1).double())

    return marginals


def _pixel_prefixes(rest: tuple, each: Tensor, offset: Tensor, steps: Tensor) -> Tensor:
    """v of the empty set and of every prefix of ``steps`` [R, L] for a pixel head: [R, L + 1].

    One running sum [R, pixels] that stays in the processor's cache, instead of R x L x pixels in memory; for a lone
    ReLU without allocating anything either, which halves the time.
    """
    running = offset.repeat(len(steps), 1)
    scratch = torch.empty_like(running)
    mean = torch.full_like(offset, 1 / len(offset))
    values = running.new_empty(steps.shape[1] + 1, len(steps))
    columns = steps.T.contiguous()
    lone_relu = len(rest) == 1 and isinstance(rest[0], nn.ReLU)
    for i in range(len(values)):
        if i:
            running += torch.index_select(each, 0, columns[i - 1], out=scratch)
        z = torch.clamp_min(running, 0, out=scratch) if lone_relu else running
        for step in () if lone_relu else rest:
            z = step(z)
        torch.mv(z, mean, out=values[i])
    return values.T


def _mlp_prefixes(finish: Callable[[Tensor], Tensor], each: Tensor, offset: Tensor, steps: Tensor) -> Tensor:
    """v of the empty set and of every prefix of ``steps`` [R, L] for a head of several layers: [R, L + 1].

    The running sums of a few steps at a time, as many as a processor's cache holds (a GPU's memory: it needs large
    products), go through ``finish``, from [1, M, D] to [1, M]: twice as fast as all of them at once.
    """
    most = _CACHED if each.device.type == "cpu" else _BLOCK_ELEMENTS
    running = offset.repeat(len(steps), 1)
    scratch = torch.empty_like(running)
    sums = running.new_empty(max(1, most // running.numel()), *running.shape)
    values = running.new_empty(steps.shape[1] + 1, len(steps))
    columns = steps.T.contiguous()
    for start in range(0, len(values), len(sums)):
        count = min(len(sums), len(values) - start)
        for i in range(start, start + count):
            if i:
                running += torch.index_select(each, 0, columns[i - 1], out=scratch)
            sums[i - start] = running
        values[start : start + count] = finish(sums[:count].flatten(0, 1).unsqueeze(0)).view(count, -1)
    return values.T
