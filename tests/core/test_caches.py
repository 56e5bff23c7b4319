"""Compiled programs are kept from process to process, whole ones alone, and not without bound."""

import json
import os
import subprocess
import sys
import zlib

import pytest

from sharplab.core import caches

MISSES = """
import jax, json
from sharplab.core.caches import keep_compiled_programs
keep_compiled_programs()
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
import jax.numpy as jnp
value = jax.jit(lambda x: jnp.sin(x) @ x)(jnp.arange(5.0))
found = ["/jax/compilation_cache/cache_misses", "/jax/compilation_cache/cache_hits"]
print(json.dumps([float(value), *map(events.count, found)]))
"""


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """An empty cache, and no settings but its own."""
    for name in ("JAX_COMPILATION_CACHE_DIR", "SHARPLAB_COMPILATION_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHARPLAB_CACHE", str(tmp_path))
    return tmp_path


def run(**more):
    command = [sys.executable, "-c", MISSES]
    answer = subprocess.run(command, env=os.environ | more, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


@pytest.mark.long
def test_a_second_process_compiles_nothing_that_a_first_one_compiled(environment):
    value, misses, hits = run()
    assert misses > 0 == hits
    assert run() == [value, 0, misses]
    for entry in environment.glob("compiled/*/*-cache"):
        entry.write_bytes(entry.read_bytes()[:-10])  # as a killed process leaves it
    assert run() == [value, misses, 0]
    assert run() == [value, 0, misses]


@pytest.mark.long
def test_it_can_be_switched_off_and_yields_to_ones_own(environment):
    assert run(SHARPLAB_COMPILATION_CACHE="off")[2] == 0
    assert not (environment / "compiled").exists()
    run(JAX_COMPILATION_CACHE_DIR=str(environment / "mine"), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert not (environment / "compiled").exists() and any((environment / "mine").iterdir())


def test_a_cache_that_cannot_be_written_is_none(environment, monkeypatch):
    (environment / "file").touch()
    monkeypatch.setenv("SHARPLAB_CACHE", str(environment / "file"))
    assert caches.cache_environment() == {}


def test_the_oldest_entries_go_first_and_those_cut_short_at_once(tmp_path):
    whole = zlib.compress(os.urandom(1000))
    for age, name in enumerate(["newest", "middle", "oldest"]):
        (tmp_path / name).write_bytes(whole)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    (tmp_path / "cut").write_bytes(whole[:-1])
    (tmp_path / "large and cut").write_bytes(zlib.compress(bytes(caches.PIECE + 1))[:-1])
    (tmp_path / "empty").touch()
    caches.tidy(tmp_path, 2 * len(whole))
    assert {path.name for path in tmp_path.iterdir()} == {"newest", "middle", caches.CHECKED}


@pytest.mark.parametrize("size", [caches.PIECE - 1, caches.PIECE, caches.PIECE + 1])
def test_entries_larger_than_what_is_inflated_at_a_time_stay(tmp_path, size):
    (tmp_path / "entry").write_bytes(zlib.compress(bytes(size)))
    caches.tidy(tmp_path)
    assert (tmp_path / "entry").exists()
