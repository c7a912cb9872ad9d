"""A pointing game on two photographs side by side, whose places are known: does a map go to the half it is asked about?

The grid pointing game of Böhle et al. (CVPR 2021, "Convolutional Dynamic Alignment Networks for Interpretable
Classifications", section 4) with a grid of 1 x 2. Each photograph fills a cell at the network's own input size, so a
network of 224 pixels sees 224 x 448. An even map has half of its energy in either cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch

from campanion.cams.explain import explain_game
from campanion.data import Sample
from campanion.data.photographs import PhotographPairs, classes_of, halves, photograph
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject, in_order
from campanion.game.game import ChannelGame
from campanion.metrics import energy_pointing_game, pointing_game
from campanion.outputs import class_indices
from campanion.results.statistics import paired, summarise

METRICS = ("grid_energy", "grid_hit")  # per cent


def measure(subject: Subject, sample: Sample, methods: Sequence[str]) -> list[dict[str, object]]:
    """One row per class and method of a pair of photographs; none where the network does not know two classes of them.

    Columns: class_name, side, rank (of the class among all, 1 the highest), method, grid_energy (per cent of the map's
    energy in the half of the class; 0 for a map of zeros) and grid_hit (100 where the map's highest pixel lies there,
    else 0).
    """
    model, pair = subject.model, sample.id.split(" + ")
    names = [classes_of(name, model.class_names)[:1] for name in pair]
    if not all(names) or names[0] == names[1]:
        return []
    image = torch.cat([model.preprocess(photograph(name)) for name in pair], -1)[None]
    game = ChannelGame.of(subject.parts, image.to(subject.device))
    rows = []
    for (name,), side, box in zip(names, ("left", "right"), halves(image.shape[-1], image.shape[-2]), strict=True):
        index = class_indices(list(model.class_names).index(name), 1, len(model.class_names), subject.device)
        rank = int((game.logits[0] > game.logits[0, index]).sum()) + 1
        for method, drawn in explain_game(game, index, methods).maps.items():
            energy = 100 * float(energy_pointing_game(drawn, [box]))
            hit = 100 * float(pointing_game(drawn, [box])) if drawn.any() else 0.0
            row = {"image": sample.id, "class_name": name, "side": side, "rank": rank, "method": method}
            rows.append({**row, "grid_energy": energy, "grid_hit": hit})
    return rows


def summary(rows: pd.DataFrame, subject: Subject, methods: Sequence[str]) -> Answer:
    """Means, and differences from FD-CAM. The unit is the pair; pairs share photographs, so that the intervals are
    somewhat too narrow.
    """
    rows = in_order(rows, methods)
    return Answer(summarise(rows, METRICS), paired(rows, METRICS, reference="fd_cam"))


def question(methods: Sequence[str]) -> Question:
    """All pairs of the nine photographs, for networks of ImageNet's or VOC's classes: ``grid_photographs_<model>``. The
    networks of a quick run know no animals.
    """
    return Question(
        "grid", partial(measure, methods=methods), partial(summary, methods=methods), {"seed": 0},
        key=("image", "class_name", "method"), data="photographs", open=lambda name: PhotographPairs(),
    )  # fmt: skip
