"""Renders docs/reference/commands.md from the program itself: `python docs/render_commands.py` writes the page."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from tip_adapter.cli import COMMANDS, app

PAGE = Path(__file__).parent / "reference" / "commands.md"
INTRODUCTION = """# Commands

What `tip-adapter --help` and each command's `--help` say. Rendered by `python docs/render_commands.py`; a test renders
it again and compares.

Exit status: 0 success, 1 failure, 2 usage, 130 on Ctrl-C. Results go to stdout, notes and progress to stderr. An error is one
line on stderr, `error: ...`. `tip-adapter --install-completion` lets the shell complete commands, options and names.
"""


def render() -> str:
    """The page: the program's help, then each command's."""
    sections = [_section("tip-adapter", []), *(_section(f"tip-adapter {name}", [name]) for name in COMMANDS)]
    return "\n".join([INTRODUCTION, *sections])


def _section(title: str, command: list[str]) -> str:
    runner = CliRunner(env={"COLUMNS": "100"})  # the same width on every terminal
    shown = runner.invoke(app, [*command, "--help"], prog_name="tip-adapter", catch_exceptions=False)
    return f"## {title}\n\n```text\n{shown.stdout.strip()}\n```\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
