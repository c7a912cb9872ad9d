"""Calls of libraries that know only the global generators, tied to a generator of ours."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# What captum says of things that it does, and undoes, itself: nothing that a user could act on.
_CAPTUM_NOTICES = (r"(?s)Input Tensor \d+ did not already require gradients", r"(?s)Setting forward, backward hooks")

# Seeds, warnings and captum's table of rules belong to the whole process: one thread at a time.
_ALONE = threading.RLock()


def seed_from(generator: torch.Generator | None) -> int:
    """A 31-bit seed drawn from ``generator`` (0 without one)."""
    return 0 if generator is None else int(torch.randint(2**31, (1,), generator=generator, device=generator.device))


@contextmanager
def captum_call(seed: int = 0) -> Iterator[None]:
    """Seed torch's and NumPy's global generators, both as before afterwards, and silence captum's notices."""
    with _ALONE, torch.random.fork_rng(), warnings.catch_warnings():
        state = np.random.get_state()  # noqa: NPY002 - captum and scikit-learn draw from NumPy's global generator
        for notice in _CAPTUM_NOTICES:
            warnings.filterwarnings("ignore", message=notice)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
