"""The `sharplab` command."""

import sys

from sharplab.core.signals import ending_by_signals


def main() -> None:
    """Run one command; bad input ends with one sentence and exit code 2."""
    with ending_by_signals() as ready:
        from sharplab.commands.command_line import run  # here, so that signals are heeded while it loads

        sys.exit(run(sys.argv[1:], ready))


if __name__ == "__main__":
    main()
