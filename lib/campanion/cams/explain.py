"""``explain``: every method asked for, from one forward pass of the trunk and one backward pass of the head."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from campanion.cams.maps import min_max_map, upsample
from campanion.cams.methods import METHODS, Method, parse
from campanion.errors import unknown
from campanion.game.game import ChannelGame
from campanion.game.layouts import Layout
from campanion.game.split import split
from campanion.inference import wide
from campanion.outputs import Activation, Target, attribute, class_indices, is_class, split_targets


@dataclass
class Explanation:
    """Maps of one batch by several methods; dictionaries are keyed by the methods' names as they were asked for.

    Attributes:
        maps: [B, H, W] in 0..1 at the input's size.
        raw: [B, h, w] before enlarging and normalising.
        weights: [B, K], for the methods that weigh channels.
        degenerate: [B] bool, where the map was constant and is returned as zeros.
        seconds: wall time of each method for the batch, the shared forward pass not counted.
        targets: [B] classes explained; 0 where the target was a sign or a function.
        scores: [B] their logits; of ``"lower"`` the negative one, of a function what it gave.
    """

    targets: Tensor
    scores: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)
    raw: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    degenerate: dict[str, Tensor] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def explain(
    model: nn.Module,
    images: Tensor,
    targets: Target = None,
    methods: Iterable[str] | str = ("fd_cam", "lift_cam"),
    layer: str | nn.Module | None = None,
    activation: Activation | None = None,
    layout: Layout | None = None,
    **options: object,
) -> Explanation:
    """Explain why ``model`` sees ``targets`` in ``images``.

    Args:
        model: any network that returns logits [B, C], also as ``.logits`` of a dataclass, in a dictionary or a tuple,
            and inside DataParallel, AveragedModel, ``torch.compile`` ... It is left as it was: parameters, ``.grad``,
            hooks, train/eval flags.
        images: preprocessed images [B, 3, H, W], of the model's dtype and device.
        targets: class indices [B] (or one for all); None explains the predicted classes. For networks of one output,
            ``"higher"`` or ``"lower"``: what makes it rise or fall. For what has no class, a function of what the
            network returns for N images, with one number for each: ``lambda y: cosine_similarity(y, wanted)`` of an
            embedding, ``lambda y: y["out"][:, 12, 60, 80]`` of a pixel's class. A list may hold one for each image.
        methods: names from ``METHODS``, also with options: ``"xgrad_cam:lift"``, ``"fd_cam:bias=0,switch=off"``.
        layer: dotted name or module of the target layer; None means ``model.target_layer``, and of a torchvision
            network without one its last layer of maps (:func:`campanion.game.layouts.default_layer`).
        activation: how logits become probabilities, for the methods and options that ask for them (Score-CAM,
            Group-CAM, RISE, ``fd_cam:score=probability``): ``"softmax"``, ``"sigmoid"`` (several labels; one logit) or
            a function from logits [N, C] to [N, C]. None: ``model.activation``, also of the network inside wrappers;
            without one a softmax (unless the network ends in one), and a sigmoid of one logit. The score of a target's
            function is taken as it is.
        layout: where the layer's output has its channels, if sizes and the network do not show it:
            ``"channels_first"`` [B, K, h, w], ``"channels_last"`` [B, h, w, K] (Swin), ``"tokens"`` [B, T, K] (ViT:
            class tokens first), or the tokens' grid (h, w).
        options: a method's option by its name (``orderings=10``), for all methods asked that have it, or a
            dictionary of options by the method's name (``score_cam={"variant": "cic"}``). Those in a name come first.

    Raises:
        ValueError: unknown method, option, layer or class; images of the wrong shape or dtype or with NaN.

    Example:
        >>> e = explain(model, images, methods=("grad_cam", "fd_cam", "lift_cam"))
        >>> e.maps["fd_cam"].shape  # [B, 224, 224]
    """
    if not isinstance(methods, Iterable):
        raise ValueError(f"methods must be names from METHODS, not {type(methods).__name__}.")
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    arguments = _route(names, options)
    check_images(model, images)
    groups = split_targets(targets, len(images))
    class_names = attribute(model, "class_names")  # without them, classes are counted after the forward pass
    if targets is not None and isinstance(class_names, (list, tuple)) and is_class(targets) and len(groups) == 1:
        class_indices(targets, len(images), len(class_names), images.device)
    gradient = any(METHODS[parse(name)[0]].gradient for name in names)
    parts = []
    with torch.inference_mode(False):  # gradients are needed, also by a caller who does not want any
        images = images.clone() if images.is_inference() else images.detach()
        for target, rows in groups:
            subset = images if len(groups) == 1 else images[rows]
            game = ChannelGame.of(split(model, layer, target, activation, layout), subset, gradient=gradient)
            _refuse_blind(game)
            parts.append(explain_game(game, target, names, arguments))
        return parts[0] if len(parts) == 1 else _joined(parts, [i for _, rows in groups for i in rows])


def explain_game(
    game: ChannelGame,
    targets: Target,
    methods: Iterable[str],
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> Explanation:
    """:func:`explain` for a game that was already played: more classes or methods without another forward pass.

    ``options`` are dictionaries by the method's name as it was asked for, beside the options in the name.
    """
    target = game.target(targets)
    result = Explanation(target, game.score(target))
    for name in methods:
        method, named = parse(name)
        entry = METHODS[method]
        start = time.perf_counter()
        raw = entry.function(game, target, **{**(options or {}).get(name, {}), **named}).detach()
        if bad := (~raw.isfinite().flatten(1).all(1)).nonzero().flatten().tolist():
            why = "gives NaN or infinity where channels are absent, or as gradient (0/0, or a logarithm or root of 0)"
            raise ValueError(f"{name}: images {bad} have no map: the network {why}.")
        if entry.gives == "weights":
            result.weights[name] = raw
            raw = weighted(game, raw, entry.rectified)
        result.raw[name] = raw
        result.maps[name], result.degenerate[name] = enlarged(game, raw)
        result.seconds[name] = time.perf_counter() - start
    return result


@torch.no_grad()
def _refuse_blind(game: ChannelGame) -> None:
    """ValueError where no logit depends on the tokens of the map, as behind the last attention of a ViT."""
    if game.played.placed.kind != "tokens" or not bool(game.logits.any()):  # logits of 0: an untrained classifier
        return
    if torch.equal(game.head(torch.zeros_like(game.activations)), game.logits):
        raise ValueError(
            f"The logits do not depend on the image's tokens in {game.parts.name!r}, only on its class token. Choose a "
            "layer before the last attention, such as the first norm of the last block."
        )


def _joined(parts: list[Explanation], rows: list[int]) -> Explanation:
    """Explanations of parts of a batch as one; ``rows`` are their images' places in the batch."""
    place = torch.tensor(rows, device=parts[0].targets.device).argsort()
    targets, scores = (torch.cat([getattr(p, kind) for p in parts])[place] for kind in ("targets", "scores"))
    whole = Explanation(targets, scores)
    for kind in ("maps", "raw", "weights", "degenerate"):
        for name in getattr(parts[0], kind):
            getattr(whole, kind)[name] = torch.cat([getattr(p, kind)[name] for p in parts])[place]
    whole.seconds = {name: sum(p.seconds[name] for p in parts) for name in parts[0].seconds}
    return whole


