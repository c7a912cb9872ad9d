"""What a number is, where it is kept and where it is from."""

from campanion.results.rows import RowStore, read_rows, rows_path, write_rows
from campanion.results.store import load_result, load_results, make_run, save_result

__all__ = ["RowStore", "load_result", "load_results", "make_run", "read_rows", "rows_path", "save_result", "write_rows"]
