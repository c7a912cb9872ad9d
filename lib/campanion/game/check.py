"""A head is believed after it was compared with the network, on the images at hand; else the network itself answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn

from campanion.game.heads import GenericHead, Head, LinearFirstHead
from campanion.game.split import Pass, Split, generators
from campanion.inference import eval_mode


@torch.inference_mode(False)  # a head that is made in it has no gradient later
@torch.no_grad()
def believed(
    parts: Split, images: Tensor, played: Pass, contributions: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> Head:
    """The head that was recognised, with ``contributions`` of classes [B], where it is right; else the whole network.

    ValueError where the network does not give the same logits twice, so that a coalition has no value.
    """
    head, activations = played.head, played.activations
    draw = torch.rand(activations.shape[1], 1, 1, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    masks = (draw < torch.tensor([0.5, 0.1, 0.0], device="cpu").view(3, 1, 1, 1)).to(activations.device)
    if activations.device.type == "meta":  # no numbers to compare
        return head or _whole(parts, images, played)
    bad = (~activations.isfinite().flatten(1).all(1) | played.logits.isnan().any(1)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"Images {bad} give NaN or infinity in layer {parts.name!r} or after.")
    state, uncertain = generators(activations), replace(played, certain=False)

    def agrees(candidate: Head | None, known: Pass) -> bool:
        with suppress(RuntimeError, ValueError, IndexError, TypeError):  # it may fit this one number of images
            closed = known is played and isinstance(candidate, LinearFirstHead)
            if candidate and (not closed or _closed_form_agrees(played, masks[0], contributions)):
                return (closed and played.certain) or _function_agrees(candidate, parts, images, known, masks)
        return False

    generic = GenericHead(head.module, head.module) if isinstance(head, LinearFirstHead) else head
    whole = _whole(parts, images, played)
    candidates = [(head, played), (generic, played), (_rest_of_chain(parts, played), uncertain), (whole, uncertain)]
    chosen = next((candidate for candidate, known in candidates if agrees(candidate, known)), None)
    again = () if state == generators(activations) else range(6)  # another thread may have drawn, too
    if chosen is None or not all(agrees(chosen, uncertain) for _ in again):
        raise ValueError(
            "The network's logits for an image change from pass to pass, or with the other images of the batch "
            "(dropout or batch statistics that eval() does not switch off?), so that coalitions of its channels have "
            "no value. Explain one image at a time, and switch off what is random."
        )
    return chosen


def _rest_of_chain(parts: Split, played: Pass) -> Head | None:
    """The modules after the layer, where all that surround it are ``nn.Sequential``: they run without those before."""
    if played.placed.kind != "channels_first":
        return None
    inside, rest = parts.model, []
    for name in parts.name.split("."):
        if type(inside) is not nn.Sequential or inside._forward_hooks or inside._forward_pre_hooks:
            return None
        names = list(inside._modules)
        rest[:0] = list(inside)[names.index(name) + 1 :]
        inside = inside._modules[name]
    tail = nn.Sequential(*rest)

    def run(activations: Tensor, _image: int | None) -> Tensor:
        with eval_mode(tail):  # one by one: a branch that depends on numbers is taken for each image alone
            return torch.cat([parts.outputs(tail(row.clone()), 1) for row in activations.split(1)])

    return GenericHead(run, tail)


def _close(computed: Tensor, expected: Tensor, moved: Tensor, scale: Tensor | float = 0.0) -> bool:
    """Whether they differ by at most 0.1 % of how far the output moves, and rounding of numbers as large as these."""
    if computed.shape != expected.shape:
        return False
    rounding = 64 * torch.finfo(computed.dtype).eps * (computed.abs() + expected.abs() + scale)
    near = (computed - expected).abs() <= 1e-3 * moved.abs() + rounding
    undefined = computed.isnan() & expected.isnan()  # as the length of zeros divided by itself
    return bool((near | undefined | (computed == expected)).all())  # equal: classes masked with -inf


def _closed_form_agrees(played: Pass, mask: Tensor, contributions: Callable[[Tensor], tuple[Tensor, Tensor]]) -> bool:
    """Offset and all contributions against the logits; a random coalition's first layer against that of its pixels."""
    head, target = played.head, played.logits.argmax(1)
    matrix, offset = contributions(target)
    ends = torch.stack([offset, offset + matrix.sum(1)], 1)
    nothing, full = head.finish(ends, target).unbind(1)
    size = matrix.abs().sum((1, 2)) / matrix.shape[2]
    logits = played.logits.gather(1, target.unsqueeze(1)).squeeze(1).to(full.dtype)
    if not _close(full, logits, full - nothing, size):
        return False
    direct, units = head.first_sums(played.activations * mask, target)
    matrix, offset = matrix[:, :, units], offset[:, units]
    return _close(offset + matrix[:, mask.flatten()].sum(1), direct, matrix.abs().sum(1))


def _function_agrees(head: Head, parts: Split, images: Tensor, played: Pass, masks: Tensor) -> bool:
    """The head on other numbers of rows than were recorded: an image whole, and some of its coalitions."""
    activations, logits = played.activations, played.logits
    first, certain = activations[:1], played.certain
    rows = (first * masks).split(1)
    exact = torch.cat([head(r, 0) if certain else parts.replay(images[:1], r, played.placed) for r in rows])
    moved = (logits[:1] - exact[:1]).nan_to_num(0, 0, 0)
    # Beside larger numbers: what is divided by the maximum of all rows is none of one row.
    computed = head(torch.cat([first, *rows, 2 * first]), 0)[:-1]
    near = _close(computed, torch.cat([logits[:1], exact]), moved)
    # The last image; where the record is uncertain all of them, as a neighbour may decide for any.
    others = range(max(1, len(logits) - 1) if certain else 1, len(logits))
    return near and all(_close(head(activations[b : b + 1], b), logits[b : b + 1], moved) for b in others)


def _whole(parts: Split, images: Tensor, played: Pass) -> GenericHead:
    def run(activations: Tensor, image: int | None) -> Tensor:  # one by one: see _rest_of_chain
        inputs = images.split(1) if image is None else [images[image : image + 1]] * len(activations)
        rows = activations.split(1)
        return torch.cat([parts.replay(x, row, played.placed) for x, row in zip(inputs, rows, strict=True)])

    return GenericHead(run, None)
