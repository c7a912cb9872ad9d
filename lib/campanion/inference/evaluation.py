"""Eval mode for the time of a call, from any number of threads, which leaves neither flags nor graphs behind."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from campanion.outputs import eager

_LOCK = threading.Lock()
#: Modules that are in eval mode for the time being, and how many calls need them so.
_HELD: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def modules_of(model: nn.Module) -> list[nn.Module]:
    """``model`` and all modules in it, each once: what ``model.modules()`` gives, in a third of its time."""
    found, seen = [model], {model}
    for module in found:  # grows on the way
        fresh = [part for part in module._modules.values() if part is not None and part not in seen]
        seen.update(fresh)
        found += dict.fromkeys(fresh)
    return found


@contextmanager
def eval_mode(model: nn.Module, graph: bool = False) -> Iterator[nn.Module]:
    """Put ``model`` in eval mode; every submodule's own train/eval flag is restored when the last thread is done.

    ``graph``: gradients are recorded, so that tensors which the modules keep (their last features) would hold the graph
    and with it all of the pass: they are detached afterwards.
    """
    modules = modules_of(model)
    with _LOCK:
        held = [m for m in modules if m.training or (_HELD and m in _HELD)]
        for module in held:
            _HELD[module] = _HELD.get(module, 0) + 1
            module.training = False
    known = {id(value) for _, _, value in _graphs(modules)} if graph else set()
    try:
        with eager(model, modules):
            yield model
    finally:
        if graph:
            for holder, name, value in _graphs(modules):
                if id(value) not in known:
                    parts = (v.detach() if isinstance(v, Tensor) else v for v in value)  # of a tuple
                    holder[name] = value.detach() if isinstance(value, Tensor) else tuple(parts)
        with _LOCK:
            for module in held:
                _HELD[module] -= 1
                if not _HELD[module]:
                    module.training = True
                    del _HELD[module]


_PLAIN = {bool, int, float, str, type(None)}
# What a module of PyTorch's own holds, where no hook gives it more; what all modules hold.
_USUAL, _INTERNAL = {*_PLAIN, tuple, set, dict, OrderedDict}, {*nn.Module().__dict__}


def _graphs(modules: list[nn.Module]) -> list[tuple[dict | list, Any, Any]]:
    """What modules keep of a graph, alone or in lists, dictionaries and tuples: what holds it, its place there, it."""
    found: list[tuple[dict | list, Any, Any]] = []
    for module in modules:
        own = module.__dict__
        if not isinstance(own["_buffers"], dict):  # TorchScript keeps its own
            continue
        hooked = own["_forward_hooks"] or own["_forward_pre_hooks"]
        library = type(module).__module__.startswith("torch.nn.") and not hooked
        for holder in (own, own["_buffers"]):
            if library and _USUAL.issuperset(map(type, holder.values())):  # rules out nearly all, at once
                continue
            for place in holder.keys() - _INTERNAL if holder is own else list(holder):
                _collect(found, holder, place, holder[place])
    return found


def _collect(found: list, holder: dict | list, place: Any, value: Any, depth: int = 0) -> None:
    if isinstance(value, (dict, list)) and depth < 3:
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for inner, part in [pair for pair in parts if type(pair[1]) not in _PLAIN]:  # not over a thousand names
            _collect(found, value, inner, part, depth + 1)
    elif (isinstance(value, Tensor) and value.grad_fn is not None) or (
        type(value) is tuple and any(isinstance(v, Tensor) and v.grad_fn is not None for v in value)
    ):
        found.append((holder, place, value))
