"""The figures of the verdicts: what is in them, and that words do not overlap."""

from __future__ import annotations

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from campanion.report.forest import COLOURS, forest
from campanion.report.papers import PAPERS
from campanion.report.rule import AGAINST, HOLDS, OPEN
from campanion.report.scoreboard import committed
from campanion.report.verdicts import verdicts
from campanion.results.measures import TITLES
from cells import NOTEBOOKS, code_cells


@pytest.fixture(scope="module")
def board():
    return committed()


@pytest.fixture(scope="module")
def strip(tmp_path_factory):
    """The heat-strip that page 99 draws."""
    (page,) = (path for path in NOTEBOOKS if path.stem == "99_scoreboard")
    names = {}
    with pytest.MonkeyPatch.context() as patch, mpl.rc_context():
        patch.setenv("CAMPANION_FIGURES", str(tmp_path_factory.mktemp("figures")))
        patch.setenv("CAMPANION_DRAFT", "1")
        for source in code_cells(page)[2:4]:
            exec(source, names)
    yield names["fig"]
    mpl.pyplot.close(names["fig"])


def texts(ax) -> list[str]:
    return [t.get_text() for t in ax.texts if t.get_text()]


def test_the_strip_has_a_cell_for_every_answer_with_sign_and_colour(board, strip):
    answered = [v for v in board if v.answers]
    panels = [ax for ax in strip.axes if ax.get_title(loc="left")]
    counts = [(sum(v.claim.paper == p for v in answered), sum(v.claim.paper == p for v in board)) for p in PAPERS]
    titles = [f"{few} of {all_} claims were tested" for few, all_ in counts]
    assert [ax.get_title(loc="left").partition(": ")[2] for ax in panels] == titles
    rows = [t.get_text().replace("\n", " ") for ax in panels for t in ax.get_yticklabels()]
    assert rows == [v.claim.sentence for p in ("lfi", "fd", "lift") for v in answered if v.claim.paper == p]
    fd = panels[1]
    assert fd.get_xticklabels()[0].get_text() == "paper's\nown setting"
    v = next(v for v in answered if v.claim.id == "fd_table1_best_overall")
    decided = [f"{a.judgement.holding}/7" for a in v.answers if a.judgement.word != OPEN]
    assert decided
    assert all(any(d in t for t in texts(fd)) for d in decided)
    assert any(t.startswith("✗") for t in texts(fd))
    colours = {mpl.colors.to_hex(c).upper() for m in fd.collections for c in m.cmap(np.arange(4))}
    assert {COLOURS[HOLDS], COLOURS[AGAINST]} <= colours


def test_sentences_of_neighbouring_rows_do_not_overlap(strip):
    strip.canvas.draw()
    for ax in strip.axes:
        boxes = [t.get_window_extent() for t in ax.get_yticklabels()]
        boxes.sort(key=lambda b: -b.y1)
        assert all(a.y0 >= b.y1 - 2 for a, b in pairwise(boxes))
        assert all(b.x0 >= 0 for b in boxes)


def test_the_forest_shows_the_deciding_number_the_printed_one_and_the_margin(board):
    chosen = [v for v in board if v.claim.id == "fd_table1_best_overall"]
    fig = forest(chosen)
    (ax,) = fig.axes
    deciding = [a.judgement.deciding for a in chosen[0].answers]
    drawn = [tuple(c.lines[0].get_xdata()) for c in ax.containers]
    assert drawn == [(d.value,) for d in deciding]
    rings = [line.get_xdata()[0] for line in ax.lines if line.get_markersize() == 8]
    assert rings == [d.printed for d in deciding]
    band = ax.patches[0]
    assert (band.get_x(), band.get_width()) == pytest.approx((-0.0022, 0.0044))
    mpl.pyplot.close(fig)


def test_every_row_has_its_own_margin_and_metric(board):
    (mixed,) = (v for v in board if v.claim.id == "fd_table3_grouping")
    deciding = [a.judgement.deciding for a in mixed.answers]
    assert len({d.metric for d in deciding}) > 1
    fig = forest([mixed])
    (ax,) = fig.axes
    bands = [(p.get_x(), p.get_width(), p.get_y() + 0.5) for p in ax.patches]
    expected = [(-d.margin, 2 * d.margin, i) for i, d in enumerate(deciding)]
    assert np.allclose(bands, expected)
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert all(TITLES[d.metric] in row for d, row in zip(deciding, rows, strict=True))
    mpl.pyplot.close(fig)


def test_nothing_to_draw_is_told():
    with pytest.raises(ValueError, match="nothing to draw"):
        forest(verdicts({}))
