"""Run the notebooks without a browser: find one, check its parameters and data, execute it, read what it printed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from campanion import paths
from campanion.errors import MissingData, unknown
from campanion.notebooks.rules import strip
from campanion.paths import write_whole

MODES = ("quick", "full", "cached")


def notebooks_dir() -> Path:
    """Folder of the committed notebooks."""
    return paths.root() / "notebooks"


def keys() -> list[str]:
    """Names of the notebooks without ``.ipynb``, in reading order."""
    return sorted(p.stem for p in notebooks_dir().glob("[0-9][0-9]_*.ipynb"))


def find(key: str) -> Path:
    """Path of the notebook that ``key`` names: its whole name, or a beginning that only it has, such as ``21``.

    Raises:
        ValueError: no notebook, or more than one, has that name.
    """
    known = keys()
    near = [key] if key in known else [k for k in known if key and k.startswith(key)]
    if len(near) > 1:
        raise ValueError(f"{key!r} is short for {len(near)} notebooks: {', '.join(near)}. Name one.")
    if not near:
        raise ValueError(unknown("notebook", key, known))
    return notebooks_dir() / f"{near[0]}.ipynb"


def parameters(path: Path) -> dict[str, str]:
    """Parameters that a notebook declares, with their default values as source text."""
    import papermill

    return {name: p["default"] for name, p in papermill.inspect_notebook(str(path)).items()}


def check_parameters(path: Path, given: Mapping[str, object]) -> None:
    """Refuse parameters that the notebook does not declare: papermill would only warn and then run the defaults.

    Raises:
        ValueError: the sentence lists the parameters there are.
    """
    known = parameters(path)
    for name in given:
        if name not in known:
            raise ValueError(f"{path.stem}: {unknown('parameter', name, known)}")
    if (limit := given.get("limit")) is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"{path.stem}: limit takes a number of images above 0, not {limit!r}.")


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
    key: str, mode: str = "quick", given: Mapping[str, object] | None = None, output: str | Path | None = None
) -> Path:
    """Execute a notebook; returns the path of the executed copy.

    The run is written to ``logs/<mode>/<key>.ipynb`` as it goes and copied to ``output`` only when every cell has
    passed, so a failed run keeps its traceback and never stands in for a good one.

    Args:
        key: the notebook, see :func:`find`.
        mode: ``"quick"`` (generated scenes, on the CPU; results and figures go to ``out/quick``), ``"full"`` (real
            data, writes ``data/results``) or ``"cached"`` (executes the committed notebook in place).
        given: values for other parameters.
        output: default ``out/<mode>/notebooks/<key>.ipynb``; for ``"cached"`` the committed notebook itself.

    Raises:
        ValueError: unknown notebook, mode or parameter.
        MissingData: a full run lacks data.
        OSError: ``output`` cannot be written.
        papermill.exceptions.PapermillExecutionError: a cell failed.

    Example:
        >>> run("21_fd_table1_faithfulness", "full", {"limit": 500})
    """
    import papermill

    from campanion.notebooks import kernels  # only here: Jupyter takes a while to import

    if mode not in MODES:
        raise ValueError(unknown("mode", mode, MODES))
    path = find(key)
    given = dict(given or {})
    if mode == "cached" and output is None and given:
        raise ValueError(
            f"{path.stem}: a committed notebook runs with its default parameters; give --output to run it with others."
        )
    check_parameters(path, {"mode": mode, **given})
    if mode == "cached":
        _check_default_mode(path)
    else:
        given = {"mode": mode, **given}
    if mode == "full" and (missing := missing_data(path)):
        raise MissingData(missing[0])
    default = path if mode == "cached" else paths.out_dir() / mode / "notebooks" / path.name
    output = _writable(Path(output) if output is not None else default)
    log = _writable(log_dir(mode) / path.name)
    with _environment(mode, path.stem):
        # Without parameters papermill adds no injected-parameters cell, as a committed notebook needs it.
        papermill.execute_notebook(
            str(path),
            str(log),
            given,
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


def _check_default_mode(path: Path) -> None:
    default = str(parameters(path)["mode"])
    if default.strip("'\"") != "cached":
        raise ValueError(f'{path.stem}: its parameters cell must say mode = "cached", but says mode = {default}.')


def _writable(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise OSError(
            f"Cannot write {path}: {error.strerror}. Free that path or choose another with --output."
        ) from error
    if path.stat().st_size == 0:
        path.unlink()
    return path


@contextmanager
def _environment(mode: str, key: str) -> Iterator[None]:
    """What the kernel inherits: no bars in stored outputs, a progress log, and for quick runs a place of their own."""
    here = {"CAMPANION_BATCH": "1", "CAMPANION_LOG": str(log_dir(mode) / f"{key}.progress.log")}
    if mode == "quick":
        out = paths.out_dir() / "quick"
        here |= {
            "CAMPANION_RESULTS": str(out / "results"),
            "CAMPANION_FIGURES": str(out / "figures"),
            "CAMPANION_DRAFT": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
    before = {name: os.environ[name] for name in here if name in os.environ}
    os.environ.update(here)
    try:
        yield
    finally:
        for name in here:
            os.environ.pop(name, None)
        os.environ.update(before)
