"""What a network computes from one of its layers on, written down while it runs, and run again on other activations.

A :class:`Recorder` sees every PyTorch function that its own thread calls (``torch.overrides.TorchFunctionMode``) and
keeps those that depend on the layer's output. It sees what the network does and not how it is written: hooks, patched
``forward`` methods, weights that a hook computes anew, wrappers and functional calls are all in the record, and nothing
in the process is patched. A :class:`Program` repeats the record for any number of rows.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from campanion.inference.evaluation import ABOUT_SHAPE, modules_of

# Functions whose results have sizes that depend on values, by which a branch or a number of the network may.
_SIZED_BY_VALUES = {"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount", "nms"}
# Copies to NumPy or lists, whose use is not seen; the game compares such a record with the network before it trusts it.
_COPIED_OUT = {"numpy", "tolist", "__array__"}
# Functions with sizes as arguments, the number of rows first.
_SIZED = {"view", "reshape", "expand", "broadcast_to", "new_zeros", "new_ones", "new_empty", "new_full"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}  # first states of so many images, which PyTorch does not check


@dataclass(frozen=True)
class Slot:
    """The place of a tensor that depends on the layer's output; 0 is that output."""

    number: int


@dataclass(frozen=True)
class Step:
    """One call: ``function(*args, **kwargs)`` with slots in the place of tensors; shapes of its first tensors."""

    function: Callable
    args: tuple
    kwargs: dict
    outputs: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    autocast: torch.dtype | None
    changes: bool  # its first argument, in place

    @property
    def name(self) -> str:
        """The function's own name, such as ``relu``."""
        return getattr(self.function, "__name__", "")

    @property
    def inputs(self) -> set[int]:
        """Numbers of the slots that it reads."""
        return {leaf.number for leaf in _leaves((self.args, self.kwargs)) if isinstance(leaf, Slot)}

    def by(self, function: Callable[[Tensor], Tensor] | None) -> Step:
        """The step with ``function`` of its first argument alone, out of place; unchanged for None."""
        alone = {"args": self.args[:1], "kwargs": {}, "changes": False}
        return self if function is None else replace(self, function=function, **alone)


class Recorder(TorchFunctionMode):
    """Keeps the calls that depend on the tensor given to :meth:`start`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self._constants: dict[int, weakref.ref] = {}  # tensors made of the network's parameters and buffers alone
        self.steps: list[Step] = []
        #: Why the record may differ from the network: values were read, copied, or written to tensors made earlier.
        self.faults: set[str] = set()
        self._slots: dict[int, tuple[weakref.ref, int]] = {}
        self._versions: dict[int, int] = {}  # of each slot's tensor, which grow with every change in place
        self._count = 0

    def start(self, output: Tensor) -> None:
        """Take ``output`` for slot 0 and write down what follows."""
        self._device, self._rows = output.device.type, len(output)
        self._name(output)

    def slot(self, tensor: object) -> int | None:
        """The slot of ``tensor``, if it depends on the layer's output."""
        reference, number = self._slots.get(id(tensor), (None, None))
        if reference is None or reference() is not tensor:
            return None
        if not tensor.is_inference() and tensor._version != self._versions[number]:
            self.faults.add("copied")  # changed where no call is seen (TorchScript, vmap), or under another name
        return number

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call ``function`` and keep the call if it reads or changes a tensor with a slot."""
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        tensors = [leaf for leaf in _leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if all(self.slot(tensor) is None for tensor in tensors):
            output = function(*args, **kwargs)
            if tensors and isinstance(output, Tensor) and all(map(self._is_constant, tensors)):
                self._constants[id(output)] = weakref.ref(output)
            return output
        before = tuple(tensors[0].shape)
        arguments = _mapped((args, kwargs), self._placed)
        output = function(*args, **kwargs)
        results = [args[0]] if name == "__setitem__" else [t for t in _leaves(output) if isinstance(t, Tensor)]
        changes = bool(args) and any(result is args[0] for result in results)
        if not results:
            if (name not in ABOUT_SHAPE and output is not None) or function == Tensor.data.__set__:
                self.faults.add("copied" if name in _COPIED_OUT else "read")
            return output
        mask = name == "__getitem__" and any(t.dtype == torch.bool and self.slot(t) is not None for t in tensors[1:])
        if name in _SIZED_BY_VALUES or mask or (name == "where" and len(args) == 1):
            self.faults.add("read")
        if name in _RECURRENT or kwargs.get("out") is not None or (changes and not isinstance(arguments[0][0], Slot)):
            self.faults.add("written")
        slots = tuple(self._name(result) for result in results)
        after = tuple(results[0].shape)
        self.steps.append(Step(function, *arguments, slots, before, after, _autocast(self._device), changes))
        return output

    def _placed(self, leaf: object) -> object:
        """The argument as a step keeps it: a slot, or the tensor itself without its graph."""
        number = self.slot(leaf)
        if number is not None:
            return Slot(number)
        if not isinstance(leaf, Tensor):
            return leaf
        parameter = isinstance(leaf, nn.Parameter)
        if parameter and not leaf.is_inference():
            return leaf
        constant = self._is_constant(leaf)
        if not constant:  # made before the layer, or after it where no call is seen: inside of vmap or TorchScript
            self.faults.add("copied")
        leaf = leaf.clone() if leaf.is_inference() else leaf.detach()  # no gradient goes through the former
        # A constant with as many rows as images is no row for each image: a parameter, which is never cut into rows.
        as_parameter = parameter or (constant and leaf.ndim > 1 and len(leaf) == self._rows)
        return nn.Parameter(leaf, requires_grad=False) if as_parameter else leaf

    @cached_property
    def _buffers(self) -> set[int]:
        return {id(buffer) for module in modules_of(self._network) for buffer in module._buffers.values()}

    def _is_constant(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is the network's own, or was made of such alone, so that no image changes it."""
        if isinstance(tensor, nn.Parameter) or id(tensor) in self._buffers:
            return True
        return self._constants.get(id(tensor), lambda: None)() is tensor

    def _name(self, tensor: Tensor) -> int:
        reference, number = self._slots.get(id(tensor), (None, 0))
        if reference is None or reference() is not tensor:
            number, self._count = self._count, self._count + 1
            self._slots[id(tensor)] = weakref.ref(tensor), number
        self._versions[number] = 0 if tensor.is_inference() else tensor._version
        return number


