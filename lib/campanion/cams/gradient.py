"""CAMs from the gradient of the class's logit; with g = dF^c/dA, all share one backward pass through the head."""

from __future__ import annotations

import torch
from torch import Tensor

from campanion.cams.methods import choose, method
from campanion.game.game import ChannelGame
from campanion.game.heads import LinearFirstHead
from campanion.inference import wide


@method("CAM", "Zhou et al., CVPR 2016", rectified=False)
def cam(game: ChannelGame, target: Tensor) -> Tensor:
    """The classifier's own weights w_kc of the averaged channels; the map is not rectified.

    Raises:
        ValueError: the head is not global average pooling and one linear layer (ResNet's is; DenseNet's after a ReLU).
    """
    head, maps = game.head, wide(game.activations).flatten(2)
    linear = isinstance(head, LinearFirstHead) and head.kind == "linear"
    pooled, means = head.pooled(game.activations).squeeze(2) if linear else maps, (maps.mean(2), maps.sum(2))
    share = max(1e-3, 2 * torch.finfo(pooled.dtype).eps)
    near = [pooled.shape == m.shape and bool(((pooled - m).abs() <= share * m.abs().max()).all()) for m in means]
    if not any(near):
        raise ValueError(
            f"cam needs a head of global average pooling and one linear layer; what follows {game.parts.name!r} in "
            "this network is another. Use lift_cam, which equals cam's weights times the mean activations there."
        )
    return head.first.weight.detach()[target]


@method("Grad-CAM", "Selvaraju et al., ICCV 2017", gradient=True)
def grad_cam(game: ChannelGame, target: Tensor) -> Tensor:
    """a_k = mean_ij g_kij (FD-CAM eq. 2)."""
    return game.gradient(target).mean((2, 3))


@method("Grad-CAM++", "Chattopadhay et al., WACV 2018", gradient=True)
def grad_cam_pp(game: ChannelGame, target: Tensor) -> Tensor:
    """w_k = sum_ij alpha_kij ReLU(g_kij), alpha = g^2 / (2 g^2 + sum_ab A_kab g^3), 0 where g is 0.

    The paper's score is exp(logit), whose factor exp(logit) is one constant per image: alpha does not see it and the
    map's scale is free, so it is left out (it overflows).
    """
    g = game.gradient(target)
    # Divided by g^2, which underflows where g does not.
    below = 2 + wide(game.activations).sum((2, 3), keepdim=True) * g
    alpha = torch.where((g != 0) & (below != 0), 1 / torch.where(below != 0, below, 1), torch.zeros_like(g))
    return (alpha * g.relu()).sum((2, 3))


@method("XGrad-CAM", "Fu et al., BMVC 2020", gradient=True)
def xgrad_cam(game: ChannelGame, target: Tensor, *, variant: str = "authors") -> Tensor:
    """``"authors"``: w_k = sum_ij g_kij A_kij / (sum_ij A_kij + 1e-6); ``"lift"``: no division (LIFT-CAM eq. 10).

    The authors' code and paper divide, which makes the weight an average gradient; LIFT-CAM's comparison does not,
    which makes it a contribution, comparable with a SHAP value.
    """
    choose("xgrad_cam variant", variant, ("authors", "lift"))
    weights = (game.gradient(target) * game.activations).sum((2, 3))
    return weights if variant == "lift" else weights / (wide(game.activations).sum((2, 3)) + 1e-6)


@method("Layer-CAM", "Jiang et al., IEEE TIP 2021", gives="map", gradient=True)
def layer_cam(game: ChannelGame, target: Tensor) -> Tensor:
    """L = ReLU(sum_k ReLU(g_k) * A_k), a weight for every pixel of every channel."""
    return (game.gradient(target).relu() * game.activations).sum(1).relu()
