"""The channel game: the channels of a layer are players, a coalition's value is a logit.

    v(S) = F^c(h_A(1_S)),   h_A(a')_k = a'_k A_k        (LIFT-CAM, section 3.3: an absent channel is all zero)

Every score-based CAM asks this game a question: Ablation-CAM v(all) - v(all but k), FD-CAM v of a group and of its
complement, SHAP-CAM the Shapley values, LIFT-CAM an approximation of them from one backward pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from campanion.game.heads import GenericHead
from campanion.game.played import Played
from campanion.game.products import sums
from campanion.game.shapley import Shapley, mlp_prefixes, pixel_prefixes, sample, walk
from campanion.outputs import Target
from campanion.progress import track

_LOG = logging.getLogger("campanion")
_FEW_PASSES = 64  # of the whole network, that are not worth a word
_BLOCK_ELEMENTS = 2**24  # numbers held at once by a block of coalitions: 64 MB in float32


class ChannelGame(Played):
    """The game of one batch of images; see :meth:`of`."""

    def value(self, coalitions: Tensor, target: Target = None, relative: bool = False) -> Tensor:
        """v(S) for 0/1 rows ``coalitions`` [M, K] or [B, M, K]: logits [B, M] of class ``target``.

        Exact to rounding for every kind of head: 2e-6 of the largest logit in float32. ``relative``: without the
        network's last bias, which no coalition changes: so are differences of values exact where it is large.

        Raises:
            ValueError: the rows do not have K entries, or B differs.
        """
        return self._values(coalitions, self.target(target), False, relative)[0]

    def value_on_off(self, coalitions: Tensor, target: Target = None, relative: bool = False) -> tuple[Tensor, Tensor]:
        """v(S) and v(all but S), [B, M] each, for rows as :meth:`value` takes them; one matrix product serves both."""
        return tuple(self._values(coalitions, self.target(target), True, relative))

    @torch.no_grad()
    def probability(self, coalitions: Tensor, target: Target = None) -> Tensor:
        """Probability [B, M] of class ``target`` with only the channels of each coalition present.

        Rows are as :meth:`value` takes them. A probability needs the logits of all classes, so that every coalition is
        forwarded through the head: no matrix product stands for it. For multi-label networks it is the sigmoid.
        """
        target, rows = self.target(target), self._rows(coalitions)
        values = self.activations.new_empty(rows.shape[:2])
        for b, masks in enumerate(rows):
            for block in _blocks(len(masks), 8 * self.activations[b].numel(), most=64):
                logits = self.head(self.activations[b] * masks[block, :, None, None], b)
                values[b, block] = self.probabilities(logits)[:, target[b]]
        return values

    def _rows(self, coalitions: Tensor) -> Tensor:
        """``coalitions`` as rows [B, M, K], of 0/1 numbers or bool."""
        count, channels = self.activations.shape[:2]
        rows = torch.as_tensor(coalitions, device=self.activations.device)
        shape = tuple(rows.shape)
        rows = rows.expand(count, *shape) if rows.ndim == 2 else rows
        if rows.ndim != 3 or rows.shape[::2] != (count, channels):
            raise ValueError(f"coalitions must be [M, {channels}] or [{count}, M, {channels}], not {shape}.")
        if rows.dtype != torch.bool and not bool(((rows == 0) | (rows == 1)).all()):
            raise ValueError("coalitions hold 0 or 1 (or bool): a channel is absent or present, and nothing between.")
        return rows if rows.dtype == torch.bool else rows.to(self.activations.dtype)

    @torch.no_grad()
    def _values(self, coalitions: Tensor, target: Tensor, both: bool, relative: bool) -> Tensor:
        """v(S), and with ``both`` v(all but S): [1 or 2, B, M]."""
        rows, head = self._rows(coalitions), self.head
        bias = None if relative or head.bias is None else head.bias.detach()[target].unsqueeze(1)
        if head.kind in ("linear", "pixel"):
            matrix, offset = self.contributions(target)
            values = matrix.new_empty(1 + both, *rows.shape[:2])
            for block in _blocks(rows.shape[1], len(target) * (self.channels + 3 * matrix.shape[2])):
                values[:, :, block] = self._finish(rows[:, block], matrix, offset, target, both)
            return values + offset if head.kind == "linear" and not relative else values
        values = []
        self._announce(rows.shape[1] * len(target) * (1 + both))
        for b, masks in enumerate(rows):
            # Coalitions that differ only in dead channels (all zero already) are one: evaluated once.
            live = self.activations[b].flatten(1).any(1)
            distinct, place = torch.unique(masks * live, dim=0, return_inverse=True)
            values.append(self.value_of_image(b, distinct, target, both)[:, place])
        return torch.stack(values, 1) if bias is None else torch.stack(values, 1) + bias

    @torch.no_grad()
    def value_of_image(self, b: int, rows: Tensor, target: Tensor, both: bool = False) -> Tensor:
        """v(S) [1, M] of ``rows`` [M, K] for image ``b`` alone, with ``both`` v(all but S) too: [2, M].

        ``target`` is [B]. Values lack the network's last bias.
        """
        values = self.logits.new_empty(1 + both, len(rows))
        if isinstance(self.head, GenericHead):
            activation, rows = self.activations[b], rows.to(self.activations.dtype)
            blocks = list(_blocks(len(rows), 8 * activation.numel(), 64))
            if self.head.module is None and len(rows) > _FEW_PASSES:
                blocks = track(blocks, f"{len(rows):,} passes of the network")
            for block in blocks:
                for i, masks in enumerate((rows[block], 1 - rows[block])[: 1 + both]):
                    values[i, block] = self.head.function(activation * masks[:, :, None, None], b)[:, target[b]]
            return values
        matrix, offset, target = (part[b : b + 1] for part in (*self.contributions(target), target))
        # A block holds z of S and of all but S, a ReLU, the units in use, and the next layer's output and ReLU.
        for block in _blocks(len(rows), matrix.shape[1] + 6 * matrix.shape[2]):
            values[:, block] = self._finish(rows[None, block], matrix, offset, target, both)[:, 0]
        return values

    def _announce(self, passes: int) -> None:
        """Say once that the whole network runs for every coalition, where that is known to take long."""
        if self.head.module is None and passes > _FEW_PASSES:
            sentence = (
                "What follows %r cannot run without what precedes it (its code depends on numbers, or is recurrent): "
                "the whole network runs for each coalition of channels, %s forward passes of one image at most for "
                "this method. Gradient methods need one; so do all in a network without such code there."
            )
            self.once("announced", lambda: _LOG.warning(sentence, self.parts.name, f"{passes:,}"))

    def _finish(self, rows: Tensor, matrix: Tensor, offset: Tensor, target: Tensor, both: bool) -> Tensor:
        """Logits [1 or 2, B, M] without the last bias of ``rows`` [B, M, K], contributions [B, K, D], offset [B, D]."""
        if self.head.kind == "linear":  # the offset is that bias
            offset = torch.zeros_like(offset)
        z = sums(rows, matrix, offset)
        # z is additive: z(all but S) = z(all) + z_0 - z(S).
        sides = [z, (2 * offset + matrix.sum(1)).unsqueeze(1) - z] if both else [z]
        return torch.stack([self.head.finish(side, target, lean=True) for side in sides])

    @torch.no_grad()
    def shapley(
        self,
        target: Target = None,
        orderings: int = 100,
        generator: torch.Generator | None = None,
        antithetic: bool = False,
        tolerance: float | None = None,
    ) -> Shapley:
        """Shapley values of the channels by sampled orderings (LIFT-CAM eq. 6, Algorithm 1).

        phi_k is the mean over orderings of v(k and all before it) - v(all before it). A linear head needs no sampling:
        phi_k = C_k exactly, for any number of orderings, with standard error 0. All images of the batch share the
        orderings, so an image's values do not depend on its neighbours.

        Args:
            orderings: number of orderings (10_000 in Table 2 of the paper).
            generator: CPU generator of the orderings (default: a new one with seed 0).
            antithetic: draw half of the orderings and use each also reversed: the same cost, a smaller error.
            tolerance: stop early, between blocks of at most 512 orderings, once sqrt(sum of squared standard errors)
                over the norm of phi is below it for every image (the neighbours decide how many orderings there are).

        Raises:
            ValueError: fewer than one ordering, or an odd number with ``antithetic``.
        """
        target, kind, channels = self.target(target), self.head.kind, self.channels
        if kind == "generic":
            self._announce(orderings * (channels + 1) * len(target))
            numbers = channels**2
        else:
            matrix = self.contributions(target)[0]
            numbers = 5 * self.head.width if kind == "mlp" else 2 * matrix.shape[2]
        # An additive game: every marginal of k is C_k, whatever came before.
        walks = matrix.squeeze(2) if kind == "linear" else [self._walk(b, target) for b in range(len(target))]
        sampled = sample(walks, channels, numbers + 4 * channels, orderings, generator, antithetic, tolerance)
        values, error = (part.to(self.activations.dtype) for part in (sampled.values, sampled.standard_error))
        return Shapley(values, error, sampled.orderings)

    def _walk(self, b: int, target: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from orderings [R, K] to the marginals [R, K] of image ``b``."""
        if self.head.kind == "generic":
            live = (self.activations[b] != 0).flatten(1).any(1)
            return partial(walk, live, partial(self._prefixes, b, target))
        matrix, offset = (part[b] for part in self.contributions(target))
        finish = partial(self.head.finish, target=target[b : b + 1], lean=True)
        pixel = self.head.kind == "pixel"
        values = partial(pixel_prefixes, self.head.rest) if pixel else partial(mlp_prefixes, finish, self.head.width)
        return partial(walk, (matrix != 0).any(1), partial(values, matrix, offset))

    def _prefixes(self, b: int, target: Tensor, steps: Tensor) -> Tensor:
        """v of the empty set and of every prefix of ``steps`` [R, L] of image ``b``, by forward passes: [R, L + 1]."""
        place = torch.full((len(steps), self.channels), self.channels, device=steps.device)
        ranks = torch.arange(steps.shape[1] + 1, device=steps.device)
        place.scatter_(1, steps, ranks[:-1].expand_as(steps))
        rows = (place.unsqueeze(1) < ranks[None, :, None]).flatten(0, 1).to(self.activations.dtype)
        return self.value_of_image(b, rows, target)[0].reshape(len(steps), -1)


def _blocks(total: int, cost: int, most: int = 8192) -> Iterator[slice]:
    """Slices over ``total`` items that hold ``cost`` numbers each, so that a block stays within bounded memory."""
    size = max(1, min(most, _BLOCK_ELEMENTS // max(1, cost)))
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
