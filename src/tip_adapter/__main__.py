"""`python -m tip_adapter` is `tip-adapter`."""

from tip_adapter.cli import main

if __name__ == "__main__":
    main()