def weighted(game: ChannelGame, weights: Tensor, rectified: bool = True) -> Tensor:
    """The map ReLU(sum_k w_k A_k) [B, h, w] of weights [B, K]; without the ReLU unless ``rectified``."""
    weights, activations = wide(weights), wide(game.activations)
    raw = torch.einsum("bk,bkhw->bhw", weights, activations.to(weights.dtype))
    return raw.relu() if rectified else raw


def enlarged(game: ChannelGame, raw: Tensor) -> tuple[Tensor, Tensor]:
    """s(u(L)) of LIFT-CAM eq. 11: the map [B, H, W] at the input's size in 0..1, and whether it was constant [B]."""
    return min_max_map(upsample(raw, game.images.shape[-2:]))


def _route(names: tuple[str, ...], options: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Options of each name: those in it first, then dictionaries by the method's name, then plain options."""
    parsed = {name: parse(name) for name in names}
    methods = {name: METHODS[method] for name, (method, _) in parsed.items()}
    arguments = {name: named for name, (_, named) in parsed.items()}
    plain = {}
    for key, value in options.items():
        takers = [name for name, entry in methods.items() if key in (name, entry.name)]
        if not takers or not isinstance(value, Mapping):
            plain[key] = value
            continue
        for name in takers:
            checked = {option: methods[name].check(option, setting) for option, setting in value.items()}
            arguments[name] = checked | arguments[name]
    for key, value in plain.items():
        _plain_option(methods, arguments, key, value)
    return arguments


def _plain_option(methods: dict[str, Method], arguments: dict[str, dict[str, object]], key: str, value: object) -> None:
    """Set the option ``key`` of all methods that have it, where a name or dictionary did not set it."""
    takers = {name: entry for name, entry in methods.items() if key in entry.options}
    if not takers:
        known = {option for entry in methods.values() for option in entry.options} | set(methods)
        raise ValueError(unknown("option for the methods asked", key, known))
    kinds = sorted({entry.name for entry in takers.values()})
    if key == "variant" and len(kinds) > 1:
        raise ValueError(
            f"variant means different things to {' and '.join(kinds)}: pass {kinds[0]}={{'variant': {value!r}}}."
        )
    for name, entry in takers.items():
        arguments[name].setdefault(key, entry.check(key, value))


def check_images(model: nn.Module, images: Tensor) -> None:
    """ValueError with a sentence unless ``model`` can take ``images``."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module that returns logits, not {type(model).__name__}.")
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a tensor [B, 3, H, W], not {type(images).__name__}; see model.preprocess.")
    if images.ndim != 4 or 0 in images.shape:
        hint = " Add a batch dimension: images[None]." if images.ndim == 3 else ""
        raise ValueError(f"images must have shape [B, 3, H, W], none of them 0, not {tuple(images.shape)}.{hint}")
    if images.shape[1] > 4 and images.shape[3] in (3, 4):
        raise ValueError(f"images {tuple(images.shape)} look like [B, H, W, 3]: a map needs a network of [B, 3, H, W].")
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if len(images) > 1 and any(norm.running_mean is None for norm in norms):
        raise ValueError("A batch norm without running statistics mixes the batch's images: explain one at a time.")
    first = next(model.parameters(), images)
    if images.is_meta and (type(images) is Tensor or not first.is_meta):
        raise ValueError(f"images are on meta and the model is on {first.device}: a map needs numbers.")
    if bool(images.sum().isfinite()):  # one fast look; large finite numbers may still overflow
        return
    bad = (~images.isfinite()).flatten(1).any(1)
    if bool(bad.any()):
        raise ValueError(f"images {bad.nonzero().flatten().tolist()} hold NaN or infinite values.")
