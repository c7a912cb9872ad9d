"""Random draws of libraries that know only the global generator, tied to a generator of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_from(generator: torch.Generator | None) -> int:
    """A 31-bit seed drawn from ``generator`` (0 without one)."""
    return 0 if generator is None else int(torch.randint(2**31, (1,), generator=generator))


@contextmanager
def captum_seed(generator: torch.Generator | None) -> Iterator[None]:
    """Seed torch's and NumPy's global generators from ``generator``; both are as before afterwards."""
    state = np.random.get_state()  # noqa: NPY002 - captum and scikit-learn draw from NumPy's global generator
    with torch.random.fork_rng():
        seed = seed_from(generator)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
