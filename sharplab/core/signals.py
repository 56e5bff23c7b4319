"""How a command ends by Ctrl-C or SIGTERM."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}  # 128 and the signal's number, as shells have it


class Terminated(KeyboardInterrupt):
    """SIGTERM asked this process to end, as queues do before they kill."""


@contextmanager
def ending_by_signals() -> Iterator[Callable[[], None]]:
    """A block that Ctrl-C and SIGTERM end: at once until the function that it yields is called, then by an exception.

    While libraries are imported nothing is at stake, and an exception may be lost in one that is just beginning.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def ready() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _terminate)

    before = {number: signal.signal(number, _end) for number in CODES}
    try:
        yield ready
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: Any) -> None:
    os.write(2, b"stopped before anything had begun\n")
    os._exit(CODES[signal.Signals(number)])


def _terminate(number: int, frame: Any) -> None:
    raise Terminated
