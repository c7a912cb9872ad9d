"""The channel game: the channels of a layer are players, a coalition's value is a logit.

    v(S) = F^c(h_A(1_S)),   h_A(a')_k = a'_k A_k        (LIFT-CAM, section 3.3: an absent channel is all zero)

Every score-based CAM asks this game a question: Ablation-CAM v(all) - v(all but k), FD-CAM v of a group and of its
complement, SHAP-CAM the Shapley values, LIFT-CAM an approximation of them from one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from campanion.game.heads import GenericHead, LinearFirstHead
from campanion.game.shapley import Shapley, sample
from campanion.game.split import Split, split
from campanion.inference import fast

_BLOCK_ELEMENTS = 2**24  # numbers held at once by a block of coalitions: 64 MB in float32


def probabilities(model: nn.Module, logits: Tensor) -> Tensor:
    """Probabilities [N, C] of logits: softmax, or the sigmoid where ``model.activation`` says so (multi-label)."""
    return logits.sigmoid() if getattr(model, "activation", "softmax") == "sigmoid" else logits.softmax(1)


def class_indices(target: int | list[int] | Tensor, count: int, classes: int, device: torch.device) -> Tensor:
    """``target`` as class indices [count] below ``classes``; ValueError otherwise."""
    try:
        index = torch.as_tensor(target, device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"targets must be integers (class indices), not {target!r:.80}.") from error
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise ValueError(f"targets must be integers (class indices), not {index.dtype}.")
    if index.ndim == 0:
        index = index.expand(count)
    if index.shape != (count,):
        raise ValueError(f"targets must be one class for each of {count} images, not shape {tuple(index.shape)}.")
    if bool(((index < 0) | (index >= classes)).any()):
        raise ValueError(f"targets must lie in 0..{classes - 1}; got {index.tolist()}.")
    return index.long().clone()  # the caller's may be an inference tensor, or change


@dataclass
class ChannelGame:
    """The game of one batch of images; see :meth:`of`."""

    parts: Split
    images: Tensor
    activations: Tensor
    logits: Tensor
    _kept: dict = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, model: nn.Module, images: Tensor, layer: str | nn.Module | None = None) -> ChannelGame:
        """The game of preprocessed ``images`` [B, 3, H, W] at ``layer`` (default ``model.target_layer``): one forward.

        Example:
            >>> game = ChannelGame.of(load_model("vgg16"), images)
            >>> game.shapley(game.logits.argmax(1), orderings=100).values  # [B, 512]
        """
        parts = split(model, layer)
        activations, logits = parts.trunk(images)
        return cls(parts.checked(images, activations, logits), images, activations, logits)

    @property
    def channels(self) -> int:
        """K, the number of players."""
        return self.activations.shape[1]

    @property
    def network(self) -> Callable[[Tensor], Tensor]:
        """An inference copy of the whole network (:func:`campanion.inference.fast`), made when first asked for."""
        return self.once("network", lambda: fast(self.parts.model))

    def use_network(self, network: Callable[[Tensor], Tensor]) -> None:
        """Forward masked pictures through ``network``, an inference copy that the caller already has."""
        self._kept["network"] = network

    def once(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, computed when first asked for ``name`` and kept: for what serves every class alike."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def image(self, b: int) -> ChannelGame:
        """The game of image ``b`` alone."""
        one = slice(b, b + 1)
        return ChannelGame(self.parts, self.images[one], self.activations[one], self.logits[one])

    @property
    def head(self) -> GenericHead | LinearFirstHead:
        """F, the part of the network after the layer."""
        return self.parts.head

    def target(self, target: int | list[int] | Tensor | None) -> Tensor:
        """``target`` as class indices [B]: None is the predicted class; out of range raises ValueError."""
        if target is None:
            return self.logits.argmax(1)
        return class_indices(target, *self.logits.shape, self.logits.device)

    def score(self, target: int | list[int] | Tensor | None) -> Tensor:
        """v(all): the logits [B] of class ``target``, of the unchanged network."""
        return self.logits.gather(1, self.target(target).unsqueeze(1)).squeeze(1)

    def gradient(self, target: int | list[int] | Tensor | None) -> Tensor:
        """dF^c/dA [B, K, h, w], from one backward pass through the head; kept for the next method that asks."""
        target = self.target(target)
        key = ("gradient", tuple(target.tolist()))
        if key not in self._kept:
            with torch.enable_grad():
                activations = self.activations.detach().clone().requires_grad_(True)
                # A clone, since a head may change its input in place, which autograd forbids for the leaf itself.
                chosen = self._logit(activations.clone(), target).sum()
                (self._kept[key],) = torch.autograd.grad(chosen, activations)
        return self._kept[key]

    def _logit(self, activations: Tensor, target: Tensor) -> Tensor:
        if isinstance(self.head, LinearFirstHead):
            return self.head.logit(activations, target)
        return self.head(activations, self.images).gather(1, target.unsqueeze(1)).squeeze(1)

    @torch.no_grad()
    def contributions(self, target: int | list[int] | Tensor | None) -> tuple[Tensor, Tensor]:
        """C [B, K, D] and z_0 [B, D] with first pre-activation z(S) = z_0 + sum over S of C_k (``game/heads.py``).

        Raises:
            ValueError: the head does not start with a map linear in the channels.
        """
        if not isinstance(self.head, LinearFirstHead):
            raise ValueError(f"A head of kind {self.head.kind!r} has no contribution matrix; use value().")
        target = self.target(target)
        key = ("contributions", None if self.head.kind == "mlp" else tuple(target.tolist()))
        return self.once(key, lambda: self.head.contributions(self.activations, target))

    @torch.no_grad()
    def value(self, coalitions: Tensor, target: int | list[int] | Tensor | None = None) -> Tensor:
        """v(S) for 0/1 rows ``coalitions`` [M, K] or [B, M, K]: logits [B, M] of class ``target``.

        Exact to rounding for every kind of head: 2e-6 of the largest logit in float32.

        Raises:
            ValueError: the rows do not have K entries, or B differs.
        """
        return self._values(coalitions, self.target(target), both=False)[0]

    @torch.no_grad()
    def value_on_off(self, coalitions: Tensor, target: int | list[int] | Tensor | None = None) -> tuple[Tensor, Tensor]:
        """v(S) and v(all but S), [B, M] each, for rows as :meth:`value` takes them; one matrix product serves both."""
        on, off = self._values(coalitions, self.target(target), both=True)
        return on, off

    @torch.no_grad()
    def probability(self, coalitions: Tensor, target: int | list[int] | Tensor | None = None) -> Tensor:
        """Probability [B, M] of class ``target`` with only the channels of each coalition present.

        Rows are as :meth:`value` takes them. A probability needs the logits of all classes, so that every coalition is
        forwarded through the head: no matrix product stands for it. For multi-label networks it is the sigmoid.
        """
        target, rows = self.target(target), self._rows(coalitions)
        values = torch.empty(rows.shape[:2], dtype=rows.dtype, device=rows.device)
        for b, some in enumerate(rows):
            for block in _blocks(len(some), 8 * self.activations[b].numel(), most=64):
                present = self.activations[b] * some[block, :, None, None]
                logits = self.head(present, self.images[b].expand(len(present), *self.images.shape[1:]))
                values[b, block] = probabilities(self.parts.model, logits)[:, target[b]]
        return values

    def _rows(self, coalitions: Tensor) -> Tensor:
        """``coalitions`` as 0/1 numbers [B, M, K]."""
        count, channels = self.activations.shape[:2]
        given = torch.as_tensor(coalitions, device=self.activations.device)
        rows = given.expand(count, *given.shape) if given.ndim == 2 else given
        if rows.ndim != 3 or rows.shape[0] != count or rows.shape[2] != channels:
            raise ValueError(
                f"coalitions must be [M, {channels}] or [{count}, M, {channels}], not {tuple(given.shape)}."
            )
        return rows.to(self.activations.dtype)

    def _values(self, coalitions: Tensor, target: Tensor, both: bool) -> Tensor:
        """v(S), and with ``both`` v(all but S): [1 or 2, B, M]."""
        count, channels = self.activations.shape[:2]
        rows = self._rows(coalitions)
        if self.head.kind in ("linear", "pixel"):
            each, offset = self.contributions(target)
            values = rows.new_empty(1 + both, *rows.shape[:2])
            for block in _blocks(rows.shape[1], count * (channels + 3 * each.shape[2])):
                values[:, :, block] = self._finish(rows[:, block], each, offset, target, both)
            return values
        values = []
        for b, given in enumerate(rows):
            # Coalitions that differ only in dead channels (all zero already) are one: evaluated once.
            live = self.activations[b].flatten(1).any(1)
            distinct, place = torch.unique(given * live, dim=0, return_inverse=True)
            values.append(self.value_of_image(b, distinct, target, both)[:, place])
        return torch.stack(values, 1)

    @torch.no_grad()
    def value_of_image(self, b: int, rows: Tensor, target: Tensor, both: bool = False) -> Tensor:
        """v(S) [1, M] for image ``b`` alone, and with ``both`` v(all but S) too [2, M]; every row is evaluated.

        ``rows`` are [M, K] of the activations' dtype, ``target`` is [B].
        """
        values = rows.new_empty(1 + both, len(rows))
        if isinstance(self.head, GenericHead):
            activation = self.activations[b]
            for block in _blocks(len(rows), 8 * activation.numel(), most=64):
                for i, some in enumerate((rows[block], 1 - rows[block])[: 1 + both]):
                    image = self.images[b].expand(len(some), *self.images.shape[1:])
                    values[i, block] = self.head(activation * some[:, :, None, None], image)[:, target[b]]
            return values
        one = slice(b, b + 1)
        each, offset = (part[one] for part in self.contributions(target))
        # A block holds z of S and of all but S, a ReLU, the units in use, and the next layer's output and ReLU.
        for block in _blocks(len(rows), each.shape[1] + 6 * each.shape[2]):
            values[:, block] = self._finish(rows[None, block], each, offset, target[one], both)[:, 0]
        return values

    def _finish(self, rows: Tensor, each: Tensor, offset: Tensor, target: Tensor, both: bool) -> Tensor:
        """Logits [1 or 2, B, M] of ``rows`` [B, M, K] from contributions [B, K, D] and offset [B, D]."""
        z = torch.baddbmm(offset.unsqueeze(1), rows, each)
        on = self.head.finish(z, target)
        if not both:
            return on.unsqueeze(0)
        # z is additive: z(all but S) = z(all) + z_0 - z(S).
        return torch.stack([on, self.head.finish((2 * offset + each.sum(1)).unsqueeze(1) - z, target)])

    @torch.no_grad()
    def shapley(
        self,
        target: int | list[int] | Tensor | None = None,
        orderings: int = 100,
        generator: torch.Generator | None = None,
        antithetic: bool = False,
        tolerance: float | None = None,
        progress: bool = False,
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
            progress: show a progress bar over blocks of orderings.

        Raises:
            ValueError: fewer than one ordering, or an odd number with ``antithetic``.
        """
        if orderings < 1 or (antithetic and orderings % 2):
            raise ValueError(f"orderings must be at least 1, and even when antithetic; got {orderings}.")
        return sample(self, self.target(target), orderings, generator, antithetic, tolerance, progress)


def _blocks(total: int, cost: int, most: int = 8192) -> Iterator[slice]:
    """Slices over ``total`` items that hold ``cost`` numbers each, so that a block stays within bounded memory."""
    size = max(1, min(most, _BLOCK_ELEMENTS // max(1, cost)))
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
