"""Cut a CNN at a layer: a trunk that makes the channels, and a head that reads them.

``f(x) = F(A)`` with ``A`` the layer's output, [B, K, h, w] (LIFT-CAM, section 3.3). One pass of the whole network, with
a hook on the layer, gives A, the logits, the graph from A to the logits, and a record of what the network computes from
A on (:mod:`campanion.game.record`), from which the head is recognised (:mod:`campanion.game.heads`). The hook answers
to its own thread alone.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from campanion.errors import unknown
from campanion.game.heads import Head, recognise
from campanion.game.layouts import Layout, Placed, check_layout, checked, default_layer, place
from campanion.game.record import Program, Recorder, Step
from campanion.inference import HOOKED, eval_mode
from campanion.outputs import Activation, Outputs, Target, nested, unwrap


@dataclass(frozen=True)
class Pass:
    """One pass of the network: A [B, K, h, w], logits [B, C] and, where it was recorded, what made these of those."""

    activations: Tensor
    logits: Tensor
    record: tuple[list[Step], int] | None  # the steps, and the slot of the logits
    start: Tensor | None  # what a gradient is taken by: zeros added to A
    graph: Tensor | None  # the logits with their graph
    certain: bool  # whether the record alone says what the network does; else it is compared with it
    placed: Placed

    @cached_property
    def head(self) -> Head | None:
        """The head, recognised when first asked for: most gradients need none."""
        return None if self.record is None else recognise(Program(*self.record, rows=len(self.logits)))


@contextmanager
def _hooked(layer: nn.Module, function: Callable[[object], object]) -> Iterator[None]:
    """``function`` of the layer's output takes its place, in calls by this thread alone."""
    thread = threading.get_ident()

    def hook(_module: nn.Module, inputs: tuple, output: object) -> object:
        return function(output) if threading.get_ident() == thread else None

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def generators(images: Tensor) -> tuple:
    """The states of the generators that a network may draw from: others once it drew a number."""
    drawn, numpy = (torch.cuda if images.is_cuda else torch).get_rng_state(), np.random.get_state()  # noqa: NPY002
    return drawn.numpy().tobytes(), numpy[1].tobytes(), numpy[2:], random.getstate()


class _Tap:
    """A hook on the layer: keeps its output, and starts the recorder and the graph there."""

    def __init__(self, recorder: Recorder, gradient: bool, place: Callable[[object], Placed]) -> None:
        self.recorder, self.gradient, self.place = recorder, gradient, place
        self.modes, self.calls, self.start, self.entered = torch._C._len_torch_function_stack(), 0, None, False

    def __call__(self, output: object) -> object:
        self.calls += 1
        if self.calls > 1:
            return None
        self.placed = self.place(output)
        self.shape, maps = tuple(output.shape), self.placed.maps(output)
        self.activations, passed = maps.detach().clone(), maps.detach().clone()  # others may read the output itself
        if self.gradient:  # zeros are added, by which it can be taken
            torch.set_grad_enabled(True)  # until the mode around the pass ends
            zero = torch.zeros((), dtype=maps.dtype, device=maps.device, requires_grad=True)
            self.start = zero.expand(maps.shape)  # one number in memory
            passed.add_(self.start)
        # Another mode that was entered on the way here would be left before ours.
        if torch._C._len_torch_function_stack() == self.modes:
            self.recorder.start(passed)
            self.recorder.__enter__()
            self.entered = True
        return self.placed.back(passed, output)

    def leave(self) -> None:
        if self.entered:
            self.recorder.__exit__(None, None, None)


