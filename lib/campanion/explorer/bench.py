"""One image in one network, with its forward pass kept, so that another class or method costs next to nothing."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import torch
from PIL import Image
from torch import Tensor, nn

from campanion import metrics
from campanion.cams.explain import check_images, explain_game
from campanion.cams.methods import parse
from campanion.errors import unknown
from campanion.game.game import ChannelGame
from campanion.game.layouts import place
from campanion.game.split import split
from campanion.inference import eval_mode
from campanion.metrics.curves import CurveResult
from campanion.outputs import SIGNS, Activation, attribute, class_indices, is_class, nested

STEP = 1 / 28  # of the curves: FD-CAM's 3.6 % of the pixels
KEPT = 64  # maps and curves kept
CLASSES = 8  # classes whose gradients and contributions the game may keep
SHOWN = 900  # pixels of the longer side of the copy that is drawn


@dataclass(frozen=True)
class Answer:
    """What one method says of one class: ``map`` [H, W] in 0..1 at the input's size, zeros where the method found
    nothing (``degenerate``), the channels' ``weights`` [K] if it has any, ``seconds`` without the shared forward pass.
    """

    method: str
    target: int | str
    map: Tensor
    weights: Tensor | None
    degenerate: bool
    seconds: float

    def channels(self, count: int) -> list[tuple[int, float]]:
        """The ``count`` channels of the largest weights, the largest first, with their weights."""
        best = [] if self.weights is None else self.weights.argsort(descending=True)[:count].tolist()
        return [(k, float(self.weights[k])) for k in best]


class Bench:
    """An image, a network and a layer; the maps and curves asked for last are kept.

    Args:
        model: from :func:`campanion.load_model`, or any network with its ``preprocess``, ``class_names`` and
            ``target_layer``, also inside a wrapper.
        picture: RGB.
        name: of the image, for titles and files.
        layer: dotted name; None is ``model.target_layer``.
        activation: how logits become probabilities, as in :func:`campanion.explain`; None is ``model.activation``.

    Raises:
        ValueError: the network lacks one of these, has another number of classes, or has no such layer.

    Example:
        >>> bench = Bench(load_model("scenes_vgg"), pictures()["scene 28"]())
        >>> bench.explain("fd_cam").map.shape
        torch.Size([64, 64])
    """

    def __init__(
        self, model: nn.Module, picture: Image.Image, name: str = "picture", layer: str | None = None,
        activation: Activation | None = None,
    ) -> None:  # fmt: skip
        names = names_of(model)
        device = next(model.parameters()).device
        named = (inside for _, inside in nested(model) if getattr(inside, "class_names", None) is not None)
        self.model, self.name = next(named), name
        image = attribute(model, "preprocess")(picture)
        self.image = image[None].to(device) if isinstance(image, Tensor) else image
        check_images(model, self.image)
        self.shown = picture.copy()
        self.shown.thumbnail((SHOWN, SHOWN))
        start = time.perf_counter()
        self._cut = partial(split, model, layer, activation=activation)
        self.game = ChannelGame.of(self._cut(), self.image)
        self.seconds = time.perf_counter() - start
        self.layer = self.game.parts.name
        self.probabilities = self.game.probabilities(self.game.logits)[0]
        if len(names) != (logits := len(self.probabilities)):
            raise ValueError(f"This network gives {logits} logits, but its .class_names has {len(names)}: name each.")
        self._kept: OrderedDict[Hashable, object] = OrderedDict()
        self._asked: set[int] = set()

    @property
    def predicted(self) -> int:
        """The likeliest class."""
        return int(self.probabilities.argmax())

    def explain(self, method: str, target: int | str | None = None) -> Answer:
        """The map of ``method`` (as :func:`campanion.cams.methods.parse` reads it) for class ``target``, which is
        ``"higher"`` or ``"lower"`` of networks with one output; ValueError where the two do not suit the network.
        """
        parse(method)
        target = self._class(target)
        return self._keep((method, target), lambda: self._explain(method, target))

    def _explain(self, method: str, target: int | str) -> Answer:
        if len(self._asked | {target}) > CLASSES:
            # What the game keeps for each class would pile up: a game of the same forward pass starts afresh.
            self.game, self._asked = replace(self.game, _kept={}), set()
        self._asked.add(target)
        e = explain_game(self._game(target), target, [method])
        weights = e.weights[method][0] if method in e.weights else None
        return Answer(method, target, e.maps[method][0], weights, bool(e.degenerate[method][0]), e.seconds[method])

    def _game(self, target: int | str) -> ChannelGame:
        """The game of a class, or of a sign: that of the network's negative output for ``"lower"``."""
        if is_class(target):
            return self.game
        return self._keep(("game", target), lambda: ChannelGame.of(self._cut(target=target), self.image))

    def curves(self, method: str, target: int | str | None = None) -> CurveResult:
        """Insertion and deletion of the method's map, 28 steps; each curve is [1, 29]."""
        target = self._class(target)

        def measure() -> CurveResult:
            game, maps = self._game(target), self.explain(method, target).map[None]
            index = torch.tensor([target if is_class(target) else 0])
            options = {"step": STEP, "activation": game.probabilities}
            return metrics.insertion_deletion(game.network, self.image, maps, index, **options)

        return self._keep(("curves", method, target), measure)

    def layers(self) -> list[str]:
        """Names, two parts long at most, of the layers that can be explained: one output [1, K, h, w], h w > 1."""
        return self._keep("layers", lambda: _layers(self.game.parts.model, self.image, self.layer))

    def _class(self, target: int | str | None) -> int | str:
        if target is None or (isinstance(target, str) and target in SIGNS):
            return self.predicted if target is None else target
        return int(class_indices(target, 1, len(self.probabilities), self.image.device))

    def _keep(self, key: Hashable, make: Callable[[], object]) -> object:
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def names_of(model: nn.Module) -> Sequence[str]:
    """Names of the classes; ValueError where a network of one's own has none or no preprocess, or they are no list."""
    for needed in ("preprocess", "class_names"):
        if attribute(model, needed) is None:
            raise ValueError(f"This network has no .{needed}: give it one, as campanion.load_model does.")
    for inside in model.modules():  # torchvision's transforms are modules, which a Sequential takes for its last layer
        if getattr(type(inside), "forward", None) is nn.Sequential.forward and "preprocess" in inside._modules:
            raise ValueError(
                "A Sequential runs its .preprocess as a layer: give it a function, such as net.preprocess = lambda "
                "image: transform(image)."
            )
    names = attribute(model, "class_names")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f".class_names is a list of words in the order of the logits, not {names!r:.60}.")
    return names


