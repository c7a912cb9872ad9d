"""``build_model``: the trainable networks by name; what a network answers to is in :mod:`campanion.models.network`.

===========================================================  ==================  ======================================
names                                                        stems               form
===========================================================  ==================  ======================================
``resnet18`` ``34`` ``50`` ``101`` ``152``, ``resnext50``,   imagenet, cifar     torchvision's
``densenet121``, ``seresnet50``
``resnet20`` ``32`` ``44`` ``56`` ``110``, ``seresnet...``   cifar               He et al. section 4.2, 16 to 64 planes
``resnext29_8x64d`` ``resnext29_16x64d``                     cifar               Xie et al. section 5.4
``densenet100``                                              cifar               DenseNet-BC, growth 12
===========================================================  ==================  ======================================

The paper's Table 3 prints sizes of unlike networks side by side: its plain column counts networks with the CIFAR stem
and 10 classes, the other two columns networks with the ImageNet stem and 1000 classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torchvision.models.resnet import BasicBlock, Bottleneck

from campanion.errors import one_of
from campanion.models.abn import ABN
from campanion.models.backbones import DenseNet, ResNet, SEBasicBlock, SEBottleneck
from campanion.models.lfi import FINS, GENERATIONS, LFICAM
from campanion.models.network import Backbone, Network, random_weights, seeded
from campanion.models.preprocess import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, Preprocess

_BOTH = {
    "resnet18": (ResNet, {"block": BasicBlock, "depths": (2, 2, 2, 2)}),
    "resnet34": (ResNet, {"block": BasicBlock, "depths": (3, 4, 6, 3)}),
    "resnet50": (ResNet, {"block": Bottleneck, "depths": (3, 4, 6, 3)}),
    "resnet101": (ResNet, {"block": Bottleneck, "depths": (3, 4, 23, 3)}),
    "resnet152": (ResNet, {"block": Bottleneck, "depths": (3, 8, 36, 3)}),
    "resnext50": (ResNet, {"block": Bottleneck, "depths": (3, 4, 6, 3), "groups": 32, "width_per_group": 4}),
    "seresnet50": (ResNet, {"block": SEBottleneck, "depths": (3, 4, 6, 3)}),
    "densenet121": (DenseNet, {"growth": 32, "depths": (6, 12, 24, 16)}),
}
_RESNEXT29 = {"block": Bottleneck, "depths": (3, 3, 3), "widths": (64, 128, 256)}
_CIFAR_ONLY = {
    "resnext29_8x64d": (ResNet, {**_RESNEXT29, "groups": 8}),
    "resnext29_16x64d": (ResNet, {**_RESNEXT29, "groups": 16}),
    "densenet100": (DenseNet, {"growth": 12, "depths": (16, 16, 16)}),
}
_CIFAR_DEPTHS = (20, 32, 44, 56, 110)
_CIFAR_RESNETS = {
    f"{kind}{depth}": (blocks, depth)
    for kind, blocks in (("resnet", (BasicBlock, Bottleneck)), ("seresnet", (SEBasicBlock, SEBottleneck)))
    for depth in _CIFAR_DEPTHS
}
ARCHITECTURES = (*_BOTH, *_CIFAR_RESNETS, *_CIFAR_ONLY)
_OPTIONS = {
    "attention": (None, "abn", "lfi"),
    "generation": tuple(GENERATIONS),
    "stem": (None, "imagenet", "cifar"),
    "block": ("auto", "basic", "bottleneck"),
    "fin": FINS,
}


def build_model(
    name: str,
    attention: str | None = None,
    generation: str = "paper",
    stem: str | None = None,
    num_classes: int = 1000,
    *,
    block: str = "auto",
    fin: str = "trained",
    class_names: Sequence[str] | None = None,
    preprocess: Callable | None = None,
    seed: int = 0,
) -> Network:
    """A network with random weights, in train mode, ready for training and for :func:`campanion.explain`.

    Args:
        name: an architecture of the table in the module's head.
        attention: ``None`` (plain), ``"abn"`` (Fukui et al.) or ``"lfi"`` (LFI-CAM).
        generation: of LFI-CAM: ``"paper"``, ``"published"`` or ``"table3"`` (:mod:`campanion.models.lfi`).
        stem: ``"imagenet"`` (7x7 convolution of stride 2, max-pooling) or ``"cifar"`` (3x3, neither); None takes
            ``"imagenet"`` where the architecture has it.
        num_classes: C.
        block: of the CIFAR ResNets: ``"basic"`` (the literature's; depth counts its layers), ``"bottleneck"``, or
            ``"auto"``, as the authors of ABN and LFI-CAM have it: bottleneck from depth 44 on, with as many blocks as
            the basic form, so that their "ResNet110" has 164 layers.
        fin: of LFI-CAM: ``"trained"``, ``"frozen"`` or ``"none"`` (:class:`campanion.models.lfi.LFICAM`).
        class_names: C names (default: the numbers).
        preprocess: PIL image -> tensor, with ``mean`` and ``std``; default: 224 pixels and ImageNet's statistics, or
            32 pixels and CIFAR-10's, by stem.
        seed: of the initialisation.

    Raises:
        ValueError: an unknown name or option, or a combination that does not exist.

    Example:
        >>> network = build_model("resnet20", "lfi", num_classes=10)
        >>> loss, logits = network.loss(images, targets)
        >>> explain(network, images, methods=("lfi_cam", "grad_cam"))
    """
    options = {"attention": attention, "generation": generation, "stem": stem, "block": block, "fin": fin}
    _check(name, options, num_classes, class_names)
    stem = stem or ("imagenet" if name in _BOTH else "cifar")
    trunk = GENERATIONS[generation].trunk if attention == "lfi" else "plain"
    if stem == "cifar" and trunk != "three_stages":
        trunk = "plain"
    if preprocess is None:
        cifar = Preprocess(32, CIFAR_MEAN, CIFAR_STD)
        preprocess = cifar if stem == "cifar" else Preprocess(224, IMAGENET_MEAN, IMAGENET_STD)

    def build() -> Network:
        backbone = _backbone(name, stem, trunk, num_classes, block)
        if attention == "abn":
            return ABN(backbone)
        return LFICAM(backbone, generation, preprocess.mean, preprocess.std, fin) if attention == "lfi" else backbone

    network = seeded(seed, build)
    suffix = "" if fin == "trained" else f"_fin{fin}"
    kind = {None: name, "abn": f"{name}_abn", "lfi": f"{name}_lfi_{generation}{suffix}"}[attention]
    network.weights = random_weights(kind, seed)
    network.preprocess = preprocess
    network.class_names = [str(i) for i in range(num_classes)] if class_names is None else list(class_names)
    return network


def _backbone(name: str, stem: str, trunk: str, num_classes: int, block: str) -> Backbone:
    shared = {"stem": stem, "trunk": trunk, "num_classes": num_classes}
    if name not in _CIFAR_RESNETS:
        kind, form = {**_BOTH, **_CIFAR_ONLY}[name]
        return kind(**form, **shared)
    (basic, bottleneck), depth = _CIFAR_RESNETS[name]
    narrow = block == "bottleneck" or (block == "auto" and depth >= 44)
    depths = ((depth - 2) // 6,) * 3
    return ResNet(bottleneck if narrow else basic, depths, (16, 32, 64), stem_width=16, **shared)


def _check(name: str, options: Mapping[str, str | None], num_classes: int, class_names: Sequence[str] | None) -> None:
    """ValueError where an architecture or option is unknown, or where they do not go together."""
    one_of("architecture", name, ARCHITECTURES)
    for option, value in options.items():
        if value not in _OPTIONS[option]:
            raise ValueError(f"{option} must be one of {', '.join(map(repr, _OPTIONS[option]))}, not {value!r}.")
    attention, generation, stem, block, fin = options.values()
    if stem == "imagenet" and name not in _BOTH:
        raise ValueError(f"{name} is a network for small images and has the CIFAR stem only: pass stem='cifar'.")
    if block != "auto" and name not in _CIFAR_RESNETS:
        raise ValueError(f"block is an option of the CIFAR ResNets (resnet20 ... seresnet110); {name} has one form.")
    if fin != "trained" and attention != "lfi":
        raise ValueError(f"fin={fin!r} is an option of attention='lfi': a network without it has no FIN.")
    if attention == "lfi" and generation == "table3" and name.startswith("densenet"):
        raise ValueError(f"generation='table3' replaces a residual stage; {name} has none: use 'paper' or 'published'.")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a positive integer, not {num_classes!r}.")
    if class_names is not None and len(class_names) != num_classes:
        raise ValueError(f"class_names has {len(class_names)} names for {num_classes} classes.")
