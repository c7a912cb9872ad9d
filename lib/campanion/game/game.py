"""The channel game: the channels of a layer are players, a coalition's value is a logit.

    v(S) = F^c(h_A(1_S)),   h_A(a')_k = a'_k A_k        (LIFT-CAM, section 3.3: an absent channel is all zero)

Every score-based CAM asks this game a question: Ablation-CAM v(all) - v(all but k), FD-CAM v of a group and of its
complement, SHAP-CAM the Shapley values, LIFT-CAM an approximation of them from one backward pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from campanion.game.check import believed
from campanion.game.heads import GenericHead, LinearFirstHead
from campanion.game.shapley import Shapley, mlp_prefixes, pixel_prefixes, sample, walk
from campanion.game.slope import slope
from campanion.game.split import Pass, Split, split
from campanion.inference import fast, pictures_at_once
from campanion.outputs import Activation, class_indices, is_class
from campanion.progress import track

_LOG = logging.getLogger("campanion")
_FEW_PASSES = 64  # of the whole network, that are not worth a word
_BLOCK_ELEMENTS = 2**24  # numbers held at once by a block of coalitions: 64 MB in float32


@dataclass
class ChannelGame:
    """The game of one batch of images; see :meth:`of`."""

    parts: Split
    images: Tensor
    played: Pass
    _kept: dict = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        model: nn.Module | Split,
        images: Tensor,
        layer: str | nn.Module | None = None,
        gradient: bool = True,
        activation: Activation | None = None,
    ) -> ChannelGame:
        """The game of preprocessed ``images`` [B, 3, H, W] at ``layer`` (default ``model.target_layer``): one forward.

        ``model`` may be a network that is already cut (:func:`campanion.game.split.split`). Without ``gradient``, the
        pass keeps no graph and :meth:`gradient` makes its own. ``activation`` makes :meth:`probability` of logits.

        Example:
            >>> game = ChannelGame.of(load_model("vgg16"), images)
            >>> game.shapley(game.logits.argmax(1), orderings=100).values  # [B, 512]
        """
        parts = model if isinstance(model, Split) else split(model, layer, None, activation)
        return cls(parts, images, parts.play(images, gradient))

    @property
    def activations(self) -> Tensor:
        """A [B, K, h, w], the layer's output."""
        return self.played.activations

    @property
    def logits(self) -> Tensor:
        """The network's own logits [B, C]."""
        return self.played.logits

    @property
    def channels(self) -> int:
        """K, the number of players."""
        return self.activations.shape[1]

    @property
    def network(self) -> Callable[[Tensor], Tensor]:
        """An inference copy of the whole network (:func:`campanion.inference.fast`), made when first asked for."""
        if "network" not in self._kept:
            self.use_network(fast(self.parts.model))
        return self._kept["network"]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities [N, C] of logits [N, C], by the network's activation."""
        return self.parts.outputs.probabilities(logits)

    def use_network(self, network: Callable[[Tensor], Tensor]) -> None:
        """Forward masked pictures through ``network``, an inference copy that the caller already has."""
        outputs = self.parts.outputs  # not self: a circle would keep the network until the garbage collector comes
        self._kept["network"] = lambda images: outputs(network(images), len(images))

    def once(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, computed when first asked for ``name`` and kept: for what serves every class alike."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def fresh(self, head: GenericHead | None = None) -> ChannelGame:
        """The same game, which remembers nothing; ``head`` takes the place of the one that was recognised."""
        return ChannelGame(self.parts, self.images, self.played, {} if head is None else {"head": head})

    @torch.no_grad()
    def with_activations(self, activations: Tensor) -> ChannelGame:
        """The game of other activations [B, K, h, w] in the place of the layer's output: some channels, for example."""
        played = replace(self.played, activations=activations, logits=self.head(activations), graph=None)
        return ChannelGame(self.parts, self.images, played, {"head": self.head})

    def image(self, b: int) -> ChannelGame:
        """The game of image ``b`` alone."""
        one, head = slice(b, b + 1), self.head
        if isinstance(head, GenericHead):
            head = replace(head, function=lambda activations, _image: self.head.lean(activations, b))
        played = replace(self.played, activations=self.activations[one], logits=self.logits[one], graph=None)
        return ChannelGame(self.parts, self.images[one], played, {"head": head})

    @property
    def head(self) -> GenericHead | LinearFirstHead:
        """F, the part of the network after the layer: as recorded, once it was compared with the network."""
        return self.once("head", lambda: believed(self.parts, self.images, self.played, self._closed))

    def target(self, target: int | list[int] | Tensor | None) -> Tensor:
        """``target`` as class indices [B]: None is the predicted class; out of range raises ValueError.

        A sign or a function belongs to the game itself (:func:`campanion.game.split.split`): its class is 0.
        """
        if target is None or not is_class(target):
            return self.logits.argmax(1)
        return class_indices(target, *self.logits.shape, self.logits.device)

    def score(self, target: int | list[int] | Tensor | None) -> Tensor:
        """v(all): the logits [B] of class ``target``, of the unchanged network."""
        return self.logits.gather(1, self.target(target).unsqueeze(1)).squeeze(1)

    def gradient(self, target: int | list[int] | Tensor | None) -> Tensor:
        """dF^c/dA [B, K, h, w], from one backward pass through the network after the layer; kept for who asks again.

        In float32 for networks of half precision.

        Raises:
            ValueError: what follows the layer has no gradient.
        """
        target = self.target(target)
        return self.once(
            ("gradient", tuple(target.tolist())), lambda: slope(self.parts, self.played, lambda: self.head, target)
        )

    @torch.no_grad()
    def contributions(self, target: int | list[int] | Tensor | None) -> tuple[Tensor, Tensor]:
        """C [B, K, D] and z_0 [B, D] with first pre-activation z(S) = z_0 + sum over S of C_k (``game/heads.py``).

        Raises:
            ValueError: the head does not start with a map linear in the channels.
        """
        if not isinstance(self.head, LinearFirstHead):
            raise ValueError(f"A head of kind {self.head.kind!r} has no contribution matrix; use value().")
        return self._closed(self.target(target))

    def _closed(self, target: Tensor) -> tuple[Tensor, Tensor]:
        head = self.played.head
        key = ("contributions", None if head.kind == "mlp" else tuple(target.tolist()))
        return self.once(key, lambda: head.contributions(self.activations, target))

    def value(
        self, coalitions: Tensor, target: int | list[int] | Tensor | None = None, relative: bool = False
    ) -> Tensor:
        """v(S) for 0/1 rows ``coalitions`` [M, K] or [B, M, K]: logits [B, M] of class ``target``.

        Exact to rounding for every kind of head: 2e-6 of the largest logit in float32. ``relative``: without the
        network's last bias, which no coalition changes: so are differences of values exact where it is large.

        Raises:
            ValueError: the rows do not have K entries, or B differs.
        """
        return self._values(coalitions, self.target(target), False, relative)[0]

    def value_on_off(
        self, coalitions: Tensor, target: int | list[int] | Tensor | None = None, relative: bool = False
    ) -> tuple[Tensor, Tensor]:
        """v(S) and v(all but S), [B, M] each, for rows as :meth:`value` takes them; one matrix product serves both."""
        on, off = self._values(coalitions, self.target(target), True, relative)
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
                logits = self.head(present, b)
                values[b, block] = self.probabilities(logits)[:, target[b]]
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

    @torch.no_grad()
    def _values(self, coalitions: Tensor, target: Tensor, both: bool, relative: bool) -> Tensor:
        """v(S), and with ``both`` v(all but S): [1 or 2, B, M]."""
        count, channels = self.activations.shape[:2]
        rows = self._rows(coalitions)
        constant = 0 if relative else self._constant(target).unsqueeze(1)
        if self.head.kind in ("linear", "pixel"):
            each, offset = self.contributions(target)
            values = each.new_empty(1 + both, *rows.shape[:2])
            for block in _blocks(rows.shape[1], count * (channels + 3 * each.shape[2])):
                values[:, :, block] = self._finish(rows[:, block], each, offset, target, both)
            return values + constant
        values = []
        self._announce(rows.shape[1] * count * (1 + both))
        for b, given in enumerate(rows):
            # Coalitions that differ only in dead channels (all zero already) are one: evaluated once.
            live = self.activations[b].flatten(1).any(1)
            distinct, place = torch.unique(given * live, dim=0, return_inverse=True)
            values.append(self.value_of_image(b, distinct, target, both)[:, place])
        return torch.stack(values, 1) + constant

    def _constant(self, target: Tensor) -> Tensor:
        """The part [B] of the logits that is the same for every coalition."""
        if self.head.kind == "linear":
            return self.contributions(target)[1].squeeze(1)
        return self.logits.new_zeros(len(target)) if self.head.bias is None else self.head.bias.detach()[target]

    @torch.no_grad()
    def value_of_image(self, b: int, rows: Tensor, target: Tensor, both: bool = False) -> Tensor:
        """v(S) [1, M] for image ``b`` alone, and with ``both`` v(all but S) too [2, M]; every row is evaluated.

        ``rows`` are [M, K] of the activations' dtype, ``target`` is [B]. Values lack the network's last bias.
        """
        values = self.logits.new_empty(1 + both, len(rows))
        if isinstance(self.head, GenericHead):
            activation = self.activations[b]
            most = 64 if self.head.module is not None else pictures_at_once(self.images)
            for block in self._tracked(len(rows), 8 * activation.numel(), most):
                for i, some in enumerate((rows[block], 1 - rows[block])[: 1 + both]):
                    values[i, block] = self.head.lean(activation * some[:, :, None, None], b)[:, target[b]]
            return values
        one = slice(b, b + 1)
        each, offset = (part[one] for part in self.contributions(target))
        # A block holds z of S and of all but S, a ReLU, the units in use, and the next layer's output and ReLU.
        for block in _blocks(len(rows), each.shape[1] + 6 * each.shape[2]):
            values[:, block] = self._finish(rows[None, block], each, offset, target[one], both)[:, 0]
        return values

    def _announce(self, passes: int) -> None:
        """Say once that the whole network runs for every coalition, where that is known to take long."""
        if self.head.module is None and passes > _FEW_PASSES:
            said = (
                "What follows %r cannot run without what precedes it (its code depends on numbers): the whole network "
                "runs for each coalition of channels, %s forward passes of one image at most for this method. Gradient "
                "methods need one; so do all in a network without such branches there."
            )
            self.once("announced", lambda: _LOG.warning(said, self.parts.name, f"{passes:,}"))

    def _tracked(self, total: int, cost: int, most: int) -> Iterable[slice]:
        """Blocks of coalitions, with a progress bar where each is many passes of the whole network."""
        blocks = _blocks(total, cost, most)
        if self.head.module is not None or total <= _FEW_PASSES:
            return blocks
        return track(list(blocks), f"{total:,} passes of the network")

    def _finish(self, rows: Tensor, each: Tensor, offset: Tensor, target: Tensor, both: bool) -> Tensor:
        """Logits [1 or 2, B, M] without the last bias of ``rows`` [B, M, K], contributions [B, K, D], offset [B, D]."""
        rows = rows.to(each.dtype)
        if self.head.kind == "linear":  # the offset is that bias
            offset = torch.zeros_like(offset)
        z = torch.baddbmm(offset.unsqueeze(1), rows, each)
        on = self.head.finish(z, target, lean=True)
        if not both:
            return on.unsqueeze(0)
        # z is additive: z(all but S) = z(all) + z_0 - z(S).
        off = (2 * offset + each.sum(1)).unsqueeze(1) - z
        return torch.stack([on, self.head.finish(off, target, lean=True)])

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
        target, kind, channels = self.target(target), self.head.kind, self.channels
        each = None if kind == "generic" else self.contributions(target)[0]
        if kind == "generic":
            self._announce(orderings * (channels + 1) * len(target))
        numbers = {
            "generic": lambda: channels**2,
            "pixel": lambda: 2 * each.shape[2],
            "mlp": lambda: 5 * self.head.width,
        }
        size = numbers.get(kind, lambda: 0)() + 4 * channels
        # An additive game: every marginal of k is C_k, whatever came before.
        walks = each.squeeze(2) if kind == "linear" else [self._walk(b, target) for b in range(len(target))]
        found = sample(walks, channels, size, orderings, generator, antithetic, tolerance, progress)
        values, error = (part.to(self.activations.dtype) for part in (found.values, found.standard_error))
        return Shapley(values, error, found.orderings)

    def _walk(self, b: int, target: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from orderings [R, K] to the marginals [R, K] of image ``b``."""
        if self.head.kind == "generic":
            live = (self.activations[b] != 0).flatten(1).any(1)
            return partial(walk, live, partial(self._prefixes, b, target))
        each, offset = (part[b] for part in self.contributions(target))
        finish = partial(self.head.finish, target=target[b : b + 1], lean=True)
        pixel = self.head.kind == "pixel"
        values = partial(pixel_prefixes, self.head.rest) if pixel else partial(mlp_prefixes, finish, self.head.width)
        return partial(walk, (each != 0).any(1), partial(values, each, offset))

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
