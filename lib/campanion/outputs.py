"""What a network returns, read as logits, as the score of a target, and as probabilities; wrappers looked through.

    p = activation(logits)

One logit is a sigmoid, never a softmax over one class. A target is a class; "higher" or "lower" for networks of one
output; or a function of the network's output, for what has no class: an embedding's cosine, a pixel, a box.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Activation = Literal["softmax", "sigmoid"] | Callable[[Tensor], Tensor]
Target = int | str | Callable[[Any], Tensor] | list | tuple | Tensor | None

_KNOWN: dict[str, Callable[[Tensor], Tensor]] = {"softmax": lambda logits: logits.softmax(1), "sigmoid": torch.sigmoid}
SIGNS = ("higher", "lower")
#: Entries of a dictionary or dataclass that hold the logits, the likeliest first: HuggingFace's, torchvision's.
_LOGITS = ("logits", "logits_per_image", "out")
_PASS_ON = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrap(model: nn.Module) -> tuple[nn.Module, str]:
    """The network inside wrappers that only pass the images on, and the prefix of its layers' names ("module.").

    A wrapper with hooks of its own stays.
    """
    prefix = ""
    while not (model._forward_hooks or model._forward_pre_hooks):
        passes = getattr(type(model), "forward", None) in [kind.forward for kind in _PASS_ON]  # no subclass's own
        compiled = type(model).__name__ == "OptimizedModule"  # of torch.compile, which loads slowly
        name = "module" if passes else "_orig_mod" if compiled else None
        if name is None or name not in model._modules or ("forward" in vars(model) and name == "module"):
            break
        model, prefix = model._modules[name], f"{prefix}{name}."
    return model, prefix


_LOCK = threading.Lock()
_EAGER: list[Any] = []  # for each call that needs compiled networks to run as they are written; the first one holds it


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Let compiled code run as it is written: what was compiled earlier does not see the hooks of today."""
    if "torch._dynamo" not in sys.modules:  # the compiler: modules, forwards and functions may be compiled
        yield
        return
    with _LOCK:
        if not _EAGER:
            _EAGER.append(torch.compiler.set_stance("force_eager"))
            _EAGER[0].__enter__()
        _EAGER.append(model)
    try:
        yield
    finally:
        with _LOCK:
            _EAGER.pop()
            if len(_EAGER) == 1:
                _EAGER.pop().__exit__(None, None, None)


def nested(model: object) -> Iterator[tuple[str, object]]:
    """``model`` and the networks in it, one inside the other, with the prefixes of their layers' names.

    A module is followed while one of its own modules alone has modules itself, as in a LightningModule.
    """
    prefix = ""
    while True:
        yield prefix, model
        parts = model._modules.items() if isinstance(model, nn.Module) else ()
        networks = [(name, part) for name, part in parts if part is not None and any(True for _ in part.children())]
        if len(networks) != 1:
            return
        prefix, model = f"{prefix}{networks[0][0]}.", networks[0][1]


def attribute(model: object, name: str) -> Any:
    """``model.name``, or that of the network that it wraps (:func:`nested`); None where neither has it."""
    return next((value for _, inside in nested(model) if (value := getattr(inside, name, None)) is not None), None)


def activation_of(model: object) -> Activation | None:
    """The activation that ``model``, or the network that it wraps, has as its attribute; None where it says nothing.

    A word that is no activation ("gelu"), a module, or a function with values outside of 0..1 is about something else.
    """
    for _, inside in nested(model):
        value = getattr(inside, "activation", None)
        if isinstance(value, str) and value in _KNOWN:
            return value
        if callable(value) and not isinstance(value, nn.Module) and _gives_probabilities(value):
            return value
    return None


def _gives_probabilities(function: Callable[[Tensor], Tensor]) -> bool:
    probe = torch.tensor([[-4.0, 0.0, 4.0]], device="cpu")
    try:
        values = function(probe)
        return values.shape == probe.shape and bool(((values >= 0) & (values <= 1)).all())
    except Exception:  # a function of something else
        return False


