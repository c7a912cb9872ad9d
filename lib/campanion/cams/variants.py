"""A method with options as one name, for rows of tables and columns of figures: ``fd_cam:bias=0,switch=off``."""

from __future__ import annotations

import ast

from campanion.cams.methods import get_method

#: Rows of FD-CAM's Tables III and IV, by the names that ``data/papers`` gives them: what they stand for, and a title.
ROWS: dict[str, tuple[str, str]] = {
    "fd_cam_ng_off": ("fd_cam:grouped=False,switch=off", "FD-CAM, no groups, off"),
    "fd_cam_g_off": ("fd_cam:switch=off", "FD-CAM, groups, off"),
    "fd_cam_linear": ("fd_cam:combination=linear,bias=0", "FD-CAM, w = a s"),
    "fd_cam_exp_b0": ("fd_cam:bias=0", "FD-CAM, w = a exp(s)"),
}


def parse(name: str) -> tuple[str, dict[str, object]]:
    """The method and the options that ``name`` stands for.

    After a colon stand options, ``key=value`` with commas between them; a single word is the option ``variant``. Names
    of :data:`ROWS` stand for what is written there.

    Raises:
        ValueError: unknown method or option.

    >>> parse("xgrad_cam:lift")
    ('xgrad_cam', {'variant': 'lift'})
    >>> parse("fd_cam_ng_off")
    ('fd_cam', {'grouped': False, 'switch': 'off'})
    """
    method, _, text = ROWS.get(name, (name, ""))[0].partition(":")
    entry = get_method(method)
    options = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        key, value = (key, value) if equals else ("variant", key)
        options[key] = _value(value)
        entry.check(key, options[key])
    return method, options


def label(name: str) -> str:
    """The name as papers print it, with its options; a name that stands for no method stays as it is.

    >>> label("xgrad_cam:lift")
    'XGrad-CAM (lift)'
    >>> label("fd_cam:bias=0.25")
    'FD-CAM (bias=0.25)'
    """
    if name in ROWS:
        return ROWS[name][1]
    method, _, options = name.partition(":")
    try:
        title = get_method(method).title
    except ValueError:
        return name
    return f"{title} ({options.replace(',', ', ')})" if options else title


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a word, such as off