@dataclass(frozen=True)
class Split:
    """A network and the layer at which it is cut."""

    model: nn.Module
    name: str
    layer: nn.Module
    outputs: Outputs = field(default_factory=Outputs)
    layout: Layout | Placed | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [N, C] of images [N, 3, H, W], as :attr:`outputs` reads what the network returns."""
        return self.outputs(self.model(images.clone()), len(images))  # which it may change in place

    def play(self, images: Tensor, gradient: bool = True, trunk: bool = False) -> Pass:
        """Run the network once. ``gradient``: keep the graph from the layer on, for gradients by A; ``trunk``: all."""
        try:
            return self._play(images, gradient, trunk)
        except Exception as error:
            if isinstance(error, (ValueError, torch.OutOfMemoryError)):
                raise
            by_torch = isinstance(error, RuntimeError)
            if gradient and by_torch:  # what follows the layer may run without a graph, and not with one
                return self.play(images, gradient=False)
            first = next((p for p in self.model.parameters() if p.is_floating_point()), images)
            hint = "" if by_torch else f" ({type(error).__name__}). It is given images alone: wrap it if it takes more."
            if "register a hook" in str(error):
                with suppress(RuntimeError):
                    return self._play(images, gradient=True)
                hint = HOOKED
            if first.dtype != images.dtype:
                hint = f" The images are {images.dtype} and the model is {first.dtype}: convert one of them."
            elif first.device != images.device:
                hint = f" The images are on {images.device} and the model is on {first.device}: move one of them."
            raise ValueError(
                f"The network cannot take images of shape {tuple(images.shape)}: {error}.{hint}"
            ) from error

    def _play(self, images: Tensor, gradient: bool, trunk: bool = False) -> Pass:
        def placed(output: object) -> Placed:
            known = isinstance(self.layout, Placed)
            return self.layout if known else place(output, images, self.layer, self.name, self.layout, self.model)

        recorder = Recorder(self.model)
        tap = _Tap(recorder, gradient, placed)
        state = generators(images)
        mode = torch.enable_grad() if trunk else torch.no_grad()
        with _hooked(self.layer, tap), eval_mode(self.model, gradient), torch.inference_mode(False), mode:
            try:
                logits = self(images)
            finally:
                tap.leave()  # before the mode ends, which is no part of the network
        if tap.calls != 1:
            hint = "" if tap.calls else " Exported or traced code runs no layer: explain what it was made from."
            raise ValueError(f"Layer {self.name!r} ran {tap.calls} times in a pass; choose one that runs once.{hint}")
        layout = checked(tap.placed, recorder.steps, tap.shape, self.name, tuple(images.shape[-2:]))
        if layout.kind != tap.placed.kind:
            return replace(self, layout=layout)._play(images, gradient, trunk)
        slot = recorder.slot(logits)
        return Pass(
            activations=tap.activations,
            logits=logits.detach(),
            record=(recorder.steps, slot) if slot is not None and recorder.faults <= {"copied"} else None,
            start=tap.start,
            graph=logits if logits.requires_grad and tap.start is not None else None,
            # A pass that draws random numbers may draw weights anew in each.
            certain=not recorder.faults and state == generators(images),
            placed=layout,
        )

    def replay(self, images: Tensor, activations: Tensor, placed: Placed) -> Tensor:
        """Logits of ``images`` with ``activations`` in the layer's place: a pass of the whole network."""
        replaced = _hooked(self.layer, lambda output: placed.back(activations.clone(), output))
        with replaced, eval_mode(self.model, graph=torch.is_grad_enabled()):
            return self(images)


def split(
    model: nn.Module,
    layer: str | nn.Module | None = None,
    target: Target = None,
    activation: Activation | None = None,
    layout: Layout | None = None,
) -> Split:
    """Cut ``model`` at ``layer``: a dotted name, a module of it, or None for ``model.target_layer``.

    Wrappers that only pass the images on are looked through (:func:`campanion.outputs.unwrap`): the layer's name may
    have their prefix or not. ``target`` (a sign or a function), ``activation`` and ``layout`` are as in
    :func:`campanion.explain`.

    Raises:
        ValueError: no such layer; the message lists the nearest names. A network of TorchScript.

    Example:
        >>> played = split(load_model("vgg16"), "features.29").play(images)
        >>> played.activations, played.logits
    """
    check_layout(layout)
    inside, prefix = unwrap(model)
    if isinstance(layer, str) and prefix and layer.startswith(prefix):
        layer = layer[len(prefix) :]
    name, module = find_layer(inside, layer)
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            f"Layer {name!r} is TorchScript (torch.jit), which hides what its layers compute. Explain the network that "
            "it was scripted or traced from: build it, load its weights with load_state_dict, and pass that."
        )
    return Split(inside, name, module, Outputs.of(model, target, activation), layout)


def find_layer(model: nn.Module, layer: str | nn.Module | None) -> tuple[str, nn.Module]:
    """Dotted name and module of ``layer`` in ``model`` (None: ``model.target_layer``, or torchvision's)."""
    if layer is None:
        targets = ((prefix, getattr(inside, "target_layer", None)) for prefix, inside in nested(model))
        layer = next((p + t if isinstance(t, str) else t for p, t in targets if isinstance(t, (str, nn.Module))), None)
        layer = layer or default_layer(model)
        if layer is None:
            raise ValueError("This model has no .target_layer: name one, such as layer='layer4' or 'features.29'.")
    if isinstance(layer, str):
        with suppress(AttributeError):
            return layer, model.get_submodule(layer or ".")  # '' would be the model
        raise ValueError(unknown("layer", layer, [name for name, _ in _named(model)]))
    name = next((name for name, module in _named(model) if module is layer), None)
    if name is None:
        raise ValueError(f"The layer {type(layer).__name__} given is no module of this model; pass its dotted name.")
    return name, layer


def _named(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """All modules in ``model`` with every name that they have."""
    return [(name, module) for name, module in model.named_modules(remove_duplicate=False) if name]
