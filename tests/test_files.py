"""Files that are whole or absent, locks between processes, checksums."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from campanion.paths import locked, replacing, sha256, write_whole
from filelock import FileLock


def test_sha256_is_the_published_value_and_reads_large_files(tmp_path):
    (tmp_path / "w").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "w") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "w").write_bytes(content := bytes(range(256)) * 20_000)
    assert sha256(tmp_path / "w") == hashlib.sha256(content).hexdigest()


def test_an_error_leaves_the_old_file_and_no_part(tmp_path):
    write_whole(tmp_path / "new" / "a.txt", "old")
    with suppress(RuntimeError), replacing(tmp_path / "new" / "a.txt") as part:
        part.write_text("half")
        raise RuntimeError
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_text() == "old"


HOLD = """
import sys, time
from campanion.paths import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_waits_for_its_holder_and_is_free_when_that_is_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "locks" / "a"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(TimeoutError):
        FileLock(tmp_path / "locks" / "a").acquire(timeout=0.2)
    holder.kill()
    holder.wait()
    start = time.monotonic()
    with locked(tmp_path / "locks" / "a"):
        assert time.monotonic() - start < 10
