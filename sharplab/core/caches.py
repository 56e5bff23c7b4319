"""What is kept on this machine between processes: downloads, and compiled programs.

Compiled programs are kept by jax, in a folder of the cache for each kind of processor. What two processes compile at
once is written by the first; an entry that a killed process left cut short is taken away by the next one that starts;
the oldest go where all together exceed `MOST_BYTES`.
"""

import contextlib
import hashlib
import os
import platform
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path

MOST_BYTES = 2 << 30
SETTINGS: Mapping[str, str] = {  # every program, however soon compiled and however small
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
ZLIB = b"\x78"  # the first byte of what zlib has compressed
PIECE = 1 << 20  # bytes inflated at a time, which a damaged entry might hold a thousand times over
CHECKED = ".checked"


def cache_folder() -> Path:
    """Where this machine keeps things: the environment variable SHARPLAB_CACHE, else the platform's cache folder."""
    named = os.environ.get("SHARPLAB_CACHE")
    return Path(named).expanduser() if named else user_cache_path("sharplab")


def keep_compiled_programs() -> None:
    """Let this process, and those that it starts, keep compiled programs and use what others have kept."""
    environment = cache_environment()
    os.environ |= environment
    if environment and "jax" in sys.modules:  # which has read the environment already
        import jax

        jax.config.update("jax_compilation_cache_dir", environment["JAX_COMPILATION_CACHE_DIR"])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def cache_environment() -> dict[str, str]:
    """The environment variables by which jax keeps compiled programs in this machine's cache, which is tidied.

    None where SHARPLAB_COMPILATION_CACHE is "off", where JAX_COMPILATION_CACHE_DIR names a folder of your own, and
    where the folder cannot be written: then programs are compiled anew.
    """
    if os.environ.get("SHARPLAB_COMPILATION_CACHE") == "off" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return {}
    folder = cache_folder() / "compiled" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tidy(folder)
    except OSError:
        return {}
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), **SETTINGS}


def tidy(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Take away entries that were cut short since the last time, and the oldest beyond `most_bytes` in all."""
    checked = folder / CHECKED
    since = checked.stat().st_mtime if checked.exists() else 0.0
    entries = []
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):  # which another process takes away
            state = entry.stat()
            if entry.name != CHECKED and state.st_mtime >= since and not _whole(Path(entry.path)):
                os.unlink(entry.path)
            elif entry.name != CHECKED:
                entries.append((max(state.st_mtime, state.st_atime), state.st_size, entry.path))
    size = sum(bytes_ for _, bytes_, _ in entries)
    for _, bytes_, path in sorted(entries):
        if size <= most_bytes:
            break
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        size -= bytes_
    checked.touch()


def _whole(entry: Path) -> bool:
    """Whether an entry is complete, as far as its compression tells."""
    held = entry.read_bytes()
    if not held.startswith(ZLIB):
        return bool(held)
    stream = zlib.decompressobj()
    try:
        made = held
        while (made or held) and not stream.eof:
            made, held = stream.decompress(held, PIECE), stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof


def _processor() -> str:
    """A digest that machines share whose processors run each other's programs."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.node()
    named = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return hashlib.sha256("\n".join(sorted(named)).encode()).hexdigest()[:16]
