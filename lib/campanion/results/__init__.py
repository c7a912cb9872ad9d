"""What a number is, where it is kept and where it is from."""

from importlib import import_module

_HOMES = dict.fromkeys(("RowStore", "read_rows", "rows_path", "write_rows"), "rows")
_HOMES |= dict.fromkeys(("load_result", "load_results", "make_run", "save_result"), "store")
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """Each name on first use: files of maps, which name versions, do without pandas."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
