"""Visual question answering: a CNN sees the image, an LSTM reads the question, their product decides the answer.

The model that LIFT-CAM's section 4.4 explains (Antol et al., VQA, ICCV 2015; written anew), with p = image and
q = question:

    u = W f(p) + b,   u' = u / |u|                      f: a CNN up to its last, linear layer
    e = V tanh([h; c]) + d                              h, c: last states of a two-layer LSTM over tanh(word vectors)
    logits = C_2 tanh(C_1 tanh(u' * e))                 *: elementwise; dropout after each of these two tanh

With the question fixed it is a network of the image alone (:func:`with_question`), and everything that explains a
CNN explains it: the head after the target layer holds a unit norm, a product with a constant and two tanh.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from campanion.data.questions import words
from campanion.errors import MissingData
from campanion.inference import eval_mode
from campanion.models.load import load_model
from campanion.models.network import seeded
from campanion.models.preprocess import Preprocess
from campanion.models.small import MEAN, SIZE, STD, SceneResNet
from campanion.models.weights import fill, read_weights
from campanion.paths import checkpoints_dir, data_dir, sha256

_SCENE_CNN = "scenes"
_PADDING, _UNKNOWN = 0, 1


@dataclass(frozen=True)
class Design:
    """What a network is built from.

    ``cnn`` is ``"scenes"`` (small, for generated scenes of 64 x 64 pixels) or a name that :func:`load_model` knows,
    whose last linear layer is replaced.
    """

    cnn: str
    words: tuple[str, ...]  #: the vocabulary of the questions
    answers: tuple[str, ...]  #: the classes
    joint: int = 1024  #: width of the two embeddings and their product
    embedding: int = 300  #: width of the word vectors
    hidden: int = 512  #: width of the LSTM's two layers
    classifier: int = 1000  #: width of the layer between the product and the answers
    dropout: float = 0.5  #: in training, before each layer of the classifier


class SceneCNN(nn.Module):
    """The CNN of the scenes: a path for shapes and one for colours, 64 + 32 maps of 8 x 8, and a linear layer.

    The path for shapes is :class:`SceneResNet` up to its last stage; trained to name shapes, that has forgotten their
    colours, hence the other path. Pooling to 4 x 4 keeps where things are.
    """

    def __init__(self, joint: int) -> None:
        super().__init__()
        net = SceneResNet()
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.layer1, net.layer2)
        self.shape = net.layer3
        self.colour = nn.Sequential()  # convolutions that halve height and width
        for inputs, outputs in ((3, 16), (16, 32), (32, 32)):
            conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            self.colour.extend([conv, nn.BatchNorm2d(outputs), nn.ReLU()])
        self.maps = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.fc = nn.Linear((64 + 32) * 4 * 4, joint)

    def forward(self, images: Tensor) -> Tensor:
        """[B, joint] of preprocessed images [B, 3, 64, 64]."""
        return self.read(self.stem(images), images)

    def read(self, stem: Tensor, images: Tensor) -> Tensor:
        """:meth:`forward` where the stem's output [B, 32, 16, 16] is known."""
        maps = self.maps(torch.cat([self.shape(stem), self.colour(images)], 1))
        return self.fc(torch.flatten(self.pool(maps), 1))


class QuestionEncoder(nn.Module):
    """Questions, as indices of words, to vectors: word vectors, tanh, two LSTM layers, tanh, linear."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(design.words) + 2, design.embedding, padding_idx=_PADDING)
        self.lstm = nn.LSTM(design.embedding, design.hidden, num_layers=2, batch_first=True)
        self.linear = nn.Linear(2 * 2 * design.hidden, design.joint)

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors e [N, joint] of padded questions [N, L]."""
        lengths = (tokens != _PADDING).sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            torch.tanh(self.embedding(tokens)), lengths, batch_first=True, enforce_sorted=False
        )
        _, (h, c) = self.lstm(packed)
        return self.linear(torch.tanh(torch.cat([*h, *c], 1)))


class ImageEncoder(nn.Module):
    """Images to vectors of length one; ``cnn`` ends in a linear layer of the joint width."""

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__()
        self.cnn = cnn

    def forward(self, images: Tensor) -> Tensor:
        """Vectors u' [B, joint] of preprocessed images [B, 3, H, W]."""
        return F.normalize(self.cnn(images), dim=1)


