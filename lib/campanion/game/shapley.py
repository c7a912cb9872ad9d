"""Shapley values of a channel game from sampled orderings (LIFT-CAM eq. 6 and Algorithm 1).

    phi_k = E over orderings of [ v(k and all before it) - v(all before it) ]

Algorithm 1 evaluates the head twice per channel and ordering. Here an ordering costs one running sum of the channels'
contributions (``game/heads.py``), and channels that contribute nothing (null players: their marginals are exactly
zero in every ordering) are left out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
    walks: Sequence[Callable[[Tensor], Tensor]] | Tensor,
    players: int,
    numbers: int,
    orderings: int = 100,
    generator: torch.Generator | None = None,
    antithetic: bool = False,
    tolerance: float | None = None,
) -> Shapley:
    """Estimate the values of B games; ``orderings`` and what follows are as in ``ChannelGame.shapley``.

    A walk gives the marginals [R, K] of orderings [R, K], with ``numbers`` in memory for each ordering. The marginals
    [B, K] themselves stand for games in which they are always the same.
    """
    if not hasattr(orderings, "__index__") or orderings < 1 or (antithetic and orderings % 2):
        raise ValueError(f"orderings must be at least 1, and even when antithetic; got {orderings!r}.")
    if isinstance(walks, Tensor):
        return Shapley(walks.clone(), torch.zeros_like(walks), orderings)
    generator = generator or torch.Generator().manual_seed(0)
    pairs = 2 if antithetic else 1
    size = max(1, min(512, _BLOCK_ELEMENTS // numbers))
    total = squares = done = 0
    for start in range(0, orderings // pairs, size):
        count = min(size, orderings // pairs - start)
        # Drawn on the CPU whatever the device, so that a seed means the same orderings everywhere.
        order = torch.rand(count, players, generator=generator, device=generator.device, dtype=torch.float32).argsort(1)
        marginals = torch.stack([walk(order) for walk in walks])
        if antithetic:
            marginals = (marginals + torch.stack([walk(order.flip(1)) for walk in walks])) / 2
        total, squares = total + marginals.sum(1), squares + marginals.square().sum(1)
        done += count
        if tolerance is not None and done > 1:
            error = _standard_error(total, squares, done).norm(dim=1)
            if bool((error <= tolerance * (total / done).norm(dim=1)).all()):
                break
    return Shapley(total / done, _standard_error(total, squares, done), done * pairs)


def _standard_error(total: Tensor, squares: Tensor, n: int) -> Tensor:
    """Standard error of the mean from sums over n draws; infinite for one draw, where it cannot be known."""
    if n < 2:
        return torch.full_like(total, torch.inf)
    return ((squares / n - (total / n).square()).clamp_min(0) / (n - 1)).sqrt()


def walk(live: Tensor, values: Callable[[Tensor], Tensor], order: Tensor) -> Tensor:
    """Marginals [R, K] (float64) of orderings [R, K], from ``values`` of the prefixes of their ``live`` players."""
    order = order.to(live.device)
    steps = order[live[order]].reshape(len(order), -1)
    out = torch.zeros(order.shape, dtype=torch.float64, device=order.device)
    return out.scatter_(1, steps, values(steps).diff(dim=1).double())


def pixel_prefixes(rest: tuple, matrix: Tensor, offset: Tensor, steps: Tensor) -> Tensor:
    """v of the empty set and of every prefix of ``steps`` [R, L] for a pixel head: [R, L + 1].

    One running sum [R, pixels] stays in the processor's cache; a lone ReLU allocates nothing, in half the time.
    """
    scratch = matrix.new_empty(len(steps), len(offset))
    mean = torch.full_like(offset, 1 / len(offset))
    values = offset.new_empty(steps.shape[1] + 1, len(steps))
    lone_relu = len(rest) == 1 and isinstance(rest[0], nn.ReLU)
    for value, z in zip(values, _running_sums(matrix, offset, steps, scratch), strict=True):
        if lone_relu:
            z = torch.clamp_min(z, 0, out=scratch)
        for step in () if lone_relu else rest:
            z = step(z)
        torch.mv(z, mean, out=value)
    return values.T


def mlp_prefixes(
    finish: Callable[[Tensor], Tensor], width: int, matrix: Tensor, offset: Tensor, steps: Tensor
) -> Tensor:
    """v of the empty set and of every prefix of ``steps`` [R, L] for a head of several layers: [R, L + 1].

    ``finish`` takes a few running sums at a time, [1, M, D], as many as a cache holds with ``width`` numbers each (a
    GPU's memory: it needs large products): twice as fast as all at once.
    """
    memory = _CACHED if matrix.device.type == "cpu" else _BLOCK_ELEMENTS
    sums = matrix.new_empty(max(1, memory // (len(steps) * width)), len(steps), len(offset))
    values = offset.new_empty(steps.shape[1] + 1, len(steps))
    running = _running_sums(matrix, offset, steps, torch.empty_like(sums[0]))
    for block in values.split(len(sums)):
        for row in sums[: len(block)]:
            row.copy_(next(running))
        block.copy_(finish(sums[: len(block)].flatten(0, 1).unsqueeze(0)).view(len(block), -1))
    return values.T


def _running_sums(matrix: Tensor, offset: Tensor, steps: Tensor, scratch: Tensor) -> Iterator[Tensor]:
    """The first pre-activations [R, D] of the empty set and of every prefix in turn, in one place of memory."""
    running = offset.repeat(len(steps), 1)
    yield running
    for column in steps.T.contiguous():
        running += torch.index_select(matrix, 0, column, out=scratch)
        yield running
