"""One pass of a network as a game's board: activations, logits, the believed head, gradients, contributions."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from campanion.game.check import believed
from campanion.game.heads import GenericHead, Head, LinearFirstHead
from campanion.game.split import Pass, Split, split
from campanion.inference import Reader, eval_mode, fast, wide
from campanion.outputs import Activation, Target, class_indices, is_class


@dataclass
class Played:
    """One batch of images as the network saw it: the pass, and what follows from the network alone; see :meth:`of`."""

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
    ) -> Self:
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
        return self.once("network", lambda: Reader(fast(self.parts.model), self.parts.outputs))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities [N, C] of logits [N, C], by the network's activation."""
        return self.parts.outputs.probabilities(logits)

    def use_network(self, network: Callable[[Tensor], Tensor]) -> None:
        """Forward masked images through ``network``, an inference copy that the caller already has."""
        self._kept["network"] = Reader(network, self.parts.outputs)

    def once(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, computed when first asked for ``name`` and kept: for what serves every class alike."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def fresh(self, head: Head | None = None) -> Self:
        """The same game, which remembers nothing; ``head`` takes the place of the one that was recognised."""
        return type(self)(self.parts, self.images, self.played, {} if head is None else {"head": head})

    def image(self, b: int) -> Self:
        """The game of image ``b`` alone."""
        rows, head = slice(b, b + 1), self.head
        if isinstance(head, GenericHead):
            head = replace(head, function=lambda activations, _image: self.head.function(activations, b))
        played = replace(self.played, activations=self.activations[rows], logits=self.logits[rows], graph=None)
        return type(self)(self.parts, self.images[rows], played, {"head": head})

    @property
    def head(self) -> Head:
        """F, the part of the network after the layer: as recorded, once it was compared with the network."""
        return self.once("head", lambda: believed(self.parts, self.images, self.played, self._closed))

    def target(self, target: Target) -> Tensor:
        """``target`` as class indices [B]: None is the predicted class; out of range raises ValueError.

        A sign or a function belongs to the game itself (:func:`campanion.game.split.split`): its class is 0.
        """
        if target is None or not is_class(target):
            return self.logits.argmax(1)
        return class_indices(target, *self.logits.shape, self.logits.device)

    def score(self, target: Target) -> Tensor:
        """v(all): the logits [B] of class ``target``, of the unchanged network."""
        return self.logits.gather(1, self.target(target).unsqueeze(1)).squeeze(1)

    @torch.inference_mode(False)  # gradients are recorded, whatever the caller is in
    def gradient(self, target: Target) -> Tensor:
        """dF^c/dA [B, K, h, w], from one backward pass through the network after the layer; kept for who asks again.

        In float32 for networks of half precision.

        Raises:
            ValueError: what follows the layer has no gradient.
        """
        target = self.target(target).clone()
        return self.once(("gradient", *target.tolist()), lambda: self._slope(target))

    def _slope(self, target: Tensor) -> Tensor:
        """dF^c/dA from the graph of the network's own pass; from the believed head where none survives."""
        played = self.played
        for trunk in (False, True):  # no record has the gradients that a network defines itself, or takes away
            if played.graph is None:
                played = self.once(("graph", trunk), lambda trunk=trunk: self.parts.play(self.images, trunk=trunk))
        if played.graph is not None:
            logit = played.graph.gather(1, target.unsqueeze(1)).sum()
            # Changes in place that its graph does not survive; checkpoints run forward again.
            with suppress(RuntimeError), eval_mode(self.parts.model):
                return wide(torch.autograd.grad(logit, played.start, retain_graph=True)[0])
        activations = played.activations.detach().clone().requires_grad_(True)
        try:
            logits = self.head(activations.clone())  # which it may change in place, unlike a leaf
            return wide(torch.autograd.grad(logits.gather(1, target.unsqueeze(1)).sum(), activations)[0])
        except RuntimeError as error:
            raise ValueError(f"What follows {self.parts.name!r} has no gradient: {error}") from error

    @torch.no_grad()
    def contributions(self, target: Target) -> tuple[Tensor, Tensor]:
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
