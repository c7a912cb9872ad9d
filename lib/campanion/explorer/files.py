"""Explain image files: find them, give what is written of each a name of its own, write it (``campanion explain``)."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from torch import nn

from campanion.cams.methods import label, parse
from campanion.explorer.bench import Bench, find_class, names_of, search
from campanion.explorer.figure import Look, draw, png
from campanion.explorer.sources import Source, clean
from campanion.game.split import split
from campanion.outputs import SIGNS
from campanion.paths import replacing, write_whole
from campanion.pictures import percent
from campanion.report.figures import STYLE
from campanion.results.provenance import versions

PACKAGES = ("campanion", "torch", "torchvision", "numpy", "captum")  # that make a file
DEFAULT = ("grad_cam", "fd_cam", "lift_cam")
LONGEST = 60  # letters of the options in a file's name; longer ones are shortened to a checksum


@dataclass(frozen=True)
class Request:
    """What is asked of every image; ValueError without a method, or with an unknown one.

    Args:
        target: a class by name or number, or ``higher`` or ``lower`` of a network with one output; None: the predicted.
        layer: dotted name; None is the network's own target layer.
        activation: other than the network's own.
    """

    model: str = "resnet50"
    methods: tuple[str, ...] = DEFAULT
    target: str | None = None
    layer: str | None = None
    look: Look = field(default_factory=Look)
    activation: str | None = None

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("--methods names none: give one, such as --methods fd_cam.")
        for name in self.methods:
            parse(name)

    def differences(self) -> str:
        """What differs from the defaults, for the names of files; empty where nothing does."""
        parts = [part for part in (self.layer, self.activation) if part is not None]
        if self.methods != DEFAULT:
            parts.append("+".join(self.methods))
        plain = asdict(Look())
        for name, value in asdict(self.look).items():
            if value != plain[name] and name != "overlay":  # overlays are files of their own
                parts.append(name if value is True else f"{name}{value}")
        text = "_".join(clean(part) for part in parts)
        return text if len(text) <= LONGEST else hashlib.sha256(text.encode()).hexdigest()[:12]


def explain_files(
    model: nn.Module, sources: Sequence[Source], request: Request, folder: str | Path, force: bool = False
) -> Iterator[tuple[Source, str, str]]:
    """Explain images one after another; an image that cannot be explained does not stop the others.

    Yields the source; a warning or the reason why nothing was written; the report, empty where nothing was. ValueError:
    no such class or layer, or a network without names of its classes; OSError: ``folder`` cannot be written.
    """
    folder, target, names = writable(folder), request.target, names_of(model)
    split(model, request.layer)  # refuses an unknown layer
    if target in SIGNS:
        if len(names) > 1:
            raise ValueError(f"{target!r} is asked of networks with one output; this one has {len(names)}.")
    elif target is not None:
        target = find_class(names, target)
    taken = Counter(source.names[0] for source in sources)
    for source in sources:
        report = ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                image, digest = source.read()
                bench = Bench(model, image, source.path, request.layer)
                about = {"image": source.path, "image_sha256": digest, "image_size": image.size}
                chosen = bench.predicted if target is None else target
                word = chosen if isinstance(chosen, str) else names[chosen]
                rest = "_".join(filter(None, (clean(request.model), clean(word), request.differences())))
                stem = _stem(folder, source.names[taken[source.names[0]] > 1 :], rest, digest, force)
                report = _report(bench, request, chosen, write(bench, request, folder / stem, chosen, about, image))
                remark = "; ".join(str(w.message) for w in caught if issubclass(w.category, UserWarning))
            except (ValueError, OSError) as problem:
                remark = str(problem)
        yield source, remark, report


def _report(bench: Bench, request: Request, target: int | str, files: Sequence[Path]) -> str:
    """What was explained, how long each method took, and the files."""
    names = bench.model.class_names
    answers = [bench.explain(method, target) for method in request.methods]
    top = ", ".join(f"{name} {percent(chance)}" for _, name, chance in search(names, bench.probabilities))
    word = target if isinstance(target, str) else f"{names[target]} ({percent(float(bench.probabilities[target]))})"
    width = max(len(label(method)) for method in request.methods)
    return "\n".join([
        f"{bench.name}: {request.model}, layer {bench.layer}: {top}",
        f"explained: {word}",
        "",
        f"{'method'.ljust(width)}  seconds",
        *(f"{label(a.method).ljust(width)}  {a.seconds:7.3f}{'  constant: nothing found' * a.degenerate}"
          for a in answers),
        f"(forward pass {bench.seconds:.3f} s)",
        "",
        *map(str, files),
    ])  # fmt: skip


def _stem(folder: Path, names: Sequence[str], rest: str, digest: str, force: bool) -> str:
    """The first of an image's names that no other image has; OSError where the same image has it already."""
    for stem in (f"{name}_{rest}" for name in names):
        files = [p for p in (folder / f"{stem}.{kind}" for kind in ("npz", "png", "pdf")) if p.exists()]
        known = _digest_of(files[0]) if files else None
        if not files or (force and known in (None, digest)):
            return stem
        if known == digest:
            break
    raise OSError(f"{files[0]} is there already: --force replaces it, --out names another folder.")


