"""Files from the web, by https: pinned by their SHA-256, resumed where they broke off, kept in a cache.

The cache is the platform's (on Linux `~/.cache/sharplab`), or the folder that the environment variable
SHARPLAB_CACHE names. A file put there by hand serves as well as one that was downloaded. Hence a machine without
network needs no more than a copy of the folder.
"""

# Not by pooch 1.9: it checks and caches just so, but starts from zero after a cut.

import http.client
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from sharplab.core.caches import cache_folder
from sharplab.data.checksums import sha256_of, verify_checksum

CONNECTIONS = 8  # per address; each goes on where the last one ended
PAUSE_SECONDS = 0.5  # after the first that broke, then doubled
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 18
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
BUSY = {408, 429}  # of the HTTP errors below 500, those that pass
CUTS = (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException)


@dataclass(frozen=True)
class Source:
    """One file on the web and what tells it from all others."""

    path: str  # within the cache
    urls: tuple[str, ...]  # tried in this order
    sha256: str
    size: int  # bytes


def fetch(source: Source) -> Path:
    """The file in the cache, downloaded unless it is there, and checked either way.

    It appears under its name whole and right, or not at all; processes that want it at once download it once.

    Raises:
        ValueError: when no address has the right bytes, saying which to get by hand and where to put them; when the
            file in the cache is another; and when the cache cannot be written.
    """
    path = cache_folder() / source.path
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                if not path.exists():  # another process may have been quicker
                    _download(source, path)
                    return path
        verify_checksum(path, source.sha256, "delete it, so that it is downloaded anew")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read or written ({error}): set SHARPLAB_CACHE to a folder where there is room."
        ) from error
    return path


def _download(source: Source, path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    complaints = []
    with _progress(source) as show:
        for url in source.urls:
            complaint = _download_from(url, source, part, show)
            if complaint is None:
                os.replace(part, path)
                return
            complaints.append(f"{url}: {complaint}")
    raise ValueError(
        f"{path.name} could not be downloaded ({'; '.join(complaints)}): get {source.urls[0]} on a machine that "
        f"reaches it, {source.size} bytes with SHA-256 {source.sha256}, and put it at {path}."
    )


def _download_from(url: str, source: Source, part: Path, show: Callable[[int], None]) -> str | None:
    """Complete `part` from one address: None when its bytes are the right ones, else what was wrong."""
    if not _is_secure(url):
        return "it is no address of https"
    complaint = ""
    for attempt in range(CONNECTIONS):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        resumed = _size(part) > 0
        try:
            if _size(part) < source.size:
                resumed = _transfer(url, part, source.size, show) > 0
        except HTTPError as error:
            complaint = f"HTTP {error.code} {error.reason}"
            if error.code < 500 and error.code not in BUSY:
                return complaint
        except URLError as error:  # nobody answered
            return str(error.reason)
        except CUTS as error:
            complaint = f"{type(error).__name__} after {_size(part)} of {source.size} bytes"
        else:
            complaint = f"it ended after {_size(part)} of {source.size} bytes"
        if _size(part) < source.size:
            continue
        digest = sha256_of(part)
        if digest == source.sha256:
            return None
        part.unlink()
        complaint = f"its SHA-256 is {digest} where {source.sha256} belongs"
        if not resumed:  # else what was there before may have been at fault
            return complaint
    return complaint


def _is_secure(url: str) -> bool:
    """Whether nobody on the way reads or alters what an address answers."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


class _StaysSecure(HTTPRedirectHandler):
    """Goes where a server sends it, but for addresses that are not secure."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not _is_secure(newurl):
            raise HTTPError(newurl, code, f"leads to {newurl}, no address of https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _transfer(url: str, part: Path, size: int, show: Callable[[int], None]) -> int:
    """Append to `part` what one connection gives of the rest; the offset at which that began."""
    start = _size(part)
    headers = {"User-Agent": "sharplab", "Range": f"bytes={start}-"} if start else {"User-Agent": "sharplab"}
    opener = build_opener(_StaysSecure)
    with opener.open(Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:  # the server knows no ranges
            start = 0
        with part.open("ab" if start else "wb") as file:
            done = start
            # One byte beyond the size is enough to tell that it is another file.
            while chunk := response.read(min(CHUNK_BYTES, size + 1 - done)):
                file.write(chunk)
                done += len(chunk)
                show(done)
    return start


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextmanager
def _progress(source: Source) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    if not console.is_terminal:
        yield lambda done: None
        return
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(Path(source.path).name, total=source.size)
        yield lambda done: progress.update(task, completed=done)