@dataclass(frozen=True)
class Outputs:
    """How what a network returns is read: called, it gives logits [N, C].

    ``target`` is a function of the output whose numbers, one for each image, take the logits' place; ``sign`` explains
    the one output or ("lower") its negative; ``activation`` is what was asked for, ``model_activation`` the network's.
    """

    activation: Activation | None = None
    target: Callable[[Any], Tensor] | None = None
    sign: str | None = None
    model_activation: Activation | None = field(default=None, repr=False)

    @classmethod
    def of(cls, model: object, target: Target = None, activation: Activation | None = None) -> Outputs:
        """For ``model`` and a target that is no class index: a sign or a function."""
        check_activation(activation)
        if isinstance(target, str) and target not in SIGNS:
            raise ValueError(f"targets must be class indices, 'higher', 'lower' or a function, not {target!r:.80}.")
        sign = target if isinstance(target, str) else None
        function = None if sign or is_class(target) else target
        return cls(activation, function, sign, activation_of(model))

    def __call__(self, output: object, count: int) -> Tensor:
        """Logits [N, C] of what a network returned for ``count`` images; ValueError where it is unclear which."""
        if self.target is not None:
            return self._score(output, count)
        logits = _logits_of(output, count)
        if self.sign is not None and logits.shape[1] != 1:
            raise ValueError(
                f"{self.sign!r} is for networks of one output; this one has {logits.shape[1]}. Name the output with a "
                f"function instead: targets=lambda logits: {'-' * (self.sign == 'lower')}logits[:, 3]."
            )
        return logits.neg() if self.sign == "lower" else logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """p [N, C] of logits [N, C]; a target's function gives its score itself, unless an activation is asked for."""
        single = logits.shape[1] == 1
        if self.activation == "softmax" and single:
            raise ValueError("A softmax of one logit is always 1. Pass activation='sigmoid', or a function.")
        if self.activation is None and self.target is not None:
            return logits
        activation = self.activation or self.model_activation
        if activation is None and not single:  # no row of logits adds up to 1: a softmax at the network's end gave it
            rounding = max(1e-5, torch.finfo(logits.dtype).eps / 2)  # of a sum of numbers that have this precision
            if bool((((logits.double().sum(1) - 1).abs() <= rounding) & (logits >= 0).all(1)).all()):
                return logits
        if activation is None or (activation == "softmax" and single):
            activation = "sigmoid" if single else "softmax"
        logits = logits.float() if logits.dtype.itemsize < 4 else logits
        values = (_KNOWN[activation] if isinstance(activation, str) else activation)(logits)
        if not isinstance(values, Tensor) or values.numel() != logits.numel():
            raise ValueError(f"activation must give one number for each of {list(logits.shape)} logits.")
        return values.reshape(logits.shape)

    def _score(self, output: object, count: int) -> Tensor:
        """[N, 1] of the target's function."""
        main, first = _main(output), None
        for argument in (output, main) if main is not output else (output,):
            try:
                score = self.target(argument)
                break
            except Exception as error:  # the user's function may expect the logits alone
                first = error
        else:
            raise ValueError(f"The function given as targets fails on the network's output: {first}") from first
        if isinstance(score, Tensor) and score.shape == () and count == 1:
            score = score.reshape(1)
        if not isinstance(score, Tensor) or score.numel() != count or len(score) != count:
            shape = list(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise ValueError(f"The function given as targets must give one number for each of {count} images: {shape}.")
        if not score.is_floating_point():
            raise ValueError(f"The function given as targets must give floating-point numbers, not {score.dtype}.")
        return score.reshape(count, 1)


def probabilities(model: nn.Module, logits: Tensor, activation: Activation | None = None) -> Tensor:
    """Probabilities [N, C] of logits [N, C] by ``activation`` or, without one, as :class:`Outputs` has it."""
    return Outputs.of(model, activation=activation).probabilities(logits)


def check_activation(activation: object) -> None:
    """ValueError unless it is a known word, a function or None."""
    if activation is not None and not callable(activation) and activation not in _KNOWN:
        raise ValueError(f"activation must be 'softmax', 'sigmoid' or a function of logits, not {activation!r:.80}.")


def class_indices(target: int | list[int] | Tensor, count: int, classes: int | None, device: torch.device) -> Tensor:
    """``target`` as class indices [count] below ``classes``, where their number is known; ValueError otherwise."""
    try:
        index = torch.as_tensor(target, device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"targets must be integers (class indices), not {target!r:.80}.") from error
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise ValueError(f"targets must be integers (class indices), not {index.dtype}.")
    index = index.long()
    if index.ndim == 0:
        index = index.expand(count)
    if index.shape != (count,):
        raise ValueError(f"targets must be one class for each of {count} images, not shape {tuple(index.shape)}.")
    if bool((index < 0).any()) or (classes is not None and bool((index >= classes).any())):
        last = "the last class, counted from 0" if classes is None else classes - 1
        raise ValueError(f"targets must lie in 0..{last}; got {index.tolist()}.")
    return index.clone()  # the caller's may be an inference tensor, or change


def is_class(target: object) -> bool:
    """Whether ``target`` means classes, and is no sign or function."""
    return not isinstance(target, str) and (not callable(target) or isinstance(target, (type, Tensor)))


def split_targets(targets: Target, count: int) -> list[tuple[Target, list[int]]]:
    """``targets`` as (one target for all, which images): several where a list mixes signs, functions and classes."""
    if not isinstance(targets, (list, tuple)) or not any(isinstance(t, str) or callable(t) for t in targets):
        return [(targets, list(range(count)))]
    if len(targets) != count:
        raise ValueError(f"targets must be one for each of {count} images; there are {len(targets)}.")
    groups: list[tuple[Target, list[int]]] = []
    for i, target in enumerate(targets):
        same = next((images for known, images in groups if known is target or known == target), None)
        groups.append((target, [i])) if same is None else same.append(i)
    return groups


def _main(output: object) -> object:
    """The entry of a dictionary, dataclass or named tuple that is called logits; else ``output`` itself."""
    for name in _LOGITS:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor) and not isinstance(output, Tensor):
            return value
    return output


