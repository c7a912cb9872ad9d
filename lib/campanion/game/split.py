"""Cut a CNN at a layer: a trunk that makes the channels, and a head that reads them.

``f(x) = F(A)`` with ``A = trunk(x)`` of shape [B, K, h, w] (LIFT-CAM, section 3.3). The trunk runs inside the whole
network, with a hook that keeps the layer's output, so that any network works. The head is cut out of the network's
graph (``game/headgraph.py``) and recognised (``game/heads.py``): most heads start with a map that is linear
in the channels, which makes every question about switching channels cheap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from campanion.errors import unknown
from campanion.game.headgraph import cut
from campanion.game.heads import GenericHead, Head, recognise
from campanion.inference import eval_mode


@dataclass(frozen=True)
class Split:
    """A network cut at ``layer``: :meth:`trunk` gives the channels, ``head`` reads them."""

    model: nn.Module
    name: str
    layer: nn.Module
    head: Head

    def trunk(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Activations A [B, K, h, w] of the layer and logits [B, C], from one forward pass without gradients."""
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            # In-place operations after the layer would change what the hook keeps: clone.
            kept.append(output.clone() if isinstance(output, Tensor) else output)

        handle = self.layer.register_forward_hook(keep)
        try:
            with eval_mode(self.model), torch.no_grad():
                logits = self.model(images)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(f"The network cannot take images of shape {tuple(images.shape)}: {error}") from error
        finally:
            handle.remove()
        if len(kept) != 1:
            raise ValueError(f"Layer {self.name!r} ran {len(kept)} times in a forward pass; choose one that runs once.")
        if not isinstance(kept[0], Tensor) or kept[0].ndim != 4:
            what = tuple(kept[0].shape) if isinstance(kept[0], Tensor) else type(kept[0]).__name__
            raise ValueError(f"Layer {self.name!r} gives {what}; a map needs one tensor [B, K, h, w].")
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ValueError("The network must return logits [B, C]; wrap it so that it does.")
        return kept[0], logits

    def checked(self, images: Tensor, activations: Tensor, logits: Tensor) -> Split:
        """This split, or one that runs the whole network where the head's logits are not the network's own.

        In-place changes that the network reads under another name (``skip = x; x += y``) escape torch.fx. A chain of
        modules has none.
        """
        if not isinstance(self.head, GenericHead) or self.head.module is None:
            return self
        with torch.no_grad():
            found = self.head(activations[:1].clone(), images[:1])  # a head may change its input in place
        most = max(1e-3, 8 * torch.finfo(logits.dtype).eps) * logits[:1].abs().amax()  # of rounding
        if found.shape == logits[:1].shape and bool(((found - logits[:1]).abs() <= most).all()):
            return self
        return replace(self, head=_whole_network(self.model, self.layer))


def split(model: nn.Module, layer: str | nn.Module | None = None) -> Split:
    """Cut ``model`` at ``layer``: a dotted name, a module of it, or None for ``model.target_layer``.

    Raises:
        ValueError: no such layer; the message lists the nearest names.

    Example:
        >>> parts = split(load_model("vgg16"), "features.29")
        >>> activations, logits = parts.trunk(images)
    """
    name, module = find_layer(model, layer)
    graph = cut(model, name)
    head = recognise(graph) if graph is not None else _whole_network(model, module)
    return Split(model, name, module, head)


def find_layer(model: nn.Module, layer: str | nn.Module | None) -> tuple[str, nn.Module]:
    """Dotted name and module of ``layer`` in ``model`` (None: ``model.target_layer``)."""
    modules = dict(model.named_modules(remove_duplicate=False))
    modules.pop("", None)
    if layer is None:
        layer = getattr(model, "target_layer", None)
        if layer is None:
            raise ValueError("This model has no .target_layer: name one, such as layer='layer4' or 'features.29'.")
    if isinstance(layer, str):
        if layer not in modules:
            raise ValueError(unknown("layer", layer, modules))
        return layer, modules[layer]
    for name, module in modules.items():
        if module is layer:
            return name, module
    raise ValueError(f"The layer {type(layer).__name__} given is no module of this model; pass its dotted name.")


def _whole_network(model: nn.Module, layer: nn.Module) -> GenericHead:
    return GenericHead(lambda activations, images: _replay(model, layer, activations, images), None)


def _replay(model: nn.Module, layer: nn.Module, activations: Tensor, images: Tensor) -> Tensor:
    """F(A) for a network that cannot be cut: run all of it on ``images`` with A in the layer's place."""
    handle = layer.register_forward_hook(lambda _module, _inputs, _output: activations.clone())
    try:
        with eval_mode(model):
            return model(images)
    finally:
        handle.remove()
