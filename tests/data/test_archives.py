"""Archives: what is asked for is read, what is malicious is not, and nothing reaches the disk."""

import io
import stat
import tarfile
import zipfile

import pytest

from sharplab.data.archives import open_zip, read_member, read_tar

OUTSIDE = ["../evil", "/tmp/sharplab-evil", "folder/../../evil"]


def make_tar(path, files=(), links=()):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in dict(files).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, kind, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


def make_zip(path, files=(), links=()):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in dict(files).items():
            archive.writestr(name, content)
        for name, target in links:
            member = zipfile.ZipInfo(name)
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(member, target)
    return path


def test_tar_and_zip_give_the_files_asked_for(tmp_path):
    files = {"folder/a": b"first", "folder/b": b"second", "c": b""}
    assert read_tar(make_tar(tmp_path / "x.tar.gz", files), ["folder/b", "c"]) == {"folder/b": b"second", "c": b""}
    with open_zip(make_zip(tmp_path / "x.zip", files)) as archive:
        assert read_member(archive, "folder/a") == b"first" and read_member(archive, "c") == b""


def test_names_that_lead_outside_write_nothing(tmp_path):
    files = {"good": b"good"} | dict.fromkeys(OUTSIDE, b"evil")
    place = tmp_path / "inner" / "cache"
    place.mkdir(parents=True)
    tar, zipped = make_tar(place / "x.tar.gz", files), make_zip(place / "x.zip", files)
    before = sorted(tmp_path.rglob("*"))
    assert read_tar(tar, ["good"]) == {"good": b"good"}
    with open_zip(zipped) as archive:
        assert read_member(archive, "good") == b"good"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_in_place_of_a_file_is_refused(tmp_path, kind):
    tar = make_tar(tmp_path / "x.tar.gz", {"other": b"secret"}, [("wanted", kind, "other")])
    with pytest.raises(ValueError, match=r"x\.tar\.gz .*wanted .*link"):
        read_tar(tar, ["wanted"])


def test_a_link_or_folder_in_a_zip_is_refused(tmp_path):
    with open_zip(make_zip(tmp_path / "x.zip", {"folder/": b""}, [("wanted", "/etc/passwd")])) as archive:
        for name in ("wanted", "folder/"):
            with pytest.raises(ValueError, match=f"{name} .*link"):
                read_member(archive, name)


def test_a_missing_member_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"x\.tar\.gz .*no wanted"):
        read_tar(make_tar(tmp_path / "x.tar.gz", {"other": b""}), ["wanted"])
    with (
        open_zip(make_zip(tmp_path / "x.zip", {"other": b""})) as archive,
        pytest.raises(ValueError, match=r"x\.zip .*no wanted"),
    ):
        read_member(archive, "wanted")


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_archive_is_refused(tmp_path, damage):
    def damaged(path):
        content = bytearray(path.read_bytes())
        if damage == "cut":
            content = content[: len(content) // 2]
        elif damage == "flipped":
            content[len(content) // 2] ^= 0xFF
        else:
            content = bytearray(b"<html>not found</html>" * 10)
        path.write_bytes(content)
        return path

    files = {"wanted": bytes(range(256)) * 40}
    with pytest.raises(ValueError, match=r"\.(tar\.gz|zip) .*whole"):
        read_tar(damaged(make_tar(tmp_path / "x.tar.gz", files)), ["wanted"])
    with (
        pytest.raises(ValueError, match=r"\.(tar\.gz|zip) .*whole"),
        open_zip(damaged(make_zip(tmp_path / "x.zip", files))) as archive,
    ):
        read_member(archive, "wanted")
