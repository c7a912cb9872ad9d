"""CAMs that ask the channel game directly: Ablation-, SHAP- and LIFT-CAM, and their relatives LIME-CAM and LRP-CAM.

captum is imported where it is called: LIME-CAM and LRP-CAM need it, and LIFT-CAM on heads without a closed form.
"""

from __future__ import annotations

import copy
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor, nn

from campanion.cams.captum import captum_call, seed_from
from campanion.cams.methods import Count, Number, method
from campanion.game.game import ChannelGame
from campanion.game.heads import LinearFirstHead
from campanion.game.steps import POINTWISE, as_function, without_bias
from campanion.game.unitnorm import UnitNorm, deep_lift_rule
from campanion.inference import wide

_NO_RULE = (
    "captum has no rule for a function of this head (a product of activations, overlapping max-pooling). "
    "Choose a later layer."
)


@method("Ablation-CAM", "Desai and Ramaswamy, WACV 2020")
def ablation_cam(game: ChannelGame, target: Tensor) -> Tensor:
    """a_k = v(all) - v(all but k) (LIFT-CAM eq. 9).

    The paper divides by v(all); where that logit is negative the division would turn the map upside down, and where it
    is positive the map does not change, so it is left out.
    """
    if game.head.kind == "linear":
        return game.contributions(target)[0].squeeze(2).clone()
    all_but_one = ~torch.eye(game.channels, dtype=torch.bool, device=target.device)
    every = game.value(torch.ones_like(all_but_one[:1]), target, relative=True)
    return every - game.value(all_but_one, target, relative=True)