def _digest_of(file: Path) -> str | None:
    """The SHA-256 of the image that an NPZ of :func:`write` names; None where it is none."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return str(arrays["image_sha256"])
    except (OSError, ValueError, KeyError):
        return None


def write(
    bench: Bench, request: Request, stem: Path, target: int | str, about: dict[str, object], image: Image.Image
) -> list[Path]:
    """Write the figure as PNG and PDF, the numbers as NPZ, and the overlays where they are asked for.

    The NPZ holds ``methods`` [M], ``maps`` [M, H, W], ``seconds`` [M], ``weights_<method>`` [K], ``target``,
    ``class_name``, ``class_names`` and ``probabilities`` [C], ``layer``, ``model``, ``image``, ``image_sha256``,
    ``image_size`` (width, height), ``options``, ``weights`` and ``versions`` as JSON, and with curves ``fractions`` [P]
    and ``insertion_<method>``, ``deletion_<method>`` [P]. ``numpy.load`` reads it without pickles.
    """
    figure = draw(bench, request.methods, target, **asdict(request.look))
    bitmap, document, numbers = (stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf", "npz"))
    write_whole(bitmap, png(figure, STYLE["savefig.dpi"]))
    with mpl.rc_context({"pdf.fonttype": 42, "savefig.dpi": STYLE["savefig.dpi"]}), replacing(document) as part:
        figure.savefig(part, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    names, answers = list(bench.model.class_names), [bench.explain(method, target) for method in request.methods]
    arrays: dict[str, object] = {
        "methods": [a.method for a in answers],
        "maps": [a.map.cpu().numpy() for a in answers],
        "seconds": [a.seconds for a in answers],
        "target": target,
        "class_name": target if isinstance(target, str) else names[target],
        "class_names": names,
        "probabilities": bench.probabilities.cpu().numpy(),
        "layer": bench.layer,
        "model": request.model,
    } | about
    arrays |= {f"weights_{a.method}": a.weights.cpu().numpy() for a in answers if a.weights is not None}
    for a in answers if request.look.curves else ():
        result = bench.curves(a.method, target)
        arrays["fractions"] = result.fractions.cpu().numpy()
        arrays[f"insertion_{a.method}"] = result.insertion_curve[0].cpu().numpy()
        arrays[f"deletion_{a.method}"] = result.deletion_curve[0].cpu().numpy()
    options = asdict(request) | {"activation": getattr(bench.model, "activation", "softmax")}
    arrays["versions"] = json.dumps({"python": platform.python_version()} | versions(PACKAGES))
    arrays["options"] = json.dumps(options, default=str)  # a network's own activation may be a function or a layer
    arrays["weights"] = json.dumps(getattr(bench.model, "weights", {}), default=str)
    with replacing(numbers) as part, part.open("wb") as file:
        np.savez_compressed(file, **{key: np.asarray(value) for key, value in arrays.items()})
    files = [bitmap, document, numbers]
    for method in request.methods if request.look.overlay else ():
        files.append(stem.with_name(f"{stem.name}_{clean(method)}_overlay.png"))
        with replacing(files[-1]) as part:
            laid = overlay(image, bench.explain(method, target).map, request.look.opacity, request.look.palette)
            laid.save(part, format="PNG")
    return files


def save(
    bench: Bench, methods: Sequence[str], folder: str | Path, target: int | None = None, model: str | None = None,
    **look: object,
) -> list[Path]:  # fmt: skip
    """Write what a bench answers as ``<image>_<model>_<class>`` in ``folder``, over what is there; see :func:`write`,
    and for ``look`` :class:`~campanion.explorer.figure.Look`."""
    folder, target = writable(folder), bench.predicted if target is None else target
    model = model or str(getattr(bench.model, "weights", {}).get("name", "network"))
    request = Request(model, tuple(methods), None, bench.layer, Look(**look))
    stem = "_".join(clean(part) for part in (bench.name, model, bench.model.class_names[target]))
    return write(bench, request, folder / stem, target, {}, bench.shown)


def overlay(image: Image.Image, map: torch.Tensor, opacity: float, palette: str) -> Image.Image:
    """``image`` at its own size with a map [H, W] over it, as opaque as in the figures: more where the map is high."""
    size = (image.height, image.width)
    values = torch.nn.functional.interpolate(map[None, None].float().cpu(), size, mode="bilinear")[0, 0].numpy()
    colours = mpl.colormaps[palette](values, bytes=True)[..., :3]
    share = (opacity * (1 + 2 * np.clip(values, 0, 1)) / 3)[..., None]
    return Image.fromarray(np.round(np.asarray(image) * (1 - share) + colours * share).astype(np.uint8))


def writable(folder: str | Path) -> Path:
    """``folder``, which its first file makes; OSError where nothing can be written to it."""
    folder = Path(folder).expanduser()
    try:
        with tempfile.TemporaryFile(dir=next(place for place in (folder, *folder.parents) if place.exists())):
            return folder
    except OSError as problem:
        raise OSError(f"Cannot write to {folder}: {problem.strerror}. Choose another folder.") from problem
