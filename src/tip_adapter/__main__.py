"""The program: `tip-adapter`, and `python -m tip_adapter`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C is quiet from the first import on."""
    try:
        from tip_adapter.cli import main as run  # here, so that importing it can be interrupted quietly, too

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
