"""Training of networks: settings, data, loop, checkpoints and the grid of LFI-CAM's training runs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from campanion.training.loop import train

__all__ = ["train"]


def __getattr__(name: str) -> object:
    """``train`` on first use: what only reads settings need not wait for accelerate."""
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from campanion.training.loop import train

    return train
