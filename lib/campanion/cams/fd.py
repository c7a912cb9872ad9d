"""FD-CAM: groups of similar channels switched off and on, combined with the gradient (Li et al., ICPR 2022)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from campanion.cams.methods import Number, choose, method
from campanion.game.game import ChannelGame
from campanion.inference import wide

_CACHED = 2**18  # numbers that stay in a processor's cache: 1 MB in float32


@method("FD-CAM", "Li et al., ICPR 2022", gradient=True)
def fd_cam(
    game: ChannelGame,
    target: Tensor,
    *,
    percentile: Number = 5.0,
    grouped: bool = True,
    switch: str = "both",
    combination: str = "exp",
    bias: Number = 0.5,
    percentile_of: str = "channel",
    score: str = "logit",
) -> Tensor:
    """w_k = a_k e^{s_k} - b, with a (Grad-CAM's) and s (the switching score) min-max normalised over channels (eq. 10).

    Args:
        percentile: theta, the per cent of channels in a group (the paper: 5).
        grouped: switch similar channels together; False: channel k alone (Table III, "ng").
        switch: ``"off"`` (eq. 6), ``"on"`` (eq. 7) or ``"both"`` (eq. 8).
        combination: ``"exp"`` (eq. 10) or ``"linear"``, w = a s - b (Table IV).
        bias: b (0 or 0.5 in Table IV), subtracted outside the exponential as the authors' code does.
        percentile_of: whose cosines theta counts, see :func:`similarity_groups`; the authors' code: each channel's.
        score: f_c of eq. 6-8, ``"logit"`` (the authors' code) or ``"probability"``; the paper does not say.
    """
    choose("fd_cam combination", combination, ("exp", "linear"))
    gradient = min_max(game.gradient(target).mean((2, 3)))
    # The groups do not depend on the class.
    similar = partial(similarity_groups, game.activations, percentile, percentile_of)
    groups = game.once(("groups", percentile, percentile_of), similar) if grouped else None
    switching = min_max(switching_score(game, target, groups, switch, score, relative=True))
    return gradient * (switching.exp() if combination == "exp" else switching) - bias


def cosines(activations: Tensor) -> Tensor:
    """M [B, K, K]: cos(A_k, A_l) of every pair of channels (FD-CAM eq. 4); 0 where one of them is dead."""
    return (unit := _directions(activations)) @ unit.mT


def _directions(activations: Tensor) -> Tensor:
    flat = wide(activations).flatten(2)  # squares of half precision overflow
    return flat / flat.norm(dim=2, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)


def similarity_groups(activations: Tensor, percentile: float = 5.0, percentile_of: str = "channel") -> Tensor:
    """G [B, K, K] bool: row k is the group of channel k, all with cos(A_k, A_l) > tau_k (FD-CAM eq. 4 and 5).

    tau_k is the (100 - percentile)th percentile of row k's cosines, linearly interpolated; the comparison is strict
    and a channel belongs to its own group, unless as many others tie with it. A dead channel has cosine 0 with all, and
    an empty group.

    The paper's sentence leaves open whose similarities are sorted. ``percentile_of="channel"`` (the authors' code):
    each channel's own, so that all groups are of one size. ``"all"``: those of all pairs of channels, one tau for the
    whole image, so that a channel like many others has a large group and a peculiar one stands alone.

    Raises:
        ValueError: percentile outside 0..100, or another ``percentile_of``.
    """
    choose("fd_cam percentile_of", percentile_of, ("channel", "all"))
    if not 0 < percentile < 100:
        raise ValueError(f"percentile must lie between 0 and 100, not {percentile}.")
    unit, every = _directions(activations), percentile_of == "all"
    channels = unit.shape[1]
    place = (1 - percentile / 100) * (channels ** (1 + every) - 1)
    groups = torch.empty(len(unit), channels, channels, dtype=torch.bool, device=unit.device)
    # A few rows at a time, which stay in a processor's cache: half the time of the whole matrix on a CPU.
    size = channels if every or unit.device.type != "cpu" else max(1, _CACHED // channels)
    for directions, members in zip(unit, groups, strict=True):
        for rows, out in zip(directions.split(size), members.split(size), strict=True):
            cosine = rows @ directions.T
            lower, upper = _neighbours(cosine.reshape(1, -1) if every else cosine, int(place))
            torch.gt(cosine, torch.lerp(lower, upper, place - int(place)), out=out)
    return groups


def _neighbours(values: Tensor, place: int) -> tuple[Tensor, Tensor]:
    """The ``place``-th smallest of each row of ``values`` [R, N], from 0, and the next larger one: [R, 1] each."""
    # torch.quantile sorts every row in full and refuses large inputs.
    if values.device.type != "cpu" or values.dtype not in (torch.float32, torch.float64):
        largest = values.topk(values.shape[1] - place, dim=1).values.flip(1)
        return largest[:, :1], largest[:, :2][:, -1:]
    # NumPy selects with vector instructions, in a half to a fifth of PyTorch's time.
    largest = torch.from_numpy(np.partition(values.detach().numpy(), place, axis=-1)[:, place:])
    return largest[:, :1], largest[:, min(1, largest.shape[1] - 1) :].amin(1, keepdim=True)


def switching_score(
    game: ChannelGame,
    target: Tensor,
    groups: Tensor | None,
    switch: str = "both",
    score: str = "logit",
    relative: bool = False,
) -> Tensor:
    """s [B, K]: off_k = v(all) - v(all but G_k), on_k = v(G_k), both = (off_k + on_k) / 2 (eq. 6-8).

    ``groups`` [B, K, K] bool, or None for each channel alone. v is the class's logit, or its probability; ``relative``:
    a logit without the network's last bias, which shifts all scores alike.
    """
    choose("fd_cam switch", switch, ("both", "on", "off"))
    choose("fd_cam score", score, ("logit", "probability"))
    if groups is None:
        groups = torch.eye(game.channels, dtype=torch.bool, device=target.device).expand(len(target), -1, -1)
    if score == "probability":
        every = game.probability(groups.new_ones(len(target), 1, game.channels), target)
        off = every - game.probability(~groups, target) if switch != "on" else 0
        on = game.probability(groups, target) if switch != "off" else 0
        return (on + off) / (2 if switch == "both" else 1)
    if game.head.kind == "linear":
        # v is additive: v(S) = z_0 + sum of C_k over S, so off_k + z_0 = on_k.
        matrix, offset = game.contributions(target)
        off = torch.cat([torch.bmm(rows.to(matrix.dtype), matrix) for rows in groups.split(256, 1)], 1).squeeze(2)
        return off if relative else {"off": off, "on": off + offset, "both": off + offset / 2}[switch]
    if switch == "on":
        return game.value(groups, target, relative)
    every = game.value(torch.ones_like(groups[:, :1]), target, relative)
    if switch == "off":
        return every - game.value(~groups, target, relative)
    on, without = game.value_on_off(groups, target, relative)
    return (on + every - without) / 2


def min_max(values: Tensor) -> Tensor:
    """Each row scaled to 0..1; a constant row becomes zeros."""
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    return (values - low) / torch.where(high > low, high - low, torch.ones_like(high))