class VQA(nn.Module):
    """The whole network; ``.preprocess``, ``.class_names`` (the answers) and ``.weights`` as :func:`load_model` has.

    Example:
        >>> model = load_vqa("vqa_scenes")
        >>> model(images, model.encode(["what colour is the disc"] * len(images))).argmax(1)
    """

    activation = "softmax"

    def __init__(self, design: Design, cnn: nn.Module, preprocess: Callable, layer: str) -> None:
        super().__init__()
        self.design, self.preprocess, self.class_names = design, preprocess, list(design.answers)
        self.target_layer = f"picture.cnn.{layer}"
        self.weights: dict[str, object] = {"name": "vqa", "origin": "random", "sha256": None}
        self.picture = ImageEncoder(cnn)
        self.question = QuestionEncoder(design)
        self.classifier = nn.Sequential(
            nn.Tanh(),
            nn.Dropout(design.dropout),
            nn.Linear(design.joint, design.classifier),
            nn.Tanh(),
            nn.Dropout(design.dropout),
            nn.Linear(design.classifier, len(design.answers)),
        )
        with torch.no_grad():
            # Entries of u' are about joint^(-1/2): without this the product, and its gradients, start next to nothing.
            self.question.linear.weight.mul_(design.joint**0.5)
        self._place = {word: i for i, word in enumerate(design.words, start=2)}

    def encode(self, questions: Sequence[str]) -> Tensor:
        """Indices [N, L] of the words of ``questions``, padded with 0; ValueError: a question has no word."""
        rows = [[self._place.get(word, _UNKNOWN) for word in words(text)] for text in questions]
        for text, row in zip(questions, rows, strict=True):
            if not row:
                raise ValueError(f"A question needs at least one word; {text!r} has none.")
        padded = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        return padded.to(next(self.parameters()).device)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Logits [B, answers] of images [B, 3, H, W] and questions [B, L]."""
        return self.classifier(self.picture(images) * self.question(tokens))


class FixedQuestion(nn.Module):
    """A :class:`VQA` network with its question fixed; made by :func:`with_question`."""

    activation = "softmax"

    def __init__(self, model: VQA, vector: Tensor) -> None:
        super().__init__()
        self.preprocess, self.class_names = model.preprocess, model.class_names
        self.target_layer, self.weights = model.target_layer, model.weights
        self.picture, self.classifier = model.picture, model.classifier
        self.register_buffer("vector", vector)

    def answer(self, seen: Tensor) -> Tensor:
        """Logits [B, answers] of images that were seen already: vectors u' [B, joint]."""
        return self.classifier(seen * self.vector)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, answers] of images [B, 3, H, W]."""
        return self.answer(self.picture(images))


def with_question(model: VQA, question: str) -> FixedQuestion:
    """``model`` as a network of the image alone, which shares its weights: what :func:`campanion.explain` takes.

    Example:
        >>> asked = with_question(model, "what colour is the disc")
        >>> campanion.explain(asked, images, methods=("grad_cam", "lift_cam"))
    """
    tokens = model.encode([question])
    with torch.no_grad(), eval_mode(model.question):
        vector = model.question(tokens)
    return FixedQuestion(model, vector).train(model.training)


def build_vqa(design: Design, seed: int = 0, device: str = "cpu") -> VQA:
    """A network with its CNN's weights, in eval mode; all else, and all of the scenes' CNN, is random."""

    def build() -> VQA:
        if design.cnn == _SCENE_CNN:
            cnn, preprocess, layer = SceneCNN(design.joint), Preprocess(SIZE, MEAN, STD), "maps"
        else:
            cnn = load_model(design.cnn)
            preprocess, layer = cnn.preprocess, cnn.target_layer
            name = last_linear(cnn)
            cnn.set_submodule(name, nn.Linear(cnn.get_submodule(name).in_features, design.joint))
        return VQA(design, cnn, preprocess, layer)

    return seeded(seed, build).to(device).eval()


def load_vqa(name: str = "vqa_scenes", weights: str | Path = "auto", device: str = "cpu") -> VQA:
    """A trained network in eval mode: ``"vqa_scenes"`` (committed) or ``"vqa_v2"`` (trained by the user).

    ``weights``: ``"auto"`` looks for ``NAME.safetensors`` among the project's checkpoints, then in
    ``CAMPANION_DATA/weights``; a path takes that file. MissingData: it is not there; ValueError: it does not fit.

    Example:
        >>> load_vqa().class_names[:3]
        ['red', 'orange', 'yellow']
    """
    path = find_vqa(name) if weights == "auto" else Path(weights)
    if path is None or not path.exists():
        absent = path or f"{name}.safetensors among the checkpoints"
        raise MissingData(f"There is no {absent}: run `python -m campanion train {name}`.")
    state = read_weights(path)
    try:
        with safe_open(path, "pt") as file:
            design = TypeAdapter(Design).validate_json(file.metadata()["design"])
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"Weights file {path} does not say what network it is of ({error}).") from error
    model = build_vqa(design)
    model.weights = {"name": path.stem, "origin": path.name, "sha256": sha256(path)}
    built = model.state_dict()
    fill(model, {key: built[key] for key in _left_out(model)} | state, model.weights)
    return model.to(device).eval()


def find_vqa(name: str) -> Path | None:
    """Where the weights of a network lie, or None."""
    places = (folder / f"{name}.safetensors" for folder in (checkpoints_dir(), data_dir() / "weights"))
    return next((path for path in places if path.exists()), None)


def stored(model: VQA) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What the file of a network holds: weights in half precision and its design; a torchvision trunk is left out."""
    left_out = _left_out(model)
    state = {key: t.detach().cpu().contiguous() for key, t in model.state_dict().items() if key not in left_out}
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    return halves, {"design": json.dumps(asdict(model.design))}


def _left_out(model: VQA) -> set[str]:
    """Names of the parameters that a network's file leaves out: a torchvision CNN's, but for its last layer."""
    if model.design.cnn == _SCENE_CNN:
        return set()
    last = f"picture.cnn.{last_linear(model.picture.cnn)}."
    return {key for key in model.state_dict() if key.startswith("picture.cnn.") and not key.startswith(last)}


def last_linear(cnn: nn.Module) -> str:
    """Dotted name of the last layer of a network; ValueError where that is not linear."""
    names = [name for name, module in cnn.named_modules() if not list(module.children())]
    if not names or not isinstance(cnn.get_submodule(names[-1]), nn.Linear):
        raise ValueError(f"{type(cnn).__name__} does not end in a linear layer: choose a VGG, a ResNet or a DenseNet.")
    return names[-1]
