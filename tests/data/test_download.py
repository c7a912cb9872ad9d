"""Downloads against a server on the loopback: interrupted, resumed, wrong, no space, no network."""

from __future__ import annotations

import errno
import hashlib
import io
import shutil
import socket
import threading
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from campanion.data import download as module
from campanion.data.download import DownloadError, download

BODY = bytes(range(256)) * 400
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``body``; ``cut`` closes the connection after so many bytes, once; ``ranges`` answers range requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.cut, self.ranges, self.status, self.length = BODY, 0, True, 200, True
        self.shift = 0  # answers a range from elsewhere than asked
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        body, start = self.server.body, 0
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-")) + self.server.shift
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(self.server.status)
        if self.server.length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + self.server.cut if self.server.cut else len(body)
        self.server.cut = 0
        self.wfile.write(body[start:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def test_whole_file_arrives_and_is_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    assert download(server.url, target, f"sha256:{SHA256[:8]}") == target
    assert target.read_bytes() == BODY
    assert not part(target).exists()
    download(server.url, target, f"md5:{hashlib.md5(BODY).hexdigest().upper()}")
    assert server.asked == [None]


def test_a_present_file_that_is_wrong_is_replaced(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    download(server.url, target, f"sha256:{SHA256}")
    assert target.read_bytes() == BODY


def test_interrupted_then_resumed(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    server.cut = 3 * module.CHUNK + 100
    says = rf"interrupted .* {3 * module.CHUNK:,} bytes are kept in .*file\.bin\.part; the same command resumes"
    with pytest.raises(DownloadError, match=says):
        download(server.url, target, f"sha256:{SHA256}")
    assert part(target).read_bytes() == BODY[: 3 * module.CHUNK]
    assert not target.exists()
    download(server.url, target, f"sha256:{SHA256}")
    assert target.read_bytes() == BODY
    assert server.asked == [None, f"bytes={3 * module.CHUNK}-"]


def test_resume_where_the_server_knows_no_ranges(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    part(target).write_bytes(b"x" * 1000)
    server.ranges = False
    download(server.url, target, f"sha256:{SHA256}")
    assert target.read_bytes() == BODY


def test_part_that_is_already_whole(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    part(target).write_bytes(BODY)
    download(server.url, target, f"sha256:{SHA256}")
    assert target.read_bytes() == BODY
    assert server.asked == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("shift", [0, -7])
def test_part_that_does_not_fit_is_started_again(server: Server, tmp_path: Path, shift: int) -> None:
    target = tmp_path / "file.bin"
    part(target).write_bytes(b"y" * (1000 if shift else len(BODY) + 5))
    server.shift = shift
    download(server.url, target, f"sha256:{SHA256}")
    assert target.read_bytes() == BODY
    assert len(server.asked) == 2
    assert server.asked[1] is None


def test_wrong_bytes_are_removed_and_both_checksums_said(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    server.body = BODY[:-1] + b"!"
    found = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(DownloadError, match=f"wrong checksum and was removed: expected {SHA256}, got {found}"):
        download(server.url, target, f"sha256:{SHA256}")
    assert list(tmp_path.iterdir()) == []


def test_error_answer_says_what_to_do_by_hand(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(
        DownloadError, match=rf"answered 404 .*By hand: download {server.url} and save it as .*file\.bin"
    ):
        download(server.url, tmp_path / "file.bin", f"sha256:{SHA256}")


def test_no_network_says_what_to_do_by_hand(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/file.bin"
    with pytest.raises(
        DownloadError, match=rf"127.0.0.1:{port} cannot be reached .*By hand: download {url} and save it"
    ):
        download(url, tmp_path / "file.bin", f"sha256:{SHA256}")


def test_too_little_space_is_seen_before_the_transfer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(0, 0, int(1.5 * len(BODY)))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match=r"GB free, but .* needs"):
        download(server.url, tmp_path / "file.bin", f"sha256:{SHA256}", room=2.0)
    assert list(tmp_path.iterdir()) == []
    download(server.url, tmp_path / "file.bin", f"sha256:{SHA256}")


def test_disk_filling_up_keeps_the_part(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1 << 12)
    original = Path.open

    class Full(io.BufferedWriter):
        def write(self, data: bytes) -> int:
            if self.tell() > 20_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    def filling(self: Path, mode: str = "r", *args: object, **options: object) -> object:
        return Full(io.FileIO(self, mode.replace("b", ""))) if mode == "wb" else original(self, mode, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", filling)
        with pytest.raises(DownloadError, match=r"No space is left .* the same command resumes"):
            download(server.url, tmp_path / "file.bin", f"sha256:{SHA256}")
    kept = part(tmp_path / "file.bin").stat().st_size
    assert 20_000 < kept < len(BODY)
    download(server.url, tmp_path / "file.bin", f"sha256:{SHA256}")
    assert server.asked == [None, f"bytes={kept}-"]


def test_a_server_that_says_no_length_is_checked_by_checksum(server: Server, tmp_path: Path) -> None:
    server.length = False
    assert download(server.url, tmp_path / "a.bin", f"sha256:{SHA256}").read_bytes() == BODY
    server.cut = 1000
    with pytest.raises(DownloadError, match="wrong checksum"):
        download(server.url, tmp_path / "b.bin", f"sha256:{SHA256}")


@pytest.mark.parametrize("expected", ["", "sha256:1234567", f"sha1:{SHA256}", SHA256])
def test_a_checksum_is_required(tmp_path: Path, expected: str) -> None:
    with pytest.raises(ValueError, match="needs a checksum"):
        download("http://127.0.0.1:9/x", tmp_path / "x", expected)
