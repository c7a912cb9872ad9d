"""Maps that a network learns to make of its own, in the forward pass: LFI-CAM's and ABN's. They explain no class."""

from __future__ import annotations

import torch
from torch import Tensor

from campanion.cams.methods import method
from campanion.game.game import ChannelGame
from campanion.inference import eval_mode


@method("LFI-CAM", "Lee et al., ICCV 2021", gives="map")
def lfi_cam(game: ChannelGame, target: Tensor) -> Tensor:
    """L = ReLU(sum_k w_k F_k), w from the Feature Importance Network (LFI-CAM eq. 9), normalised as eq. 10 takes it.

    The map is the same for every class. The weights are ``network.importance(images)``.

    Raises:
        ValueError: the network has no Feature Importance Network.
    """
    return _learned(game, "lfi_cam", "lfi_cam needs a network with a Feature Importance Network", "lfi")


@method("ABN", "Fukui et al., CVPR 2019", gives="map")
def abn(game: ChannelGame, target: Tensor) -> Tensor:
    """M, the sigmoid map of the attention branch. The map is the same for every class.

    Raises:
        ValueError: the network has no attention branch.
    """
    return _learned(game, "abn", "abn needs a network with an attention branch", "abn")


@torch.no_grad()
def _learned(game: ChannelGame, kind: str, needs: str, attention: str) -> Tensor:
    model = game.parts.model
    if getattr(model, "learned_map", None) != kind:  # a network's own word: the core knows no zoo
        raise ValueError(f"{needs} (build_model(..., attention={attention!r})); {type(model).__name__} has none.")
    with eval_mode(model):
        return model.attention_map(game.images)
