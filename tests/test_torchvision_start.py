"""torchvision without PyTorch's compiler: left out at the start, there as ever when it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest


def printed(code: str) -> str:
    """What a fresh Python prints that runs ``code``."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("package", ["cams", "data", "metrics", "models"])
def test_importing_a_package_leaves_the_compiler_out(package: str) -> None:
    code = f"import sys, campanion.{package}; print('torchvision' in sys.modules, 'torch._dynamo' in sys.modules)"
    assert printed(code) == "True False"


def test_without_this_module_torchvision_brings_the_compiler() -> None:
    # When this fails, torchvision has become light by itself, and campanion.torchvision_start can go.
    assert printed("import sys, torchvision; print('torch._dynamo' in sys.modules)") == "True"


def test_the_one_function_that_asks_still_gets_its_answer() -> None:
    code = """
import campanion.models, sys, torch
from torchvision.ops import roi_align
images, box = torch.rand(1, 3, 16, 16), torch.tensor([[0, 1.0, 2.0, 9.0, 11.0]])
plain = roi_align(images, box, (4, 4), aligned=True)
torch.use_deterministic_algorithms(True)
import torchvision.ops.roi_align
ask = sys.modules["torchvision.ops.roi_align"].is_compile_supported
print(torch.equal(plain, roi_align(images, box, (4, 4), aligned=True)))
import torch._dynamo.utils as real
print(ask("cpu") == real.is_compile_supported("cpu"), ask("meta") == real.is_compile_supported("meta"))
"""
    assert printed(code).split() == ["True"] * 3


def test_the_compiler_works_after_it_was_left_out() -> None:
    code = """
import campanion.models, torch
from torchvision.models import resnet18
network, images = resnet18().eval(), torch.rand(1, 3, 32, 32)
compiled = torch.compile(network, backend="eager", fullgraph=True)
print(torch.equal(network(images), compiled(images)), type(torch._dynamo.utils).__name__)
"""
    assert printed(code) == "True module"


def test_any_other_use_meanwhile_gets_the_real_module() -> None:
    code = """
import sys
from campanion.torchvision_start import StandIn
sys.modules["torch._dynamo.utils"] = StandIn("torch._dynamo.utils")
from torch._dynamo.utils import counters
print(type(sys.modules["torch._dynamo.utils"]).__name__, counters is sys.modules["torch._dynamo.utils"].counters)
"""
    assert printed(code) == "module True"


def test_where_torchvision_is_there_already_nothing_changes() -> None:
    code = """
import sys, torchvision
before = sys.modules["torch._dynamo.utils"]
import campanion.models
print(sys.modules["torch._dynamo.utils"] is before)
"""
    assert printed(code) == "True"
