"""What one training run is: a YAML file of settings, completed by its recipe and checked before any work."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from campanion import paths
from campanion.errors import MissingData, one_of, unknown
from campanion.models import small
from campanion.models.preprocess import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD
from campanion.training.recipe import SETTINGS, Checked, InnerShare, Recipe, recipe

#: Side in pixels at which a set's images are given to a network, and colour statistics, where not ImageNet's.
SIZES = {"cifar10": 32, "cifar100": 32, "scenes": 64, "imagenette": 96}
TRAINABLE = ("cifar10", "cifar100", "stl10", "imagenette", "cats-dogs", "scenes")
FOLDER = "folder:"  # before the path of any folder of classes
# These change how fast a run is or what is kept of it, and may be changed when it is continued.
_FREE = ("device", "compile", "memory", "threads", "tensorboard", "select", "folder", "export")


class Config(Checked):
    """The settings of a run; ``python -m campanion train`` takes each as ``key=value``."""

    data: str  #: ``cifar10``, ``cifar100``, ``stl10``, ``imagenette``, ``cats-dogs``, ``scenes``, or ``folder:PATH``
    network: str  #: a name that :func:`campanion.models.load.build_network` knows
    attention: str | None = None  #: with the next four: of the network (:func:`campanion.models.build_model`)
    generation: str = "paper"
    stem: str | None = None
    block: str = "auto"
    fin: str = "trained"
    #: ``"imagenet"``: the layers that torchvision's network of this name has too start from its ImageNet weights
    init: Literal["random", "imagenet"] = "random"
    options: dict = Field(default_factory=dict)  #: of the classes in :mod:`campanion.models.small`
    size: StrictInt | None = Field(None, ge=16)  #: side of the images; default: the set's own, 224 where it has none
    #: ``"short"``, ``"paper"`` or ``"fine_tune"``; every number of a recipe may be set beside it
    recipe: str = "short"
    seed: StrictInt = Field(0, ge=0)  #: of the initialisation, the order, the augmentations and dropout
    #: train on so many images only (those that come first in the set's fixed order)
    limit: StrictInt | None = Field(None, ge=2)
    limit_test: StrictInt | None = Field(None, ge=1)  #: the same of the test images
    #: share of the training images that are kept from training and tested on in place of the test images: to choose a
    #: recipe without looking at these
    held_out: InnerShare | None = None
    precision: Literal["fp32", "bf16"] = "fp32"  #: ``"bf16"``: automatic mixed precision
    device: Literal["auto", "cpu"] = "auto"  #: ``"auto"``: a GPU if there is one
    compile: StrictBool = False  #: ``torch.compile``, on a GPU only
    #: all images as bytes in memory (True) or decoded when needed (False); None: in memory up to 8 GB
    memory: StrictBool | None = None
    threads: StrictInt = Field(4, ge=1)  #: that decode images; worker processes where they are decoded when needed
    tensorboard: StrictBool | None = None  #: write learning curves for TensorBoard; None: if it is installed
    #: the epoch whose weights are written in the end; ``"best_on_test"``, as the authors do, chooses by the images that
    #: the accuracy is then reported on
    select: Literal["last", "best_on_test"] = "last"
    name: str | None = None  #: of the run; default: data, network, attention, learning rate, seed and recipe
    folder: str | None = None  #: where runs are kept; default ``out/training``
    export: str | None = None  #: a folder that also gets the finished checkpoint, under the run's name
    changes: dict = Field(default_factory=dict)  #: numbers of the recipe that were set

    @field_validator("data")
    @classmethod
    def _known(cls, data: str) -> str:
        if not data.startswith(FOLDER) and data not in TRAINABLE:
            raise ValueError(unknown("data set to train on", data, [*TRAINABLE, f"{FOLDER}PATH"]))
        return data

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[\w.\-]+", name):
            raise ValueError(f"name may hold letters, digits, '.', '-' and '_', not {name!r}.")
        return name

    @model_validator(mode="after")
    def _recipe_makes_sense(self) -> Config:
        _ = self.numbers
        return self

    @property
    def pixels(self) -> int:
        """Side of the images that the network is given."""
        return self.size or SIZES.get(self.data, 224)

    @property
    def folder_of_classes(self) -> str | None:
        """PATH of ``folder:PATH``; None for a set with a name."""
        return self.data.removeprefix(FOLDER) if self.data.startswith(FOLDER) else None

    @property
    def data_name(self) -> str:
        """The set's name, or the folder's."""
        return self.data if self.folder_of_classes is None else Path(self.folder_of_classes).name

    @property
    def numbers(self) -> Recipe:
        """The recipe with what was changed."""
        imagenet = self.folder_of_classes is not None and self.data_name.upper().startswith(("ILSVRC", "IMAGENET"))
        return recipe(self.recipe, self.pixels, imagenet, **self.changes)

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the colours; CIFAR's for STL-10 too, as in the authors' code."""
        if self.network in ("scenes_vgg", "scenes_resnet"):
            return small.MEAN, small.STD
        cifar = self.data in ("cifar10", "cifar100", "stl10")
        return (CIFAR_MEAN, CIFAR_STD) if cifar else (IMAGENET_MEAN, IMAGENET_STD)

    @property
    def spec(self) -> dict[str, object]:
        """What :func:`campanion.models.load.build_network` is given."""
        keys = ("network", "attention", "generation", "stem", "block", "options")
        return {key: getattr(self, key) for key in keys} | ({} if self.fin == "trained" else {"fin": self.fin})

    @property
    def method(self) -> str:
        """The network's attention in one word: see :func:`method_of`."""
        return method_of(self.attention, self.generation, self.fin)

    @property
    def run(self) -> str:
        """The run's name; different data, networks, rates, seeds and recipes never share one."""
        if self.name:
            return self.name
        start = "" if self.init == "random" else f"-{self.init}"
        rate, recipe = f"lr{self.numbers.lr:g}", f"{self.recipe}{start}"
        return f"{self.data_name}_{self.network}_{self.method}_{rate}_seed{self.seed}_{recipe}"

    @property
    def place(self) -> Path:
        """The run's folder."""
        return (Path(self.folder).expanduser() if self.folder else paths.out_dir() / "training") / self.run

    def settled(self) -> dict[str, object]:
        """What decides the weights: a run is continued only with the same."""
        settings = self.model_dump(exclude={*_FREE, "changes", "name"})
        return {**settings, "size": self.pixels, **{f"recipe.{k}": v for k, v in self.numbers.as_dict().items()}}