class Program(nn.Module):
    """The record as a function of the layer's output: logits [N, C] of activations [N, K, h, w].

    ``output`` is the logits' slot; ``rows`` is the number of images of the pass that was recorded.
    """

    def __init__(self, steps: list[Step], output: int, rows: int) -> None:
        super().__init__()
        self.steps, self.output, self.rows = _needed(steps, output), output, rows
        last = {slot: i for i, step in enumerate(self.steps) for slot in (*step.inputs, *step.outputs)}
        self._done = [[s for s, at in last.items() if at == i and s != output] for i in range(len(self.steps))]
        self._copies = any(step.changes for step in self.steps)
        for i, step in enumerate(self.steps):
            if isinstance(step.function, nn.Module):
                self.add_module(f"step_{i}", step.function)

    def with_modules(self, make: Callable[[Step], Callable | None]) -> Program:
        """The same, with ``make(step)``, if any, in a function's place: modules, by which captum works, or none."""
        return Program([step.by(make(step)) for step in self.steps], self.output, self.rows)

    def forward(self, activations: Tensor, image: int | None = None) -> Tensor:
        """``image``: whose activations they all are; None: those of every image recorded, in order, once or more."""
        count = len(activations)
        values: dict[int, Tensor] = {0: activations.clone() if self._copies else activations}
        for step, done in zip(self.steps, self._done, strict=True):
            args = step.args if count == self.rows else _resized(step, self.rows, count)
            args, kwargs = _mapped((args, step.kwargs), partial(self._filled, values, image, count))
            if isinstance(step.function, nn.Module):  # captum's rules are hooks on what a module reads: its alone
                args = (args[0].view_as(args[0]), *args[1:])
            device, cast = activations.device.type, step.autocast  # as it was when the step was recorded
            same = cast == _autocast(device)
            with nullcontext() if same else torch.autocast(device, dtype=cast, enabled=cast is not None):
                result = step.function(*args, **kwargs)
            if step.name != "__setitem__":
                results = [t for t in _leaves(result) if isinstance(t, Tensor)]
                values.update(zip(step.outputs, results, strict=True))
            for slot in done:
                values.pop(slot, None)
        return values[self.output]

    def _filled(self, values: dict[int, Tensor], image: int | None, count: int, leaf: object) -> object:
        """The tensor in a slot; the rows of a tensor from before the layer that has one for each image recorded."""
        if isinstance(leaf, Slot):
            return values[leaf.number]
        per_image = isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter) and leaf.ndim > 1
        if not per_image or len(leaf) != self.rows or (image is None and count == self.rows):
            return leaf
        if image is not None:
            return leaf[image : image + 1].expand(count, *leaf.shape[1:])
        return leaf.repeat(count // self.rows, *[1] * (leaf.ndim - 1))


def _resized(step: Step, rows: int, count: int) -> tuple:
    """The step's arguments where its first size is a multiple of the number of rows: of ``count`` rows instead."""
    first = step.after[0] if step.after else 0
    if step.name not in _SIZED or len(step.args) < 2 or not first or first % rows:
        return step.args
    tensor, sizes, *options = step.args
    size = first // rows * count
    if isinstance(sizes, (tuple, list)):
        sizes = (size, *sizes[1:]) if sizes[0] == first else sizes
    elif sizes == first:
        sizes = size
    return (tensor, sizes, *options)


def _autocast(device: str) -> torch.dtype | None:
    """The type to which autocast casts on ``device`` at the moment; None when it is off."""
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if on else None


def _needed(steps: list[Step], output: int) -> list[Step]:
    """The steps on which ``output`` depends; all that change something in place, for another may look at it."""
    wanted, needed = {output}, []
    for step in reversed(steps):
        if step.changes or wanted.intersection(step.outputs):
            wanted |= step.inputs
            needed.append(step)
    return needed[::-1]


def _leaves(value: object) -> Iterator[object]:
    """What tuples, lists and dictionaries hold, at any depth."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    else:
        yield value


def _mapped(value: object, change: Callable[[object], object]) -> object:
    """``value`` with every leaf changed."""
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (tuple, list)):
        items = [_mapped(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return change(value)
