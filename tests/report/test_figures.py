"""Figures: the same bytes each time, embedded fonts, nothing that overlaps."""

from __future__ import annotations

from unittest.mock import patch

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from campanion import paths
from campanion.notebooks import run
from campanion.notebooks.workflow import draw_figures
from campanion.report import comparisons, figures
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

LAYOUT = ConstrainedLayoutEngine.execute


@pytest.fixture(autouse=True)
def _setting(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_FIGURES", str(tmp_path / "figures"))
    mpl.use("agg")
    with mpl.rc_context():
        yield
    plt.close("all")


def plot(width: float = 7.16):
    """Paired differences of two networks, five methods and three metrics."""
    others = ("grad_cam", "grad_cam_pp", "xgrad_cam", "score_cam", "ablation_cam")
    rows = [
        {"method": "fd_cam", "reference": m, "metric": k, "mean": 0.01 * i, "low": -0.1, "high": 0.1, "n": 500}
        for k in ("insertion", "deletion", "overall") for i, m in enumerate(others)
    ]  # fmt: skip
    runs = [
        {"model": m, "data": "imagenet-val", "differences": rows, "provenance": {"n": 500}}
        for m in ("resnet18", "squeezenet1_1")
    ]
    metrics = ["insertion", "deletion", "overall"] if width > 6 else ["insertion"]
    return comparisons.differences_figure(runs, metrics, "fd_cam", others, ("fd", "table1"), width)


def gallery():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = {n: torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(1)) for n in
            ("grad_cam", "grad_cam_pp", "ablation_cam", "integrated_gradients", "fd_cam")}  # fmt: skip
    return figures.panel(images, maps, rows=["Rhodesian ridgeback", "cat"], width=4.5)


def overlaps(fig) -> list[tuple[str, str]]:
    """Pairs of visible texts whose boxes cross."""
    fig.canvas.draw()
    renderer = fig.canvas.get_renderer()
    hidden = {  # ticks just outside the axes keep a label that is never drawn
        label
        for ax in fig.axes
        for label in ax.get_xticklabels()
        if not ax.get_xlim()[0] <= label.get_position()[0] <= ax.get_xlim()[1]
    }
    texts = [t for t in fig.findobj(mpl.text.Text) if t.get_text() and t.get_visible() and t not in hidden]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts]
    return [(a, b) for i, (a, p) in enumerate(boxes) for b, q in boxes[:i] if p.overlaps(q) and p.width * q.width]


@pytest.mark.parametrize("draw", [gallery, plot], ids=["panel", "plot"])
def test_bytes_are_the_same_on_repeat(draw):
    first = [p.read_bytes() for p in figures.save(draw(), "a")]
    plt.close("all")
    second = [p.read_bytes() for p in figures.save(draw(), "a")]
    assert first == second
    pdf, png = first
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    assert b"/Type /Font /Subtype /Type3" not in pdf
    assert b"/FontFile2" in pdf  # embedded as TrueType
    assert b"Software" not in png


def test_a_draft_is_an_image_for_the_screen_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("CAMPANION_FIGURES", str(tmp_path))
    monkeypatch.setenv("CAMPANION_DRAFT", "1")
    fig = plot()
    pdf, png = figures.save(fig, "a")
    assert not pdf.exists()
    with Image.open(png) as drawn:
        assert drawn.size == pytest.approx(tuple(110 * fig.get_size_inches()), abs=1)


@pytest.mark.parametrize("width", [3.25, 7.16])
def test_no_labels_overlap(width):
    assert overlaps(plot(width)) == []


def test_no_labels_of_a_gallery_overlap():
    assert overlaps(gallery()) == []


def test_map_covers_the_image_and_keeps_the_scale():
    fig, ax = plt.subplots()
    drawn = figures.heatmap(ax, np.zeros((3, 20, 30), np.uint8), torch.tensor([[0.0, 0.25], [0.5, 0.5]]))
    assert list(drawn.get_extent()) == [-0.5, 29.5, 19.5, -0.5]
    assert drawn.get_clim() == (0, 1)  # a weak map looks weak
    assert drawn.get_cmap().name == "viridis"
    assert figures.heatmap(ax, None, np.zeros((2, 2)), cmap="jet").get_cmap().name == "jet"
    with pytest.raises(ValueError, match=r"\[1, 2, 2\]"):
        figures.heatmap(ax, None, np.zeros((1, 2, 2)))
    plt.close(fig)


