"""Downloads from a server that serves well, breaks off, serves wrong bytes, or is absent."""

import dataclasses
import hashlib
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from sharplab.data import cifar, downloads, fashion_mnist, tiny_imagenet, wikitext
from sharplab.data.downloads import Source, fetch

CONTENT = np.random.default_rng(0).bytes(1_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def source(server):
    server.files["file"] = CONTENT
    return Source("set/file.bin", (f"{server.url}/file",), DIGEST, len(CONTENT))


def left_behind(cache_folder):
    return sorted(path.name for path in cache_folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_file_is_downloaded_once_and_then_read_from_the_cache(server, source, cache_folder):
    path = fetch(source)
    assert path == cache_folder / "set" / "file.bin" and path.read_bytes() == CONTENT
    assert fetch(source) == path
    assert server.requests == [("file", None)] and left_behind(cache_folder) == ["file.bin"]


def test_a_cut_connection_resumes_where_it_ended(server, source, cache_folder):
    server.cuts = [300_000, 200_000]
    assert fetch(source).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", "bytes=500000-"]
    assert left_behind(cache_folder) == ["file.bin"]


def test_a_later_call_resumes_what_an_earlier_one_left(server, source, cache_folder, monkeypatch):
    monkeypatch.setattr(downloads, "CONNECTIONS", 1)
    server.cuts = [400_000]
    with pytest.raises(ValueError, match="400000 of 1000000"):
        fetch(source)
    assert left_behind(cache_folder) == ["file.bin.part"]
    assert fetch(source).read_bytes() == CONTENT
    assert server.requests[-1] == ("file", "bytes=400000-")


def test_a_server_without_ranges_starts_over(server, source):
    server.knows_ranges, server.cuts = False, [300_000]
    assert fetch(source).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-"]


def test_connections_are_counted(server, source):
    server.cuts = [10] * 100
    with pytest.raises(ValueError, match=r"file\.bin"):
        fetch(source)
    assert len(server.requests) == downloads.CONNECTIONS


@pytest.mark.parametrize("resumed", [False, True])
def test_one_wrong_byte_is_refused_and_removed(server, source, cache_folder, resumed):
    wrong = bytearray(CONTENT)
    wrong[700_000] ^= 1
    server.files["file"] = bytes(wrong)
    server.cuts = [300_000] if resumed else []
    actual = hashlib.sha256(wrong).hexdigest()
    with pytest.raises(ValueError, match=f"{actual} .*{DIGEST}"):
        fetch(source)
    assert left_behind(cache_folder) == []


def test_a_part_of_another_file_is_given_up_for_a_fresh_start(server, source, cache_folder):
    (cache_folder / "set").mkdir(parents=True)
    (cache_folder / "set" / "file.bin.part").write_bytes(b"x" * 1000)
    assert fetch(source).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["bytes=1000-", None]


@pytest.mark.parametrize("excess", [1, 10_000_000])
def test_a_file_that_is_too_long_is_refused_after_one_byte_too_many(server, source, cache_folder, excess):
    server.files["file"] = CONTENT + bytes(excess)
    actual = hashlib.sha256(CONTENT + b"\0").hexdigest()
    with pytest.raises(ValueError, match=actual):
        fetch(source)
    assert left_behind(cache_folder) == []


def test_a_whole_part_needs_no_connection(server, source, cache_folder):
    (cache_folder / "set").mkdir(parents=True)
    (cache_folder / "set" / "file.bin.part").write_bytes(CONTENT)
    assert fetch(source).read_bytes() == CONTENT
    assert server.requests == []


def test_the_next_address_takes_over(server, source):
    server.files["wrong"] = CONTENT[::-1]
    urls = (f"{server.url}/absent", f"{server.url}/wrong", *source.urls)
    assert fetch(dataclasses.replace(source, urls=urls)).read_bytes() == CONTENT
    assert [name for name, _ in server.requests] == ["absent", "wrong", "file"]


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, source):
    server.errors = [503, 429]
    assert fetch(source).read_bytes() == CONTENT
    assert len(server.requests) == 3
    with pytest.raises(ValueError, match="404"):
        fetch(dataclasses.replace(source, path="other", urls=(f"{server.url}/absent",)))
    assert len(server.requests) == 4


def test_without_a_server_the_sentence_says_what_to_get_and_where_to_put_it(cache_folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = Source("set/file.bin", ("http://127.0.0.1:9/file.bin",), DIGEST, len(CONTENT))
    place = cache_folder / "set" / "file.bin"
    with pytest.raises(ValueError, match="refused") as caught:
        fetch(source)
    message = str(caught.value)
    assert all(part in message for part in (*source.urls, DIGEST, str(place))) and "\n" not in message
    place.write_bytes(CONTENT)
    assert fetch(source) == place


def test_a_wrong_file_in_the_cache_is_named_and_left_alone(server, source, cache_folder):
    place = cache_folder / "set" / "file.bin"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    with pytest.raises(ValueError, match=f"{place} .*{DIGEST}"):
        fetch(source)
    assert place.read_bytes() == b"mine" and server.requests == []


def test_a_cache_that_cannot_be_written_is_named(server, source, cache_folder):
    cache_folder.write_text("a file where the folder belongs")
    with pytest.raises(ValueError, match="SHARPLAB_CACHE"):
        fetch(source)


def test_two_processes_download_once(server, source, cache_folder):
    program = textwrap.dedent(
        f"""
        from sharplab.data.downloads import Source, fetch
        print(fetch(Source("set/file.bin", ("{server.url}/file",), "{DIGEST}", {len(CONTENT)})))
        """
    )
    server.delay = 1  # so that the second asks while the first is at it
    command = [sys.executable, "-c", program]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].strip() for process in both]
    assert outputs == [str(cache_folder / "set" / "file.bin")] * 2
    assert server.requests == [("file", None)] and left_behind(cache_folder) == ["file.bin"]


def test_progress_is_shown_in_a_terminal_only(source, capsys, monkeypatch):
    fetch(dataclasses.replace(source, path="set/quiet.bin"))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    fetch(dataclasses.replace(source, path="set/shown.bin"))
    shown = capsys.readouterr().err
    assert "shown.bin" in shown and "1.0/1.0 MB" in shown


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SHARPLAB_CACHE", "~/data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert downloads.cache_folder() == tmp_path / "data"
    monkeypatch.delenv("SHARPLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert downloads.cache_folder() == tmp_path / "xdg" / "sharplab"


@pytest.mark.parametrize("place", ["http://example.org/file", "ftp://example.org/file", "file:///etc/hostname"])
def test_neither_an_address_nor_where_it_leads_may_be_without_https(server, source, cache_folder, place):
    with pytest.raises(ValueError, match="https"):
        fetch(dataclasses.replace(source, urls=(place,)))
    server.redirects["away"] = place
    with pytest.raises(ValueError, match="away: HTTP 302"):
        fetch(dataclasses.replace(source, urls=(f"{server.url}/away",)))
    server.redirects["here"] = f"{server.url}/file"
    assert fetch(dataclasses.replace(source, urls=(f"{server.url}/here",))).read_bytes() == CONTENT


def test_all_that_is_downloaded_comes_by_https():
    sources = [
        cifar.ARCHIVE,
        tiny_imagenet.ARCHIVE,
        *fashion_mnist.SOURCES.values(),
        wikitext.WIKITEXT_2,
        wikitext.WIKITEXT_103,
    ]
    assert len(sources) > 6
    assert all(url.startswith("https://") for source in sources for url in source.urls)
    assert all(len(bytes.fromhex(source.sha256)) == 32 for source in sources)