@method("SHAP-CAM", "Jung and Oh, ICCV 2021")
def shap_cam(
    game: ChannelGame,
    target: Tensor,
    *,
    orderings: Count = 100,
    antithetic: bool = False,
    tolerance: Number | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """a_k = the Shapley value of channel k from sampled orderings (LIFT-CAM eq. 6, Algorithm 1)."""
    return game.shapley(target, orderings, generator, antithetic, tolerance).values


@method("LIFT-CAM", "Jung and Oh, ICCV 2021")
def lift_cam(game: ChannelGame, target: Tensor) -> Tensor:
    """a_k = sum_ij of DeepLIFT's contributions (Rescale rule, baseline 0) of A_kij to the logit (LIFT-CAM eq. 7).

    Linear-first heads have them in closed form, a = C m with the rescale multipliers m of the first pre-activation
    (:meth:`campanion.game.heads.LinearFirstHead.multipliers`); any other head goes through captum's DeepLift.

    Raises:
        ValueError: the head cannot be cut out of the network, or has a function that captum's DeepLift has no rule for.
    """
    if isinstance(game.head, LinearFirstHead):
        contributions, offset = game.contributions(target)
        with torch.no_grad():
            multipliers = game.head.multipliers(offset + contributions.sum(1), offset, target)
            return torch.einsum("bkd,bd->bk", contributions, multipliers)
    return _by_captum(game, target)


@method("LRP-CAM", "Jung and Oh, ICCV 2021 (authors' repository)")
def lrp_cam(game: ChannelGame, target: Tensor) -> Tensor:
    """a_k = sum_ij of the relevance that LRP (epsilon rule, captum) gives to A_kij.

    Raises:
        ValueError: the head cannot be cut out, or has a function that captum's LRP has no rule for: then relevance is
            not conserved, which is tested on the head without its biases (they take relevance away).
    """
    head = _head_module(game).with_modules(as_function)
    activations = wide(game.activations)
    if activations.dtype != game.activations.dtype:  # captum's epsilon is 0 in half precision
        head = copy.deepcopy(head).float()
    lean = head.with_modules(lambda step: without_bias(step.function))
    relevance, conserved = (_relevance(game, module, activations, target) for module in (head, lean))
    with torch.no_grad():
        logit = lean(activations).gather(1, target.unsqueeze(1)).squeeze(1)
    missing = (conserved.sum(1) - logit).abs()  # beside the logit: relevances that cancel are large
    if not bool((missing <= 1e-6 * conserved.abs().sum(1) + 1e-2 * logit.abs() + 1e-6).all()):  # captum adds 1e-9
        raise ValueError(f"lrp_cam: captum's LRP does not conserve relevance after {game.parts.name!r}: {_NO_RULE}")
    return relevance


def _relevance(game: ChannelGame, head: nn.Module, activations: Tensor, target: Tensor) -> Tensor:
    """Relevance [B, K] of the channels by captum's epsilon rule."""
    from captum.attr import LRP

    try:
        with captum_call():
            relevance = LRP(head).attribute(activations.clone(), target=target)
    except (TypeError, AssertionError, RuntimeError) as error:
        raise ValueError(f"lrp_cam: captum's LRP cannot take the head after {game.parts.name!r}: {error}") from error
    return relevance.sum((2, 3)).detach()


@method("LIME-CAM", "Jung and Oh, ICCV 2021 (authors' repository)")
def lime_cam(
    game: ChannelGame, target: Tensor, *, samples: Count | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """a_k = LIME's linear coefficient of channel k, fitted (captum) to the game's value of random coalitions.

    ``samples`` coalitions (default: as many as channels, as the authors' code draws).
    """
    from captum.attr import Lime

    rows, seed = [], seed_from(generator)  # one seed for all: an image's map does not depend on its neighbours
    every = torch.ones(1, game.channels, dtype=game.activations.dtype, device=target.device)
    for b in range(len(target)):
        value = partial(game.image(b).value, target=target[b : b + 1])
        lime = Lime(lambda presence, value=value: value(presence)[0])
        with captum_call(seed):
            rows.append(lime.attribute(every, n_samples=samples or game.channels, perturbations_per_eval=256))
    return torch.cat(rows).to(game.activations)


def _by_captum(game: ChannelGame, target: Tensor) -> Tensor:
    """LIFT-CAM's weights of a head without a closed form."""
    from captum.attr import DeepLift
    from captum.attr._core import deep_lift

    # captum takes the plain gradient, silently, through activations that are not in its table (ReLU6, SiLU, GELU ...).
    kinds = {*POINTWISE, nn.PReLU} - deep_lift.SUPPORTED_NON_LINEAR.keys()
    rules = dict.fromkeys(kinds, deep_lift.nonlinear) | {UnitNorm: deep_lift_rule}
    head = _head_module(game)
    try:
        with captum_call(), patch.dict(deep_lift.SUPPORTED_NON_LINEAR, rules):
            lifted = DeepLift(head).attribute(game.activations.clone(), target=target)
    except RuntimeError as error:  # a part of the head that no gradient reaches
        raise ValueError(
            f"lift_cam: DeepLift cannot take the head after {game.parts.name!r}: {error}. Choose a later layer."
        ) from error
    weights = lifted.sum((2, 3)).detach()
    ends = torch.tensor([[0.0], [1.0]], device=target.device).expand(2, game.channels)
    nothing, every = game.value(ends, target, relative=True).unbind(1)
    missing = weights.sum(1) - (every - nothing)
    rounding = 64 * torch.finfo(weights.dtype).eps * (weights.abs().sum(1) + every.abs() + nothing.abs())
    if not bool((missing.abs() <= 1e-3 * (every - nothing).abs() + rounding).all()):  # also refuses NaN
        raise ValueError(
            f"lift_cam: DeepLIFT's contributions after {game.parts.name!r} do not sum to v(all) - v(none): {_NO_RULE}"
        )
    return weights


def _head_module(game: ChannelGame) -> nn.Module:
    if game.head.module is None:
        raise ValueError(
            f"The head after {game.parts.name!r} cannot be cut out of this network (its code depends on numbers, or is "
            "recurrent); choose a later layer, or a method that only needs forward passes or gradients."
        )
    return game.head.module
