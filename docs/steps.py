"""Runs the commands and Python blocks of the documentation in the order of a page.

`python docs/steps.py` runs those of every page with a console block and writes their output into it. tests/test_docs.py runs
all pages.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from tip_adapter.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: A fenced block of any kind, or a line of an indented block that starts with a program.
STEP = re.compile(
    r"^```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^```$"
    r"|^    (?P<line>(?:tip-adapter|make|pip|python3?|source|curl|\.venv/bin/[\w-]+) [^\n]*)$",
    re.MULTILINE | re.DOTALL,
)

#: Commands that no test runs → the reason.
NOT_RUN = {
    r"make \w+": "creates an environment and installs into it",
    r"python3 -m venv .*": "creates an environment",
    r"(.venv/bin/)?pip install .*": "needs a package index",
    r"source \S+": "is for the reader's own shell",
    r"\.venv/bin/tip-adapter demo": "needs the environment created before it; the tutorial runs the demo",
    r"uvicorn .*": "serves until it is stopped; the test of the page calls the service without a network",
    r"tip-adapter serve( .*)?": "serves until it is stopped; the test of the page starts it",
    r"curl .*": "sends a request to a service; the test of the page does the same",
    r"docker .*": "needs a container engine; tests/serve sets the same variables",
    r"tip-adapter (fit|predict) .*\btiles.*": "needs the page's package installed; tests/encoders installs and runs it",
    r"tip-adapter fit .* --encoder (clip|onnx:immich-app/\S+) .*": "downloads weights; tests/encoders does, from a hub on loopback",
    r"ray start .*": "starts a cluster; tests/distributed starts one on this machine",
    r"tip-adapter label .* --address .*": "needs a cluster; tests/distributed runs one on this machine",
    r"hf download .*": "downloads weights",
    r"tip-adapter reproduce \w+ (?!--vectors).*": "needs the paper's data sets; tests/paper runs each on a small one",
}


def follow(page: str, names: dict[str, Any]) -> str:
    """Run the commands and code of a page in the working folder.

    Parameters
    ----------
    page : str, Markdown
    names : variables for the page's Python; those it defines are added

    Returns
    -------
    the page, its console blocks filled with the output of their commands

    Raises
    ------
    RuntimeError
        A command failed; the message holds it and what it printed.
    """

    def take(step: re.Match[str]) -> str:
        kind, body, line = step["kind"], step["body"], step["line"]
        if kind == "python":
            exec(compile(body, "the page's Python", "exec"), names)
        elif kind == "console":
            return f"```console\n{''.join(map(answered, prompts(body)))}```"
        else:
            for command in commands_of(kind, body, line):
                run(command)
        return step[0]

    return STEP.sub(take, page)


def commands(page: str) -> list[str]:
    """Every command of a page, those of consoles too."""
    return [
        command for step in STEP.finditer(page) for command in commands_of(step["kind"], step["body"], step["line"])
    ]


def commands_of(kind: str | None, body: str | None, line: str | None) -> list[str]:
    """The commands of a step, without their comments."""
    if kind == "console":
        return prompts(body or "")
    whole = re.sub(r"\\\n\s*", "", body or "")  # a command over several lines
    lines = [line or ""] if kind is None else whole.splitlines() if kind == "sh" else []
    bare = [re.sub(r"(^|\s+)#\s.*$", "", text) for text in lines]
    return [text for text in bare if text.strip()]


def prompts(console: str) -> list[str]:
    """The commands of a console block: what follows a dollar."""
    return re.findall(r"^\$ (.*)$", console, re.MULTILINE)


def answered(command: str) -> str:
    """A command as a console shows it, and what it prints."""
    printed = "".join(f"{line.rstrip()}\n" for line in run(command).splitlines())
    return f"$ {command}\n{printed}"


def run(command: str) -> str:
    """Run a command to its end: → what it printed, errors too. Nothing, where it is among NOT_RUN."""
    if why_not(command):
        return ""
    plain = re.fullmatch(r"tip-adapter [^|;&$<>]*", command)
    status, printed = _ours(command) if plain else _any(command)
    if status:
        raise RuntimeError(f"{command}: {printed}")
    return printed


def why_not(command: str) -> str | None:
    """Why a command is not run, or None."""
    return next((reason for pattern, reason in NOT_RUN.items() if re.fullmatch(pattern, command)), None)


def _ours(command: str) -> tuple[int, str]:
    """In this process: starting one a command would take most of the time."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    status = 0
    with (
        mock.patch.object(sys, "argv", shlex.split(command)),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    printed.seek(0)
    return status, printed.read()


def _any(command: str) -> tuple[int, str]:
    """By a shell that finds this environment's programs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    asked = ["bash", "-c", command]
    done = subprocess.run(asked, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def render() -> None:
    """Write what the commands print into every page with a console, each followed in a folder of its own."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if "```console" in text:
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                page.write_text(follow(text, {}), encoding="utf-8")


if __name__ == "__main__":
    render()
