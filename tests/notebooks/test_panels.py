"""Figures that pages draw themselves, a panel for each run: of one network, and of more than are committed."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from campanion.experiments import runner
from cells import NOTEBOOKS, code_cells, with_needed
from matplotlib_inline import backend_inline

FIGURES = {
    "14": ("14_lfi_fig6", "14_thresholds", "14_pairs"),
    "20": ("20_discriminability",),
    "22": ("22_per_class", "22_discriminability"),
    "25": ("25_cosines", "25_group_sizes"),
    "27": ("27_wins",),
    "32": ("32_spread",),
}


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("page", FIGURES)
def test_a_page_draws_one_run_and_many(page, count, tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_FIGURES", str(tmp_path))
    monkeypatch.setenv("CAMPANION_DRAFT", "1")
    monkeypatch.setattr(backend_inline, "set_matplotlib_formats", lambda *_, **__: None)  # would start a shell
    load = runner.load_result
    monkeypatch.setattr(runner, "load_result", lambda key: {"runs": (load(key)["runs"] * count)[:count]})
    (path,) = (path for path in NOTEBOOKS if path.stem.startswith(page))
    sources, names, done = code_cells(path), {}, set()
    with mpl.rc_context():
        for figure in FIGURES[page]:
            (number,) = (i for i, source in enumerate(sources) if f'"{figure}' in source)
            for needed in [i for i in with_needed(sources, number) if i not in done]:
                exec(sources[needed], names)
                done.add(needed)
            plt.close("all")
            assert list(tmp_path.glob(f"{figure}*.png"))
