"""Archives are merged into a set, and unsafe or damaged ones leave nothing behind."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from campanion.data.download import unpack


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_archives_of_one_set_are_merged(tmp_path: Path, pack: object) -> None:
    folder = tmp_path / "set"
    one = pack(tmp_path / "one", {"top/a.txt": b"1", "top/lists/one.txt": b"1"})
    two = pack(tmp_path / "two", {"top/b.txt": b"2", "top/lists/two.txt": b"2"})
    assert unpack(one, folder, "top/lists/one.txt").read_bytes() == b"1"
    assert unpack(two, folder, "top/lists/two.txt").read_bytes() == b"2"
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert found == ["top/a.txt", "top/b.txt", "top/lists/one.txt", "top/lists/two.txt"]
    assert [p.name for p in folder.iterdir()] == ["top"]


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize("name", ["../outside.txt", "good/../../outside.txt", "/outside.txt"])
def test_members_that_leave_the_folder_are_refused(tmp_path: Path, pack: object, name: str) -> None:
    archive = pack(tmp_path / "bad", {"makes.txt": b"", name: b"evil"})
    if pack is tar_of and name.startswith("/"):
        unpack(archive, tmp_path / "set", "makes.txt")  # the tar filter strips the slash: the file stays inside
        assert (tmp_path / "set" / "outside.txt").is_file()
    else:
        with pytest.raises(ValueError, match="unsafe"):
            unpack(archive, tmp_path / "set", "makes.txt")
        assert list((tmp_path / "set").iterdir()) == []
    assert not (tmp_path / "outside.txt").exists()
    assert not Path("/outside.txt").exists()


def test_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bad.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    with pytest.raises(ValueError, match="unsafe"):
        unpack(archive, tmp_path / "set", "link")


def test_damaged_and_foreign_archives_are_named(tmp_path: Path) -> None:
    whole = tar_of(tmp_path / "cut.tar.gz", {"a": bytes(range(256)) * 2000})
    whole.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cut\.tar\.gz is damaged"):
        unpack(whole, tmp_path / "set", "a")
    with pytest.raises(ValueError, match=r"other\.zip holds no a"):
        unpack(zip_of(tmp_path / "other.zip", {"b": b""}), tmp_path / "set", "a")
    assert list((tmp_path / "set").iterdir()) == []
