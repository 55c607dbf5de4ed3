"""The program: `tip-adapter`, and `python -m tip_adapter`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; Ctrl-C is quiet from the first import on, and closed streams are empty ones."""
    try:
        _open_closed_streams()
        from tip_adapter.cli import main as run  # here, so that importing it can be interrupted quietly, too

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _forget_interruption()


def _open_closed_streams() -> None:
    """Let the null device stand in for what a shell closed (`2>&-`); else a file of ours would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def _forget_interruption() -> None:
    """Let an exit status stand: `python -m` ends by the signal where Ctrl-C once passed through code made from text.

    Dataclasses and named tuples are made so, at imports. Python remembers it, whoever caught it, until such code runs again.
    """
    exec("")


if __name__ == "__main__":
    main()
