"""The program: `tip-adapter`, and `python -m tip_adapter`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; Ctrl-C exits silently, even during imports, and closed streams read and write nothing."""
    try:
        # Open the null device for streams that the shell closed (`2>&-`): otherwise a file of ours gets their number.
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
        from tip_adapter.cli import main as run  # imported here, so that Ctrl-C during the import is silent, too

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # `python -m` ends by the signal, whatever the exit status, if Ctrl-C passed through code compiled from text, as
        # dataclasses and named tuples do when they are imported. Running such code again resets that.
        exec("")


if __name__ == "__main__":
    main()
