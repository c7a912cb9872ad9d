"""Imports torchvision without PyTorch's compiler, which takes longer to import than the rest of torchvision.

``torchvision.ops.roi_align`` imports all of ``torch._dynamo`` for one question, whether the compiler knows a device. It
is asked only where deterministic algorithms are demanded, so a stand-in takes the module's place until then. The
packages that use torchvision import this module first; where torchvision is there already, it changes nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

_NAME = "torch._dynamo.utils"


class StandIn(ModuleType):
    """``torch._dynamo.utils`` until something of it is used, which imports the real module in its place."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the import system asks every module for some of these
            raise AttributeError(name)
        return getattr(_real(), name)

    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        """The real module's answer; only the asking imports it."""
        return _real().is_compile_supported(device_type)


def _real() -> ModuleType:
    _remove_stand_in()
    return import_module(_NAME)


def _remove_stand_in() -> None:
    if isinstance(sys.modules.get(_NAME), StandIn):
        del sys.modules[_NAME]


if "torchvision" not in sys.modules and "torch._dynamo" not in sys.modules:
    sys.modules[_NAME] = StandIn(_NAME)
    try:
        import_module("torchvision")
    finally:
        _remove_stand_in()
