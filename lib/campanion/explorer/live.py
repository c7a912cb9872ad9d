"""Controls beside an image that follows them; where no kernel runs, a stored image in their place."""

from __future__ import annotations

import asyncio
import io
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape

import ipywidgets as ipw
from matplotlib.figure import Figure
from PIL import Image

from campanion.explorer.figure import png
from campanion.progress import is_batch

PAUSE = 0.05  # seconds: changes that follow each other faster are answered together


class Live(ipw.VBox):
    """An image (``image``) and a line of text (``status``) that follow controls.

    A subclass makes the image in ``_answer``; what that raises is shown as a sentence. Changes that follow each
    other within :data:`PAUSE` are answered once, the last one wins.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task | None = None
        self._setting = False
        self.status = ipw.HTML()
        self.image = ipw.Image(format="png", layout=ipw.Layout(max_width="100%", object_fit="contain"))
        super().__init__()

    def _follow(self, controls: Iterable[ipw.Widget]) -> None:
        for control in controls:
            control.observe(self._changed, "value")

    def _answer(self) -> Sequence[str]:
        """Set ``image``; returns sentences to show."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Compute and draw now, in this call, what was last asked for."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        try:
            self._say("computing ...")
            self._say(*self._answer())
        except Exception as problem:  # in a task it would end in a log that nobody reads
            self.image.value = b""  # maps of something else would stand under the sentence
            self._say(str(problem) or type(problem).__name__)
        self.image.layout.display = None if self.image.value else "none"  # a browser draws no image as a broken one

    def _settle(self) -> None:
        if self._task is not None:
            self.refresh()

    def _changed(self, _change: object = None) -> None:
        if self._setting:
            return
        if self._task is not None:
            self._task.cancel()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a plain script: nothing would run it later
            self.refresh()
            return
        self._task = loop.create_task(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(PAUSE)
        self._task = None
        self.refresh()

    def _say(self, *sentences: str) -> None:
        self.status.value = "<br>".join(map(escape, sentences))

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Set values without answering each as a change."""
        self._setting = True
        try:
            yield
        finally:
            self._setting = False

    def _stored(self) -> bytes:
        """The PNG that a page shows which runs nothing."""
        return self.image.value

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, object]:
        self._settle()
        bundle = super()._repr_mimebundle_(**kwargs)
        bundle["text/plain"] = repr(self)
        bundle["image/png"] = b64encode(self._stored()).decode()
        if is_batch():  # stored outputs: a widget's id changes with every run, and no page shows it without a kernel
            del bundle["application/vnd.jupyter.widget-view+json"]
        return bundle


class Knobs(Live):
    """A figure with a control for each argument of the function that draws it.

    In JupyterLab the controls are live. A stored notebook, GitHub and the site show a strip instead: the figure at a
    few values, one below the other.

    Args:
        draw: makes a figure of the controls' values.
        strip: the values of the stored images, a mapping each; what one leaves out has its control's first value.
        controls: by name, what :class:`ipywidgets.interactive` takes: ``(low, high, step)`` or ``(low, high)`` with a
            number's type for a slider, a list for a choice, a bool for a tick, or a widget.

    Example:
        >>> Knobs(lambda b: draw(b), strip=[{"b": 0.0}, {"b": 0.5}], b=(0.0, 1.0, 0.05))
    """

    def __init__(self, draw: Callable[..., Figure], strip: Sequence[Mapping[str, object]], **controls: object) -> None:
        super().__init__()
        self._draw, self._strip = draw, [dict(values) for values in strip]
        self.controls = {name: _widget(name, control) for name, control in controls.items()}
        self._first = {name: control.value for name, control in self.controls.items()}
        with self._quietly():
            for name, value in (self._strip[0] if self._strip else {}).items():
                self.controls[name].value = value
        self._follow(self.controls.values())
        self.children = [ipw.HBox([*self.controls.values()], layout=ipw.Layout(flex_flow="row wrap")), self.status,
                         self.image]  # fmt: skip
        if not is_batch():
            self.refresh()

    def _answer(self) -> Sequence[str]:
        self.image.value = png(self._draw(**{name: control.value for name, control in self.controls.items()}))
        return ()

    def _stored(self) -> bytes:
        return stacked([png(self._draw(**{**self._first, **values})) for values in self._strip])

    def __repr__(self) -> str:
        shown = "; ".join(", ".join(f"{name} = {value}" for name, value in values.items()) for values in self._strip)
        return f"Controls: {', '.join(self.controls)}. Shown: {shown}. Run the notebook to use the controls."


def stacked(images: Sequence[bytes]) -> bytes:
    """PNGs one below the other as one PNG, on white; an empty one is left out."""
    parts = [Image.open(io.BytesIO(image)).convert("RGB") for image in images if image]
    if not parts:
        return b""
    whole = Image.new("RGB", (max(p.width for p in parts), sum(p.height for p in parts)), "white")
    top = 0
    for image in parts:
        whole.paste(image, (0, top))
        top += image.height
    file = io.BytesIO()
    palette = whole.quantize(256)  # photographs in true colour would make a notebook large
    whole.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(file, "PNG", optimize=True)
    return file.getvalue()


def _widget(name: str, value: object) -> ipw.Widget:
    """A control from ipywidgets' abbreviations, with its name beside it; ValueError where none can be made."""
    control = value if isinstance(value, ipw.Widget) else ipw.interactive.widget_from_abbrev(value)
    if control is None:
        raise ValueError(f"No control can be made of {name} = {value!r}: give a range, a list, a bool or a widget.")
    control.description = control.description or name.replace("_", " ")
    if hasattr(control, "continuous_update"):
        control.continuous_update = False
    return control
