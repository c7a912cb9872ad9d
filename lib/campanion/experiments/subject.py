"""What a study asks: a network, at one layer, about the images of a data set; and what every study needs of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from campanion.data import Dataset, Sample
from campanion.experiments.protocols import LAST_POOLING
from campanion.game.game import ChannelGame
from campanion.game.split import Split, split
from campanion.inference import fast
from campanion.metrics.confidence import ConfidenceResult
from campanion.metrics.curves import CurveResult
from campanion.outputs import probabilities

AREAS = ("insertion", "deletion", "overall")
CURVES = ("insertion_curve", "deletion_curve")


class Subject:
    """A network that is asked about the images of a data set at one layer."""

    def __init__(self, model: nn.Module, data: Dataset, layer: str | None = None, precision: str = "float32") -> None:
        self.model, self.data, self.layer, self.precision = model, data, layer_of(model, layer), precision
        self.device = next(model.parameters()).device
        self.activation = getattr(model, "activation", "softmax")
        self._kept: dict[str, Any] = {}

    @property
    def network(self) -> Callable[[Tensor], Tensor]:
        """An inference copy for masked images, in the question's precision."""
        return self.network_in(self.precision)

    def network_in(self, precision: str) -> Callable[[Tensor], Tensor]:
        """An inference copy in another precision."""
        return self.once(f"network in {precision}", lambda: fast(self.model, precision))

    @cached_property
    def parts(self) -> Split:
        """The network cut at the layer, once for all images."""
        return split(self.model, self.layer)

    def image(self, sample: Sample) -> Tensor:
        """The sample's image [1, 3, H, W] as the network takes it."""
        return self.model.preprocess(sample.image).unsqueeze(0).to(self.device)

    def play(self, sample: Sample) -> tuple[ChannelGame, Tensor, dict[str, object]]:
        """The channel game of an image, its predicted class [1], and the facts that every row of it repeats."""
        game = ChannelGame.of(self.parts, self.image(sample))
        game.use_network(self.network)
        target = game.target(None)
        chance = float(probabilities(self.model, game.logits)[0, target])
        facts = {"image": sample.id, "target": int(target), "label": sample.label}
        return game, target, facts | {"correct": int(target) in sample.labels, "probability": chance}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, computed for the first image and kept for the others."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


def layer_of(model: nn.Module, layer: str | None = None) -> str:
    """``layer``, by default the model's own; for :data:`LAST_POOLING` the name of the last max pooling."""
    if layer != LAST_POOLING:
        return layer or model.target_layer
    poolings = [name for name, module in model.named_modules() if isinstance(module, nn.MaxPool2d)]
    if not poolings:
        raise ValueError(f"{model.weights['name']} has no max pooling to explain; a VGG has.")
    return poolings[-1]


def image_generator(seed: int, image: str) -> torch.Generator:
    """A generator that depends on the image's name alone, so that an image's numbers do not depend on the run."""
    digest = hashlib.sha256(f"{seed}:{image}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def input_boxes(sample: Sample, label: int, size: tuple[int, int]) -> Tensor:
    """Boxes [n, 4] of class ``label`` in pixels of the network's input, the squashed image of ``size`` (H, W)."""
    width, height = sample.image.size
    return sample.boxes(label) * torch.tensor([size[1] / width, size[0] / height] * 2)


def confidence_columns(scores: ConfidenceResult) -> list[dict[str, float]]:
    """iic, ad and add of each map of one image, in per cent."""
    terms = {"iic": scores.iic, "ad": scores.average_drop, "add": scores.add}
    return [{term: 100 * float(values[0, j]) for term, values in terms.items()} for j in range(scores.iic.shape[1])]


def curve_columns(curves: CurveResult) -> list[dict[str, object]]:
    """Areas and curves of each map of one image; four decimals are enough for a figure, and keep the rows small."""
    return [
        {area: float(getattr(curves, area)[0, j]) for area in AREAS}
        | {curve: [round(v, 4) for v in getattr(curves, curve)[0, j].tolist()] for curve in CURVES}
        for j in range(curves.insertion.shape[1])
    ]


def in_order(rows: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """The rows of ``methods``, in their order."""
    chosen = rows[rows["method"].isin(methods)]
    return chosen.sort_values("method", key=lambda names: names.map(list(methods).index), kind="stable")
