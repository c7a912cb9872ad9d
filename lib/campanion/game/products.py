"""The products of a coalition's numbers that heads need, without the terms that are zero: exact to rounding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_OUTPUTS = 512  # of a layer, at once


def by_channel(weight: Tensor, present: Tensor) -> Tensor:
    """C [B, K, D], each channel's part of a linear layer: weights [D, K, P], read once, by numbers [B, K, P]."""
    if len(present) > 1 or present.device.type != "cpu" or present.dtype != torch.float32:
        return torch.einsum("dkp,bkp->bkd", weight, present)
    # NumPy reads the weights in the order in which they lie.
    contributions = np.einsum("dkp,kp->kd", weight.detach().numpy(), present[0].detach().numpy())
    return torch.from_numpy(np.ascontiguousarray(contributions))[None]


def sums(rows: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """z(S) [B, M, D] of ``rows`` [B, M, K], for contributions [B, K, D] and offset [B, D]: a matrix product.

    Where few channels are present (FD-CAM's groups) or absent (Ablation-CAM), on a CPU the sum of these.
    """
    shape, matrix = rows.shape, matrix.contiguous()
    if rows.dtype == torch.bool and matrix.device.type == "cpu" and matrix.dtype in (torch.float32, torch.float64):
        present = np.count_nonzero(rows.numpy())
        few = rows if 2 * present < rows.numel() else ~rows
        if 8 * min(present, rows.numel() - present) < rows.numel():
            # Places of the members in all rows, one after the other, and where each row's begin.
            members = torch.from_numpy(np.flatnonzero(few.numpy()))
            begins = torch.searchsorted(members, torch.arange(0, few.numel(), shape[2]))
            players = members % shape[2] + members // (shape[1] * shape[2]) * shape[2]
            part = nn.functional.embedding_bag(players, matrix.flatten(0, 1), begins, mode="sum").view(*shape[:2], -1)
            return part + offset.unsqueeze(1) if few is rows else (offset + matrix.sum(1)).unsqueeze(1) - part
    return torch.baddbmm(offset.unsqueeze(1), rows.to(matrix.dtype), matrix)


def used_alone(layer: nn.Linear, rows: Tensor) -> Tensor:
    """``layer`` of rows [N, D] without inputs that are 0 in every row, as a ReLU makes many: exact to rounding."""
    used = rows.any(0).nonzero().flatten()
    # Gathering one unit's weights takes as long as multiplying about 16 rows by them.
    if len(rows) * (rows.shape[1] - len(used)) < 16 * len(used):
        return layer(rows)
    short, out = rows.index_select(1, used), rows.new_empty(len(rows), len(layer.weight))
    # A few outputs at a time: the gathered weights are multiplied while the processor's cache has them.
    scratch = short.new_empty(_OUTPUTS, len(used))
    for weight, block in zip(layer.weight.detach().split(_OUTPUTS), out.split(_OUTPUTS, 1), strict=True):
        torch.mm(short, torch.index_select(weight, 1, used, out=scratch[: len(weight)]).T, out=block)
    return out if layer.bias is None else out.add_(layer.bias.detach())