def test_a_saved_figure_is_laid_out_once_and_nothing_sticks_out():
    fig = plot()
    with patch.object(ConstrainedLayoutEngine, "execute", autospec=True, side_effect=LAYOUT) as layout:
        figures.save(fig, "a")
        fig.canvas.draw()
    assert layout.call_count == 1
    edge = fig.bbox
    inside = fig.get_tightbbox(fig.canvas.get_renderer()).transformed(fig.dpi_scale_trans)
    assert min(inside.x0, inside.y0) >= 0
    assert inside.x1 <= edge.x1
    assert inside.y1 <= edge.y1


def test_no_committed_figure_is_cut_at_its_edge():
    cut, committed = [], sorted((paths.root() / "figures").glob("*.png"))
    assert committed
    for path in committed:
        drawn = plt.imread(path)[..., :3]
        edges = (drawn[:2], drawn[-2:], drawn[:, :2], drawn[:, -2:])
        cut += [path.name for edge in edges if edge.min() < 0.8]
    assert cut == []


def test_images_of_every_form():
    image = np.random.default_rng(0).random((3, 5, 7))
    np.testing.assert_array_equal(figures.rgb(torch.tensor(image)), image.transpose(1, 2, 0))
    np.testing.assert_array_equal(figures.rgb(image.transpose(1, 2, 0)), image.transpose(1, 2, 0))
    assert figures.rgb(np.full((4, 4), 255, np.uint8)).shape == (4, 4, 3)
    assert figures.rgb(np.full((4, 4), 255, np.uint8)).max() == 1
    with pytest.raises(ValueError, match=r"\[2, 5, 7\]"):
        figures.rgb(np.zeros((2, 5, 7)))


def test_wrong_numbers_of_maps_are_told():
    with pytest.raises(ValueError, match="fd_cam has 1 maps for 2 images"):
        figures.panel(np.zeros((2, 3, 4, 4)), {"fd_cam": np.zeros((1, 4, 4))})


def test_one_legend_names_what_any_panel_draws_once():
    """The first panel may lack a method, as where two networks of one kind alone are trained."""
    fig, axes = plt.subplots(1, 2)
    for ax, names in zip(axes, (["LFI-CAM"], ["ABN", "LFI-CAM"]), strict=True):
        for name in names:
            ax.plot([0, 1], label=name)
    figures.legend_below(fig)
    assert sorted(text.get_text() for text in fig.legends[0].get_texts()) == ["ABN", "LFI-CAM"]


def test_style():
    figures.use_style()
    assert mpl.rcParams["pdf.fonttype"] == 42
    assert len(set(figures.PALETTE)) == len(figures.PALETTE) == 8


def test_a_notebooks_figures_are_drawn_from_the_committed_results_with_the_same_bytes_each_time(tmp_path):
    folder, first = tmp_path / "figures", {}
    for _ in range(2):
        run("35", "cached", output=tmp_path / "35.ipynb")
        drawn = {p.name: p.read_bytes() for p in folder.iterdir()}
        assert first in ({}, drawn)
        first = drawn
    assert set(drawn) == {p.name for p in (paths.root() / "figures").glob("35_*")}


def test_a_notebook_that_fails_is_told_and_the_others_are_drawn(tmp_path, monkeypatch, capfd):
    import nbformat

    (tmp_path / "notebooks").mkdir()
    for key, code in (("90_good", "print(1)"), ("91_bad", "import json\njson.loads('x')")):
        cells = [nbformat.v4.new_code_cell(source) for source in ('mode = "cached"', code)]
        cells[0].metadata["tags"] = ["parameters"]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, tmp_path / "notebooks" / f"{key}.ipynb")
    before = (tmp_path / "notebooks" / "90_good.ipynb").read_bytes()
    monkeypatch.setenv("CAMPANION_ROOT", str(tmp_path))
    assert draw_figures(cores=1) == 1
    out, err = capfd.readouterr()
    assert "1 of 2  90_good: drawn" in out
    assert "2 of 2  91_bad: failed" in out
    assert "JSONDecodeError" in err
    assert (tmp_path / "notebooks" / "90_good.ipynb").read_bytes() == before
