"""Run the notebooks without a browser: find one, check its parameters and data, execute it, read what it printed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from campanion import paths
from campanion.errors import MissingData, one_of, unknown
from campanion.notebooks.rules import strip
from campanion.paths import locked, write_whole

MODES = ("quick", "full", "cached")


def notebooks_dir() -> Path:
    """Folder of the committed notebooks."""
    return paths.root() / "notebooks"


def keys() -> list[str]:
    """Names of the notebooks without ``.ipynb``, in reading order."""
    return sorted(p.stem for p in notebooks_dir().glob("[0-9][0-9]_*.ipynb"))


def find(key: str) -> Path:
    """Path of the notebook that ``key`` names: its whole name, or a beginning that only it has; else ValueError.

    >>> find("21")
    """
    names = keys()
    matches = [key] if key in names else [name for name in names if key and name.startswith(key)]
    if len(matches) > 1:
        raise ValueError(f"{key!r} is short for {len(matches)} notebooks: {', '.join(matches)}. Name one.")
    if not matches:
        raise ValueError(unknown("notebook", key, names))
    return notebooks_dir() / f"{matches[0]}.ipynb"


def parameters(path: Path) -> dict[str, str]:
    """Parameters that a notebook declares, with their default values as source text."""
    import papermill

    return {name: p["default"] for name, p in papermill.inspect_notebook(str(path)).items()}


def _check_parameters(path: Path, values: Mapping[str, object]) -> None:
    """ValueError for parameters that are not declared: papermill would only warn and then run the defaults."""
    declared = parameters(path)
    for name in values:
        if name not in declared:
            raise ValueError(f"{path.stem}: {unknown('parameter', name, declared)}")
    if (limit := values.get("limit")) is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"{path.stem}: limit takes a number of images above 0, not {limit!r}.")
    if values["mode"] == "cached" and (default := declared["mode"]).strip("'\"") != "cached":
        raise ValueError(f'{path.stem}: its parameters cell must say mode = "cached", but says mode = {default}.')


def needs_of(path: Path) -> list[str]:
    """Names of the data sets and weights that the notebook's metadata list: ``{"campanion": {"needs": [...]}}``."""
    return json.loads(path.read_text(encoding="utf-8"))["metadata"].get("campanion", {}).get("needs", [])


def missing_data(path: Path) -> list[str]:
    """What a ``full`` run of the notebook needs and does not find, one sentence each."""
    from campanion.data.registry import find_entry

    root = paths.data_dir()
    return [
        f"{path.stem} needs {name}, which is not in {root}: run `python -m campanion data fetch {name}`, "
        "or point CAMPANION_DATA at the folder that holds it."
        for name in needs_of(path)
        if find_entry(name).layouts and find_entry(name).find(root) is None
    ]


def run(
    key: str, mode: str = "quick", values: Mapping[str, object] | None = None, output: str | Path | None = None
) -> Path:
    """Execute a notebook; returns the path of the executed copy: by default the committed one in mode ``"cached"``,
    else ``out/<mode>/notebooks/<key>.ipynb``.

    The run is written to ``logs/<mode>/<key>.ipynb`` as it goes and copied to ``output`` only when every cell has
    passed, so a failed run keeps its traceback and never stands in for a good one. ``values`` are of parameters.

    >>> run("21_fd_table1_faithfulness", "full", {"limit": 500})
    """
    import papermill

    from campanion.notebooks import kernels  # only here: Jupyter takes a while to import

    one_of("mode", mode, MODES)
    path, values = find(key), dict(values or {})
    if mode == "cached" and output is None and values:
        raise ValueError(
            f"{path.stem}: a committed notebook runs with its default parameters; give --output to run it with others."
        )
    _check_parameters(path, {"mode": mode, **values})
    if mode == "full" and "models" not in values and (missing := missing_data(path)):  # networks say what they lack
        raise MissingData(missing[0])
    # Without values papermill adds no injected-parameters cell, as a committed notebook needs it.
    values = values if mode == "cached" else {"mode": mode, **values}
    default = path if mode == "cached" else paths.out_dir() / mode / "notebooks" / path.name
    output = _writable(Path(output or default))
    log = _writable(log_dir(mode) / path.name)
    waiting = f"Another {mode} run of {path.stem} is going on; this one waits for it to end."
    with locked(log.with_suffix(".lock"), waiting), patch.dict(os.environ, _environment(mode, path.stem)):
        papermill.execute_notebook(
            str(path),
            str(log),
            values,
            cwd=str(path.parent),
            kernel_name="python3",
            progress_bar=False,
            coalesce_streams=True,  # else the moments at which text arrives would show in the file
            # Kernels warn that they listen on loopback, signed but not encrypted, and remark on their own shutdown.
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            **kernels.manager(),
        )
        write_whole(output, strip(log.read_text(encoding="utf-8")))
    return output


def log_dir(mode: str) -> Path:
    """Folder of the logs of a mode: the running notebook, its text log and its progress lines."""
    return paths.root() / "logs" / mode


def text(path: str | Path) -> str:
    """What an executed notebook printed and displayed, as plain text: for a summary in a terminal."""
    import nbformat

    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        for out in cell.get("outputs", []):
            data = out.get("data", {})
            part = out.get("text") if out.output_type == "stream" else data.get("text/markdown", data.get("text/plain"))
            if part and not part.startswith("<Figure"):
                parts.append(part.rstrip())
    return "\n\n".join(parts)


def _writable(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise OSError(f"Cannot write {path}: {error.strerror}. Free that path or give another --output.") from error
    if path.stat().st_size == 0:
        path.unlink()
    return path


def _environment(mode: str, key: str) -> dict[str, str]:
    """What the kernel inherits: no bars in stored outputs, a progress log, and for quick runs a place of their own."""
    variables = {"CAMPANION_BATCH": "1", "CAMPANION_LOG": str(log_dir(mode) / f"{key}.progress.log")}
    if mode != "quick":
        return variables
    folders = {f"CAMPANION_{name.upper()}": str(paths.out_dir() / "quick" / name) for name in ("results", "figures")}
    return variables | folders | {"CAMPANION_DRAFT": "1", "CUDA_VISIBLE_DEVICES": ""}
