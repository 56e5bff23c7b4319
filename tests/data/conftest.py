"""A cache of the test's own and a server to fill it."""

import pytest
from file_server import serve

from sharplab.data import downloads


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SHARPLAB_CACHE", str(folder))
    return folder


@pytest.fixture
def server(cache_folder, monkeypatch):
    """A file server, downloads from which end up in `cache_folder` and are retried at once."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0)
    with serve() as state:
        yield state
