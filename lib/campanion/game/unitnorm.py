r"""Division by the length, y = x / \|x\|, and its DeepLIFT multiplier.

The Rescale rule is for functions of one number; a norm mixes several, and captum's DeepLift takes the plain gradient
there, so that contributions no longer sum to the difference of the scores. But the norm is made of steps that each have
an exact rule. With :math:`x^0` the reference, :math:`\Delta x = x - x^0`, :math:`s = 1/\|x\|`:

- :math:`q = \sum_j x_j^2`: the Rescale rule of a square is exact, :math:`\Delta q = \sum_j (x_j + x_j^0) \Delta x_j`;
- :math:`s = q^{-1/2}`: :math:`\Delta s = -\frac{s s^0}{\|x\| + \|x^0\|} \Delta q`;
- :math:`y_i = x_i s`: a product of two factors that both change is shared evenly (the Shapley value of the two),
  :math:`\Delta y_i = \frac{s + s^0}{2} \Delta x_i + \frac{x_i + x_i^0}{2} \Delta s`.

(SHAP's DeepExplainer has the same rules for squares, roots and products.) Together :math:`\Delta y = M \Delta x`
exactly, with

.. math:: M = \frac{s + s^0}{2} I - \frac{s s^0}{2 (\|x\| + \|x^0\|)} (x + x^0)(x + x^0)^T,

symmetric, free of divisions by small differences, and the gradient of the norm where x nears :math:`x^0`. Where x or
:math:`x^0` is zero its direction is not defined (PyTorch has y = 0), and only :math:`M = s I` (or :math:`s^0 I`) is
left.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UnitNorm(nn.Module):
    """``F.normalize(x, dim=1)``, as a module that DeepLIFT's hooks can find: rows [N, D] of length one."""

    def __init__(self, eps: float = 1e-12) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Rows of length one; a row of zeros stays."""
        return F.normalize(x, dim=1, eps=self.eps)


def multiply(gradient: Tensor, x: Tensor, reference: Tensor, eps: float = 1e-12) -> Tensor:
    """M g (see the module's head) for g = ``gradient`` [N, D], from ``reference`` to ``x``, both [N, D].

    ``(multiply(g, x, x0) * (x - x0)).sum(1) == (g * (x/|x| - x0/|x0|)).sum(1)`` for every g.
    """
    length, length0 = (v.norm(dim=1, keepdim=True) for v in (x, reference))
    defined, defined0 = length > eps, length0 > eps
    s, s0 = 1 / length.clamp_min(eps), 1 / length0.clamp_min(eps)
    s, s0 = torch.where(defined, s, s0), torch.where(defined0, s0, s)
    middle = x + reference
    along = s * s0 / (2 * (length + length0).clamp_min(eps)) * (gradient * middle).sum(1, keepdim=True) * middle
    return gradient * (s + s0) / 2 - torch.where(defined & defined0, along, 0)


def deep_lift_rule(
    module: UnitNorm, inputs: Tensor, outputs: Tensor, grad_input: Tensor, grad_output: Tensor, eps: float = 1e-10
) -> Tensor:
    """:func:`multiply` in the form that captum's table of rules wants: inputs first, then their references [2N, D]."""
    x, reference = (torch.cat([part, part]) for part in inputs.detach().chunk(2))
    return multiply(grad_output, x, reference, eps=module.eps)