def search(names: Sequence[str], chances: Tensor, query: str = "", limit: int = 20) -> list[tuple[int, str, float]]:
    """Classes as (index, name, probability), the likeliest first: the top 5, or those whose name holds ``query``."""
    wanted = query.strip().lower()
    order = chances.argsort(descending=True).tolist()
    fits = [k for k in order if wanted in names[k].lower()] if wanted else order[:5]
    return [(k, names[k], round(float(chances[k]), 6)) for k in fits[:limit]]


def find_class(names: Sequence[str], wanted: str) -> int:
    """Index of the class that ``wanted`` names: a number, a whole name, the first of two (ImageNet's cranes), or a part
    that only one name has; ValueError where none or several fit."""
    text = wanted.strip().lower()
    lower = [name.lower() for name in names]
    if text in lower:
        return lower.index(text)
    if text.isdecimal():
        if int(text) >= len(names):
            raise ValueError(f"Classes are numbered 0 to {len(names) - 1}; there is no {text}.")
        return int(text)
    fits = [k for k, name in enumerate(lower) if text and text in name]
    if len(fits) > 1:
        listed = ", ".join(repr(names[k]) for k in fits[:8]) + (" ..." if len(fits) > 8 else "")
        raise ValueError(f"{wanted!r} is part of {len(fits)} class names: {listed}. Name one.")
    if not fits:
        raise ValueError(unknown("class", wanted, names))
    return fits[0]


def _layers(model: nn.Module, image: Tensor, chosen: str) -> list[str]:
    outputs: dict[str, list[int]] = {}

    def count(name: str, module: nn.Module, _input: object, output: object) -> None:
        """Note how many positions the layer's maps have; 0 where its output is no map."""
        try:
            cells = place(output, image, module, name).maps(output)[0, 0].numel()
        except ValueError:
            cells = 0
        outputs.setdefault(name, []).append(cells)

    with ExitStack() as hooks, eval_mode(model), torch.no_grad():
        for name, module in model.named_modules():
            if name and name.count(".") < 2:
                hooks.callback(module.register_forward_hook(partial(count, name)).remove)
        model(image)
    names = [name for name, cells in outputs.items() if len(cells) == 1 and cells[0] > 1]
    return names if chosen in names else [*names, chosen]