def _logits_of(output: object, count: int) -> Tensor:
    """The logits [N, C] in ``output``."""
    main = _main(output)
    if is_dataclass(main) and not isinstance(main, Mapping):
        main = vars(main)
    parts = list(main.values()) if isinstance(main, Mapping) else main if isinstance(main, (tuple, list)) else [main]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    tensors = [part for part in tensors if part.ndim] or tensors  # a loss beside the logits is no logit of one image
    fits = [shaped for part in tensors if (shaped := _rows(part, count)) is not None]
    named = isinstance(main, Mapping) or hasattr(main, "_fields")  # several heads; a plain tuple has the logits first
    if not fits or any(named or tensor.shape != fits[0].shape for tensor in fits[1:]):
        kind = type(output).__name__
        shape = list(main.shape) if isinstance(main, Tensor) else kind
        problem = f"several tensors that may be logits ({kind})" if fits else shape
        raise ValueError(
            f"The network must return logits [B, C]; it returned {problem}. Pass a function of what it returns with "
            "one number for each image, such as targets=lambda y: y['boxes'][:, 0], or wrap the network."
        )
    if not fits[0].is_floating_point():
        raise ValueError(f"The network must return floating-point logits [B, C], not {fits[0].dtype}.")
    return fits[0]


def _rows(part: Tensor, count: int) -> Tensor | None:
    """``part`` as rows [N, C]: also [N] and, of one image, [] or [C], as ``squeeze()`` makes them, and [N, C, 1, 1]."""
    if part.ndim == 2 and len(part) == count:
        return part
    if part.ndim < 2 and part.numel() == count:
        return part.reshape(-1, 1)
    if part.ndim == 1 and count == 1:
        return part.unsqueeze(0)
    return part.flatten(1) if part.ndim > 2 and len(part) == count and part[0].numel() == part.shape[1] else None
