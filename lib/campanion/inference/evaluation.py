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

# Functions that return no values of the tensor, so that no branch of the network can depend on its values by them.
ABOUT_SHAPE = {
    "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size", "is_contiguous",
    "is_floating_point", "is_complex", "is_signed", "is_inference", "__len__", "__get__", "__repr__", "__format__",
    "__hash__", "get_device", "type", "data_ptr", "untyped_storage", "is_same_size", "register_hook", "retain_grad",
    "_set_grad_enabled", "is_conj", "is_neg", "dim_order", "backward",
}  # fmt: skip
_LOCK = threading.Lock()
#: Modules that are in eval mode for the time being, and how many calls need them so.
_HELD: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def modules_of(model: nn.Module) -> list[nn.Module]:
    """``model`` and all modules in it, each once: what ``model.modules()`` gives, in a third of its time."""
    modules, seen = [model], {model}
    for module in modules:  # grows on the way
        fresh = [part for part in module._modules.values() if part is not None and part not in seen]
        seen.update(fresh)
        modules += dict.fromkeys(fresh)
    return modules


@contextmanager
def eval_mode(model: nn.Module, graph: bool = False) -> Iterator[nn.Module]:
    """Put ``model`` in eval mode; every submodule's own train/eval flag is restored when the last thread is done.

    ``graph``: gradients are recorded, so that tensors which the modules keep (their last features) would hold the graph
    and with it all of the pass: they are detached afterwards.
    """
    modules = modules_of(model)
    with _LOCK:
        others = bool(_HELD)
        held = [m for m in modules if m.training or (others and m in _HELD)]
        for module in held:
            _HELD[module] = _HELD.get(module, 0) + 1
            module.training = False
    earlier = {id(value) for _, _, value in _graphs(modules)} if graph else set()
    try:
        with eager(model):
            yield model
    finally:
        if graph:
            for holder, name, value in _graphs(modules):
                if id(value) not in earlier:
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


def _graphs(modules: list[nn.Module]) -> Iterator[tuple[dict | list, Any, Any]]:
    """Tensors, and tuples of them, that modules keep with their graph: the holder, the key in it, the value."""
    for module in modules:
        attributes = module.__dict__
        if not isinstance(attributes["_buffers"], dict):  # TorchScript keeps its own
            continue
        hooked = attributes["_forward_hooks"] or attributes["_forward_pre_hooks"]
        library = type(module).__module__.startswith("torch.nn.") and not hooked
        for holder in (attributes, attributes["_buffers"]):
            if library and _USUAL.issuperset(map(type, holder.values())):  # rules out nearly all, at once
                continue
            for key in holder.keys() - _INTERNAL if holder is attributes else list(holder):
                value = holder[key]
                if type(value) not in _PLAIN and (type(value) is not Tensor or value.grad_fn is not None):
                    yield from _kept(holder, key, value)


def _kept(holder: dict | list, key: Any, value: Any, depth: int = 0) -> Iterator[tuple[dict | list, Any, Any]]:
    if isinstance(value, (dict, list)) and depth < 3:
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for inner, part in [pair for pair in parts if type(pair[1]) not in _PLAIN]:  # not over a thousand names
            yield from _kept(value, inner, part, depth + 1)
    elif any(isinstance(v, Tensor) and v.grad_fn is not None for v in (value if type(value) is tuple else (value,))):
        yield holder, key, value
