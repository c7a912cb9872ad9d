"""The explorer's controls and their places on the page; what they do is in :mod:`campanion.explorer.widget`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ipywidgets as ipw

from campanion.cams.methods import METHODS, label
from campanion.explorer.figure import OPACITY, PALETTES
from campanion.explorer.live import Live
from campanion.explorer.sources import MODELS

LEARNED = ("lfi_cam", "abn")  # maps of networks that have learned to make them; offered where they are asked for
#: Dozens to thousands of forward passes.
SLOW = ("score_cam", "group_cam", "rise", "cameras", "smooth_grad", "integrated_gradients", "xrai", "lime", "lime_cam")
NONE = "-"  # nothing is compared
_WIDE = ipw.Layout(width="auto")
_NAMED = {"style": {"description_width": "64px"}, "layout": _WIDE}
_SLIDER = {**_NAMED, "continuous_update": False}


class Controls(Live):
    """Controls on the left, the image on the right (below, on a narrow page): ``picture`` and ``model`` are chosen,
    ``methods`` ticked."""

    def __init__(
        self, pictures: Sequence[str], picture: str, models: Sequence[str], model: str, methods: Sequence[str],
        folder: str | Path | None,
    ) -> None:  # fmt: skip
        super().__init__()
        models = list(dict.fromkeys([*models, model]))
        self.picture = ipw.Dropdown(options=pictures, value=picture, description="picture", **_NAMED)
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
        self.opacity = ipw.FloatSlider(OPACITY, min=0, max=1, step=0.05, description="opacity", **_SLIDER)
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
