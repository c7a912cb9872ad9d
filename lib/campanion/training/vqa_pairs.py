"""Questions and images as the VQA networks are trained on them: pairs of numbers, and vectors of what is frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campanion.data.questions import QuestionImages, QuestionSet
from campanion.data.vqa import vqa_accuracy
from campanion.models.load import load_model
from campanion.models.small import MEAN, SIZE, STD
from campanion.models.vqa import VQA, last_linear
from campanion.training.batches import MemoryImages, normalise
from campanion.training.features import features


@dataclass(frozen=True)
class Pairs:
    """Questions as numbers: ``texts`` are the distinct ones, ``rows`` [N, 3] hold image, text and answer (or -1)."""

    texts: list[str]
    rows: Tensor
    images: QuestionImages

    @classmethod
    def of(cls, data: QuestionSet) -> Pairs:
        """The pairs of ``data``, sorted by image as :class:`QuestionImages` lists them."""
        images = QuestionImages(data)
        texts = sorted({q.text for q in data.questions})
        place = {name: i for i, name in enumerate(images.ids)}
        at = {text: i for i, text in enumerate(texts)}
        rows = [
            (place[q.picture], at[q.text], -1 if label is None else label)
            for q, label in zip(data.questions, data.labels, strict=True)
        ]
        return cls(texts, torch.tensor(rows), images)


@torch.no_grad()
def predict(model: VQA, see: Callable[[Tensor], Tensor], pairs: Pairs) -> Tensor:
    """The class [N] that the network in eval mode answers to each pair."""
    device = next(model.parameters()).device
    seen = torch.cat([see(i) for i in torch.arange(len(pairs.images)).split(250)])
    read = torch.cat([model.question(part) for part in model.encode(pairs.texts).split(1000)])
    parts = [part.to(device).T for part in pairs.rows.split(1000)]
    return torch.cat([model.classifier(seen[image] * read[text]).argmax(1).cpu() for image, text, _ in parts])


def accuracy(data: QuestionSet, predicted: Tensor) -> dict[str, dict[str, float | int]]:
    """Of all questions and by type: the share answered with the commonest answer, VQA accuracy, and their number."""
    rows = pd.DataFrame({"type": [q.type for q in data.questions], "top1": predicted.numpy() == data.labels})
    if data.name != "scenes":
        pairs = zip(predicted.tolist(), data.questions, strict=True)
        rows["vqa_accuracy"] = [vqa_accuracy(data.class_names[label], q.answers) for label, q in pairs]
    groups = {"all": rows, **dict(list(rows.groupby("type")))}
    return {name: {**part.drop(columns="type").mean().to_dict(), "n": len(part)} for name, part in groups.items()}


def see_scenes(model: VQA, images: QuestionImages) -> Callable[[Tensor], Tensor]:
    """From indices of scenes to the network's vectors of them: all are drawn once, and the frozen stem is run once."""
    cnn, pixels = model.picture.cnn, MemoryImages(images, SIZE).pixels
    device = next(model.parameters()).device

    def normalised(indices: Tensor) -> Tensor:
        return normalise(pixels[indices].to(device), MEAN, STD)

    with torch.no_grad():
        stem = torch.cat([cnn.stem(normalised(part)).half() for part in torch.arange(len(pixels)).split(250)])
    return lambda i: F.normalize(cnn.read(stem[i].float(), normalised(i)), dim=1)


def see_features(model: VQA, images: QuestionImages) -> Callable[[Tensor], Tensor]:
    """From indices to the vectors of images, by the last layer alone: the frozen rest was run once, features kept."""
    device = next(model.parameters()).device
    trunk = load_model(model.design.cnn, device=str(device))
    name = last_linear(trunk)
    trunk.set_submodule(name, nn.Identity())
    trunk.target_layer = name
    (kept,) = features(trunk, images, range(len(images)), ("whole",), str(device))
    last = model.picture.cnn.get_submodule(name)
    return lambda i: F.normalize(last(torch.from_numpy(kept[i.numpy()]).to(device).float()), dim=1)
