"""The explorer: what happens when its controls change; a thin shell around a bench and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import ipywidgets as ipw
from PIL import Image
from torch import nn

from campanion import paths
from campanion.cams.methods import METHODS, label, parse
from campanion.errors import unknown
from campanion.explorer.bench import Bench, search
from campanion.explorer.figure import PALETTES, Look, draw, png
from campanion.explorer.files import save
from campanion.explorer.live import Live, stacked
from campanion.explorer.sources import MODELS, network, pictures
from campanion.pictures import open_picture, percent

LEARNED = ("lfi_cam", "abn")  # maps of networks that have learned to make them; offered where they are asked for
#: Dozens to thousands of forward passes.
SLOW = ("score_cam", "group_cam", "rise", "cameras", "smooth_grad", "integrated_gradients", "xrai", "lime", "lime_cam")
NONE = "-"  # nothing is compared
_WIDE = ipw.Layout(width="auto")
_NAMED = {"style": {"description_width": "64px"}, "layout": _WIDE}
_SLIDER = {**_NAMED, "continuous_update": False}


class Explorer(Live):
    """Choose an image, network, class, layer and methods; see maps, channels and curves; save them.

    A change is answered from the forward pass that is kept. A second class, or a second network, can be shown below the
    first. Stored notebooks show a static image instead.

    Args:
        picture: a name of :func:`campanion.explorer.pictures`, the path of an image, or an opened one.
        model: a name for :func:`campanion.load_model`, or a network as :class:`Bench` takes it.
        methods: those ticked at first.
        folder: its images can be picked as well.
        out: where the button saves; ``out/explorer`` of the checkout by default.

    Raises:
        ValueError, MissingData: what is given cannot be used.

    Example:
        >>> Explorer("chelsea", "resnet18", methods=("grad_cam", "lift_cam"))
    """

    def __init__(
        self,
        picture: str | Path | Image.Image = "scene 28",
        model: str | nn.Module = "scenes_vgg",
        methods: tuple[str, ...] = ("grad_cam", "fd_cam", "lift_cam"),
        folder: str | Path | None = None,
        out: str | Path | None = None,
    ) -> None:
        super().__init__()
        self._key = self._other_key = ()
        self._added: dict[str, Image.Image] = {}
        self._own: dict[str, nn.Module] = {}
        self._out = Path(out) if out is not None else paths.out_dir() / "explorer"
        self._pictures = pictures(folder)
        if isinstance(picture, Image.Image):
            self._added["picture"], picture = picture.convert("RGB"), "picture"
        elif picture not in self._pictures:
            if not (path := Path(picture)).is_file():
                raise ValueError(unknown("image or file", picture, self._pictures))
            self._added[path.name], picture = open_picture(path), path.name
        if isinstance(model, nn.Module):
            name = type(model).__name__
            self._own[name], model = model, name
        for name in methods:
            parse(name)
        self._place(picture, model, methods, folder)
        self._follow([self.picture, self.model, self.layer, self.target, self.other_class, self.other_model, self.bias,
                      self.theta, self.opacity, self.palette, self.channels, self.curves,
                      *self.methods.values()])  # fmt: skip
        self.query.observe(self._searched, "value")
        self.folder.observe(self._listed, "value")
        self.upload.observe(self._uploaded, "value")
        self.button.on_click(self._saved)
        self._bench = self._open()
        self._show_bench()
        self.refresh()

    def _place(self, picture: str, model: str, methods: Sequence[str], folder: str | Path | None) -> None:
        """The controls on the left, the image on the right (below, on a narrow page)."""
        images, models = [*self._added, *self._pictures], [*dict.fromkeys([*self._own, *MODELS, model])]
        self.picture = ipw.Dropdown(options=images, value=picture, description="picture", **_NAMED)
        self.upload = ipw.FileUpload(accept="image/*", description="upload a picture", layout=_WIDE)
        self.folder = ipw.Text(
            str(folder or ""), description="folder", placeholder="of your pictures", continuous_update=False, **_NAMED
        )
        self.model = ipw.Dropdown(options=models, value=model, description="network", **_NAMED)
        self.layer = ipw.Dropdown(description="layer", **_NAMED)
        self.query = ipw.Text(description="class", placeholder="search by name", **_NAMED)
        self.target = ipw.Select(rows=6, layout=_WIDE)
        self.other_class = ipw.Dropdown(options=[(NONE, None)], description="and class", **_NAMED)
        self.other_model = ipw.Dropdown(options=[NONE, *MODELS], description="and in", **_NAMED)
        self.bias = ipw.FloatSlider(0.5, min=0, max=1, step=0.05, description="FD-CAM b", **_SLIDER)
        self.theta = ipw.FloatSlider(5, min=1, max=40, step=1, description="theta (%)", **_SLIDER)
        self.bias.own, self.theta.own = 0.5, 5  # the paper's
        quick = [name for name in METHODS if name not in (*SLOW, *LEARNED)]
        self.methods = {
            name: ipw.Checkbox(name in methods, description=label(name) + " (slow)" * (name in SLOW), indent=False)
            for name in dict.fromkeys([*methods, *quick, *SLOW])
        }
        self.channels = ipw.Checkbox(True, description="channels of the largest weights", indent=False)
        self.curves = ipw.Checkbox(False, description="insertion and deletion curves", indent=False)
        self.opacity = ipw.FloatSlider(Look.opacity, min=0, max=1, step=0.05, description="opacity", **_SLIDER)
        self.palette = ipw.Dropdown(options=PALETTES, description="palette", **_NAMED)
        self.button = ipw.Button(description="save PNG, PDF, NPZ", icon="save", layout=_WIDE)
        self.times = ipw.HTML()
        scrolled = ipw.Layout(max_height="260px", display="block", overflow="auto")
        ticks = ipw.VBox([*self.methods.values()], layout=scrolled)
        left = ipw.VBox(
            [self.picture, self.upload, self.folder, self.model, self.layer, self.query, self.target, self.other_class,
             self.other_model, ipw.HTML(f"<b>methods</b> ({len(self.methods)}, scroll for more)"), ticks, self.bias,
             self.theta, self.channels, self.curves, self.opacity, self.palette, self.button],
            layout=ipw.Layout(flex="0 0 300px", width="300px"),
        )  # fmt: skip
        right = ipw.VBox([self.status, self.image, self.times], layout=ipw.Layout(flex="1 1 400px", min_width="0"))
        self.children = [ipw.HBox([left, right], layout=ipw.Layout(flex_flow="row wrap"))]

    # ---- what is asked for
    @property
    def bench(self) -> Bench:
        """The image in the network, for code: ``explorer.bench.explain("fd_cam")``."""
        self._settle()
        return self._bench

    @property
    def chosen(self) -> list[str]:
        """Names of the methods that are ticked, FD-CAM's with the options of its two sliders."""
        ticked = [name for name, tick in self.methods.items() if tick.value]
        options = [f"{n}={c.value:g}" for n, c in (("bias", self.bias), ("percentile", self.theta)) if c.value != c.own]
        return [f"fd_cam:{','.join(options)}" if n == "fd_cam" and options else n for n in ticked]

    @property
    def _look(self) -> dict[str, object]:
        """What is drawn, and how, see :class:`~campanion.explorer.figure.Look`."""
        look = {"opacity": self.opacity.value, "palette": self.palette.value, "curves": self.curves.value}
        return look | {"channels": 5 if self.channels.value else 0}

    def _answer(self) -> Sequence[str]:
        self.times.value = ""
        if self._wanted() != self._key:
            self._bench = self._open()
            self._show_bench()
        subjects = [(self._bench, self.target.value)]
        if self.other_class.value is not None:
            subjects.append((self._bench, self.other_class.value))
        if self.other_model.value != NONE:
            other = self._other()
            names = list(other.model.class_names)
            same = self._bench.model.class_names[self.target.value]
            subjects.append((other, names.index(same) if same in names else other.predicted))
        images, refused, times = [], [], []
        for bench, target in subjects:
            answers = []
            for name in self.chosen:
                try:
                    answers.append(bench.explain(name, target))
                except (ValueError, RuntimeError) as problem:
                    refused.append(f"{label(name)}: {problem}")
            images.append(png(draw(bench, [a.method for a in answers], target, **self._look)))
            durations = [f"{label(a.method)} {1000 * a.seconds:.0f} ms" for a in answers]
            times.append(" · ".join([f"forward pass {1000 * bench.seconds:.0f} ms", *durations]))
        self.image.value = images[0] if len(images) == 1 else stacked(images)
        self.times.value = "<br>".join(map(escape, [*times, "Work that methods share counts for the first of them."]))
        return list(dict.fromkeys(refused))

    def _other(self) -> Bench:
        """The same image in the network that is compared, kept until one of the two changes."""
        key = (self.picture.value, self.other_model.value)
        if key != self._other_key:
            self._kept_other, self._other_key = Bench(network(key[1]), self._picture(), key[0]), key
        return self._kept_other

    def _picture(self) -> Image.Image:
        name = self.picture.value
        return self._added[name] if name in self._added else self._pictures[name]()

    def _wanted(self) -> tuple[str, ...]:
        return self.picture.value, self.model.value, self.layer.value

    def _open(self) -> Bench:
        picture, model, layer = self._wanted()
        same = self._key[1:2] == (model,)  # the old layer means nothing to another network
        return Bench(self._own.get(model) or network(model), self._picture(), picture, layer if same else None)

    def _show_bench(self) -> None:
        """Layers and classes of a new bench; the class stays where image and network do."""
        old, new = self._key, self._wanted()
        stays = old[:2] == new[:2]
        with self._quietly():
            if old[1:2] != new[1:2]:
                self.layer.options = self._bench.layers()
            self.layer.value = self._bench.layer
            if not stays:
                self.query.value = ""
            self._list_classes(self.target.value if stays else self._bench.predicted)
        self._key = self._wanted()

    def _list_classes(self, chosen: int | None) -> None:
        """The classes that the search finds, and the chosen one in any case."""
        names, chances = self._bench.model.class_names, self._bench.probabilities
        rows = search(names, chances, self.query.value)
        if chosen is not None and chosen not in [k for k, _, _ in rows]:
            rows.append((chosen, names[chosen], float(chances[chosen])))
        likely = chances.argsort(descending=True)[:50].tolist()
        second = self.other_class.value if self.other_class.value in likely else None
        rest = [(f"{names[k]} ({percent(float(chances[k]))})", k) for k in likely]
        with self.target.hold_sync(), self.other_class.hold_sync():  # never the new list with the old choice
            self.target.options = [(f"{name} ({percent(chance)})", k) for k, name, chance in rows]
            self.target.value = chosen
            self.other_class.options = [(NONE, None), *rest]
            self.other_class.value = second

    # ---- what happens at a click
    def _searched(self, _change: object) -> None:
        if not self._setting:
            with self._quietly():
                self._list_classes(self.target.value)

    def _listed(self, change: dict) -> None:
        try:
            self._pictures = pictures(change["new"].strip() or None)
        except (ValueError, OSError) as problem:
            self._say(str(problem))
            return
        files = [name for name in self._pictures if name not in pictures()]
        with self._quietly():
            value = self.picture.value
            self.picture.options = [*self._added, *self._pictures]
            self.picture.value = files[0] if files else value if value in self.picture.options else "scene 28"
        self._changed()

    def _uploaded(self, change: dict) -> None:
        if not change["new"]:
            return
        file = change["new"][0]
        try:
            opened = open_picture(bytes(file["content"]))
        except ValueError as problem:
            self._say(f"{file['name']}: {problem}")
            return
        finally:
            self.upload.value = ()  # its bytes are not kept a second time
        # One at a time: images of a long afternoon would fill the memory.
        self._added = {file["name"]: opened}
        with self._quietly():
            self.picture.options = [*self._added, *self._pictures]
            self.picture.value = file["name"]
        self._key = self._other_key = ()  # a second file of the same name is another image
        self._changed()

    def _saved(self, _button: object) -> None:
        self._settle()
        if self._wanted() != self._key:
            return  # it could not be opened, and the sentence that says why stands there
        try:
            files = save(self._bench, self.chosen, self._out, self.target.value, self.model.value, **self._look)
        except (ValueError, OSError) as problem:
            self._say(str(problem))
        else:
            self._say(f"Saved in {files[0].parent}: {', '.join(path.name for path in files)}")

    # ---- what a page shows that runs nothing
    def __repr__(self) -> str:
        subject = f"{self.picture.value} in {self.model.value}"
        name, chosen = self._bench.model.class_names[self.target.value], ", ".join(map(label, self.chosen))
        return f"Explorer: {subject}, class {name}; {chosen}. Run the notebook to use it."
