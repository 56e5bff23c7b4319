"""Exit codes of commands, and their messages when something went wrong."""

import os
import sys
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from sharplab.commands.options import TRAINED
from sharplab.core.files import refusal
from sharplab.core.signals import Terminated
from sharplab.core.text import printable

DONE, SOME_FAILED, BAD_INPUT, STOPPED, UNREAD, TERMINATED = 0, 1, 2, 130, 141, 143


def exit_code_of(command: Callable[[], int | None], remains: Callable[[], str] = lambda: TRAINED) -> int:
    """Run a command and return its exit code; errors of the user are printed in a sentence on standard error.

    `remains` says, where it is stopped, what is left of its work.

    0: done, or what the command returns. 1: some groups of a sweep failed. 2: bad input. 130: stopped by Ctrl-C.
    143: by SIGTERM. 141, in silence: who read the output has gone, as `head` does. Whatever else is raised is an error
    of the program, and passes through with its traceback.
    """
    try:
        return command() or DONE
    except KeyboardInterrupt as signal:
        terminated = isinstance(signal, Terminated)
        _say(f"[yellow bold]stopped{' by SIGTERM' * terminated}[/]; {escape(printable(remains()))}")
        return TERMINATED if terminated else STOPPED
    except ValueError as error:
        _say("[red bold]error:[/]", error)
        return BAD_INPUT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left unsaid would be refused again
        return UNREAD
    except OSError as error:  # what the system refuses
        _say("[red bold]error:[/]", refusal(f"{error.filename or 'a file'} cannot be read or written", error))
        return BAD_INPUT
    except Exception as error:
        from sharplab.sweep.dispatch import SweepError  # here, for who helps and refuses needs nothing of training

        if not isinstance(error, SweepError):
            raise
        _say("[red bold]failed:[/]", error)
        return SOME_FAILED


def _say(heading: str, error: Exception | None = None) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(heading, end=" " if error is not None else "\n")
    if error is not None:
        console.print(printable(error), markup=False)  # brackets in it are its own