def method_of(attention: str | None, generation: str, fin: str = "trained") -> str:
    """A network's attention in one word: ``plain``, ``abn``, ``lfi-GENERATION``, or ``lfi-GENERATION-finFIN``."""
    if attention != "lfi":
        return attention or "plain"
    return f"lfi-{generation}" + ("" if fin == "trained" else f"-fin{fin}")


def attention_of(method: str) -> dict[str, str]:
    """The settings that a method stands for; the inverse of :func:`method_of`."""
    attention, *rest = method.split("-")
    if attention == "plain":
        return {}
    names = [value.removeprefix("fin") for value in rest]
    return {"attention": attention, **dict(zip(("generation", "fin"), names, strict=False))}


def difference(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """How the settings of a run (:meth:`Config.settled`) differ from those now wanted, in words; "" if they do not.

    A setting that a run lacks is younger than the run, which had its default.
    """
    usual = {name: field.default for name, field in Config.model_fields.items()}
    usual |= {f"recipe.{name}": field.default for name, field in Recipe.model_fields.items()}
    before, now = (usual | json.loads(json.dumps(settings, default=list)) for settings in (before, now))
    differing = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return "; ".join(f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in differing)


def make_config(settings: Mapping[str, object]) -> Config:
    """A :class:`Config` of plain settings, as YAML or a notebook has them, numbers of the recipe among them.

    Raises:
        ValueError: an unknown setting or a value of the wrong kind; names it.

    >>> make_config({"data": "cifar10", "network": "resnet20", "epochs": 2}).run
    'cifar10_resnet20_plain_lr0.1_seed0_short'
    """
    known = [*Config.model_fields, *SETTINGS]
    known.remove("changes")
    for name in settings:
        one_of("setting", name, known)
    changes = {name: value for name, value in settings.items() if name in SETTINGS}
    return Config(**{name: value for name, value in settings.items() if name not in SETTINGS}, changes=changes)


def config_of_card(settings: Mapping[str, object], **changes: object) -> Config:
    """The settings that a checkpoint's card stores (:meth:`Config.settled`), with ``changes`` on top."""
    return make_config({name.removeprefix("recipe."): value for name, value in settings.items()} | changes)


def read_config(path: str | Path, changes: Mapping[str, object] | None = None) -> Config:
    """The settings of a YAML file, or of one that ``configs/`` has by this name; ``changes`` come on top."""
    path, ours = Path(path), paths.root() / "configs" / f"{Path(path).stem}.yaml"
    if not path.is_file() and path.parent in (Path(), Path("configs")) and ours.is_file():
        path = ours
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (paths.root() / "configs").glob("*.yaml")))
        raise MissingData(f"There is no settings file {path}. In configs/: {known}.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path} is not YAML: {problem}") from problem
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold settings, one 'name: value' a line.")
    changes = dict(changes or {})
    if any(settings.get(name) != changes[name] for name in changes.keys() - _FREE):  # not the committed network
        settings.pop("export", None)
    return make_config({**settings, **changes})


def parse_changes(arguments: list[str]) -> dict[str, object]:
    """Words such as ``epochs=2`` or ``options={width: 0.25}`` as settings; values as in YAML."""
    changes = {}
    for word in arguments:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word!r} is not of the form setting=value.")
        try:
            changes[name] = yaml.safe_load(value) if value else None
        except yaml.YAMLError as problem:
            raise ValueError(f"{word!r} is not YAML behind its =: {problem}") from problem
    return changes
