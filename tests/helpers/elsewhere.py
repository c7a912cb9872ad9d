"""A pretended accelerator: tensors that lie "elsewhere" and, as on a GPU, refuse to meet those of the CPU.

Their numbers are kept in ordinary memory and every operation is computed there, so that a machine without a GPU finds
what would fail on one: operands on two devices, a generator of the other device, ``numpy()`` of a tensor that is not
on the CPU. Like CUDA, it lets scalars (no dimensions) and CPU indices through. It shows itself under the name of
torch's ``meta`` device, since that needs no driver.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE = torch.device("meta")
# Copies, indices on the CPU, and the lengths of packed sequences, which torch wants there.
_MAY_MEET = {
    "aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put_", "aten::_index_put_impl_",
    "aten::_pack_padded_sequence",
}  # fmt: skip


class Elsewhere(Tensor):
    """A tensor on the pretended device; ``here`` holds its numbers."""

    @staticmethod
    def __new__(cls, here: Tensor) -> Elsewhere:
        facts = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        made = Tensor._make_wrapper_subclass(cls, here.shape, device=DEVICE, **facts)
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        return _run(function, args, kwargs or {})

    def __deepcopy__(self, memo: dict) -> Elsewhere:
        made = Elsewhere(self.here.detach().clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            made._is_param = True
        memo[id(self)] = made
        return made

    def tolist(self) -> object:  # torch refuses this for subclasses; a GPU's tensor has it
        return self.here.tolist()


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        return _run(function, args, kwargs or {})


class _Constructors(TorchFunctionMode):
    """``torch.tensor(numbers, device=...)`` passes no numbers to a dispatch mode, so they are moved afterwards."""

    def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        kwargs = dict(kwargs or {})
        asked = kwargs.get("device")
        if function in (torch.tensor, torch.as_tensor) and asked is not None and torch.device(asked) == DEVICE:
            del kwargs["device"]
            return function(*args, **kwargs).to(DEVICE)
        if function is Tensor.new_tensor and isinstance(args[0], Elsewhere):
            return function(args[0].here, *args[1:], **kwargs).to(DEVICE)
        return function(*args, **kwargs)


@contextmanager
def pretended() -> Iterator[None]:
    """Within it, ``.to(DEVICE)`` and ``device=DEVICE`` give tensors elsewhere; networks go there by :func:`moved`."""
    with _Constructors(), _Dispatch():
        yield


def moved(model: nn.Module) -> nn.Module:
    """A copy of ``model`` on the pretended device."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter cannot become a subclass in place
    try:
        return copy.deepcopy(model).to(DEVICE)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _run(function: Callable, args: tuple, kwargs: dict) -> object:
    flat, spec = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, Tensor)]
    there = any(isinstance(x, Elsewhere) for x in tensors)
    name = function._schema.name
    if there and name not in _MAY_MEET and any(x.ndim and not isinstance(x, Elsewhere) for x in tensors):
        shapes = ", ".join(f"{tuple(x.shape)} {'elsewhere' if isinstance(x, Elsewhere) else 'cpu'}" for x in tensors)
        raise RuntimeError(f"{function}: tensors on two devices: {shapes}")
    asked = kwargs.get("device")
    to_there = asked is not None and torch.device(asked) == DEVICE
    if kwargs.get("generator") is not None and (to_there or there):
        raise RuntimeError(f"{function}: a generator of the CPU draws numbers on the CPU only")
    own_args, own_kwargs = tree_unflatten([x.here if isinstance(x, Elsewhere) else x for x in flat], spec)
    if to_there:
        own_kwargs["device"] = torch.device("cpu")
    found = function(*own_args, **own_kwargs)
    if name == "aten::copy_":
        return args[0]
    if name == "aten::_pack_padded_sequence":
        return Elsewhere(found[0]), found[1]  # the numbers of sequences at each step stay on the CPU
    if not (there if asked is None else to_there):
        return found
    found = tree_map(lambda x: Elsewhere(x) if isinstance(x, Tensor) else x, found)
    return return_and_correct_aliasing(function, args, kwargs, found) if there else found
