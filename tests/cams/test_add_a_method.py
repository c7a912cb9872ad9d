"""The page "Add a method in 30 lines" does what it says: its code is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from campanion import METHODS, load_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add_a_method.md"


@pytest.fixture
def page(capsys):
    """The names that the page's code defines, and what it prints; the method is taken out of METHODS afterwards."""
    before = dict(METHODS)
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    names = {}
    try:
        exec(compile(code, PAGE.name, "exec"), names)
        yield names, code, capsys.readouterr().out
    finally:
        METHODS.clear()
        METHODS.update(before)


def test_it_has_thirty_lines_and_prints_a_line_for_each_method(page):
    names, code, printed = page
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    assert "alone_cam" in METHODS
    assert [line.split()[0] for line in printed.splitlines()] == list(names["names"])


def test_its_weights_are_those_of_plain_forward_passes(page):
    names, _, _ = page
    model, images, e = load_model("scenes_vgg"), names["images"], names["e"]
    layer = model.get_submodule(model.target_layer)

    def value(channel: int | None) -> float:
        mask = torch.zeros(64)
        if channel is not None:
            mask[channel] = 1
        hook = layer.register_forward_hook(lambda module, inputs, output: output * mask[:, None, None])
        try:
            return model(images)[0, e.targets[0]].item()
        finally:
            hook.remove()

    with torch.no_grad():
        alone = torch.tensor([value(k) for k in range(64)]) - value(None)
    torch.testing.assert_close(e.weights["alone_cam"][0], alone, atol=1e-4, rtol=1e-4)
    assert alone.abs().max() > 0.1  # there is something to compare
