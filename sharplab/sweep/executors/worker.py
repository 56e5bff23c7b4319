"""A worker process: calls what it is sent, one after another, until its parent goes."""

import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

PARENT_SECONDS = 1.0


def main() -> None:
    """Serve the connection whose file descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    connection = Connection(int(sys.argv[1]))
    sys.path[:] = connection.recv()
    while True:
        try:
            function, args, kwargs = connection.recv()
            answer: tuple[Any, Exception | None] = (function(*args, **kwargs), None)
        except EOFError:
            return
        except Exception as error:
            answer = (None, error)
        _send(connection, answer)


def _send(connection: Connection, answer: tuple[Any, Exception | None]) -> None:
    try:
        connection.send(answer)
    except Exception as error:  # what cannot be pickled
        connection.send((None, RuntimeError(f"a worker's answer could not be sent: {error}; it was {answer!r}.")))


def _end_with(parent: int) -> None:
    """End this process once its parent has ended: a sweep that was killed leaves no workers behind."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
