"""How near a CAM's channel weights are to the Shapley values of the channels (LIFT-CAM, Table 2)."""

from __future__ import annotations

import torch
from torch import Tensor


def shap_cosine(weights: Tensor, reference: Tensor) -> Tensor:
    """Cosine between channel weights and reference weights, such as those of SHAP-CAM with 10,000 orderings.

    Args:
        weights: [B, K], of the method under test.
        reference: [B, K].

    Returns:
        cosines [B] in -1..1, in double precision; 0 where either row is all zero.

    Raises:
        ValueError: for shapes that disagree, NaN or infinite values.

    Example:
        >>> shap_cosine(explanation.weights["lift_cam"], game.shapley(targets, orderings=10_000).values)
    """
    shapes = [list(v.shape) if isinstance(v, Tensor) else type(v).__name__ for v in (weights, reference)]
    if shapes[0] != shapes[1] or not isinstance(weights, Tensor) or weights.ndim != 2:
        raise ValueError(f"weights and reference must both be tensors [B, K]; got {shapes[0]} and {shapes[1]}.")
    # Double, and scaled by the largest entry first: gradients can be small enough for their squares to underflow.
    a, b = weights.double(), reference.to(weights.device).double()
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ValueError("weights or reference holds NaN or infinite values; clean them first.")
    a, b = (x / x.abs().amax(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny) for x in (a, b))
    length = a.norm(dim=1) * b.norm(dim=1)
    cosine = (a * b).sum(1) / length.where(length > 0, 1.0)
    return cosine.clamp(-1, 1)
