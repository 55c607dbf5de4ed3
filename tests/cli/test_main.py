"""What holds for the program as a whole: help, versions, usage errors, pipes, signals, colours."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tip_adapter
from tip_adapter.cli import COMMANDS
from tip_adapter.io import files

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ran

PROGRAM = (sys.executable, "-m", "tip_adapter")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d(?:;\d+)*m")


def test_help_lists_every_command_with_a_line(run: Callable[..., Ran]) -> None:
    ran = run("--help")
    assert ran.status == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", ran.out, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_the_options_that_are_everywhere(run: Callable[..., Ran], command: str) -> None:
    ran = run(command, "--help")
    assert (ran.status, ran.err) == (0, "")
    for option in ("--device", "--threads", "--quiet", "--version"):
        assert option in ran.out


@pytest.mark.parametrize("command", ["demo", "evaluate", "info", "encoders", "datasets", "predict"])
def test_every_command_that_answers_takes_json(run: Callable[..., Ran], command: str) -> None:
    assert "--json" in run(command, "--help").out


def test_no_command_shows_the_help_as_a_usage_error(run: Callable[..., Ran]) -> None:
    ran = run()
    assert ran.status == 2
    assert "Commands:" in ran.out + ran.err


def test_an_unknown_command_is_a_usage_error_that_names_it(run: Callable[..., Ran]) -> None:
    ran = run("frobnicate")
    assert (ran.status, ran.out) == (2, "")
    assert "frobnicate" in ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_a_usage_error_that_names_it(run: Callable[..., Ran], command: str) -> None:
    ran = run(command, "--frobnicate")
    assert (ran.status, ran.out) == (2, "")
    assert "--frobnicate" in ran.err


@pytest.mark.parametrize("command", ["fit", "predict", "evaluate", "info"])
def test_a_missing_argument_is_a_usage_error(run: Callable[..., Ran], command: str) -> None:
    ran = run(command)
    assert (ran.status, ran.out) == (2, "")
    assert re.fullmatch(rf"error: missing [A-Z_]+; for example: tip-adapter {command} .+\n", ran.err)


@pytest.mark.parametrize("args", [["--version"], *([command, "--version"] for command in COMMANDS)])
def test_version_is_shown_before_and_after_every_command(run: Callable[..., Ran], args: list[str]) -> None:
    assert run(*args) == (0, f"tip-adapter {tip_adapter.__version__}\n", "")


@pytest.mark.parametrize("threads", ["0", "-1", "many"])
def test_threads_is_a_positive_number(run: Callable[..., Ran], model: Path, threads: str) -> None:
    for args in (["--threads", threads, "info", model], ["info", model, "--threads", threads]):
        ran = run(*args)
        assert (ran.status, ran.out) == (2, "")
        assert "--threads" in ran.err


def test_options_before_the_command_are_the_commands_own(run: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    before = run("--device", "cuda", "fit", train, "--out", tmp_path / "a")
    after = run("fit", train, "--out", tmp_path / "a", "--device", "cuda")
    assert before == after
    assert before.status == 2


def test_the_module_and_the_installed_program_are_the_same() -> None:
    installed = subprocess.run([Path(sys.executable).with_name("tip-adapter"), "--help"], capture_output=True)
    module = subprocess.run([*PROGRAM, "--help"], capture_output=True)
    assert (installed.returncode, installed.stdout) == (module.returncode, module.stdout)
    assert module.stdout.startswith(b"Usage: tip-adapter ")


def test_show_completion_prints_a_script_for_the_shell(program: Callable[..., Ran]) -> None:
    ran = program("--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert (ran.status, ran.err) == (0, "")
    assert "_TIP_ADAPTER_COMPLETE=complete_bash" in ran.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tip-adapter pre", {"predict"}),
        pytest.param("tip-adapter e", {"evaluate", "encoders", "export", "extract"}, marks=pytest.mark.slow),
        ("tip-adapter fit --me", {"--method"}),
    ],
)
def test_completion_knows_commands_and_their_options(
    program: Callable[..., Ran], words: str, expected: set[str]
) -> None:
    env = {"_TIP_ADAPTER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert set(program(env=env).out.split()) == expected


# ---- pipes and signals -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["predict", "MODEL", "PHOTOS"],
        ["predict", "MODEL", "PHOTOS", "--json"],
        ["predict", "MODEL", "PHOTOS", "--csv"],
        ["evaluate", "MODEL", "PHOTOS"],
        ["evaluate", "MODEL", "PHOTOS", "--json"],
        ["info", "MODEL"],
        ["info", "MODEL", "--json"],
        ["encoders"],
        ["encoders", "--json"],
        ["doctor"],
        ["fit", "PHOTOS", "--out", "OUT", "--encoder", "toy"],
    ],
    ids=" ".join,
)
def test_a_pipe_that_is_closed_at_once_is_quiet(args: list[str], model: Path, unseen: Path, tmp_path: Path) -> None:
    places = {"MODEL": model, "PHOTOS": unseen, "OUT": tmp_path / "out"}
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [*PROGRAM, *(places.get(arg, arg) for arg in args)], stdout=write_end, stderr=subprocess.PIPE
        )
    finally:
        os.close(write_end)
    assert done.stderr == b""


@pytest.mark.slow
def test_a_pipe_that_is_closed_after_a_line_is_quiet(model: Path, unseen: Path, tmp_path: Path) -> None:
    paths = tmp_path / "paths.txt"
    paths.write_text(f"{unseen / 'red' / '100.png'}\n" * 1000)
    with (
        paths.open("rb") as stdin,
        subprocess.Popen(
            [*PROGRAM, "predict", model, "-"], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        assert b": red " in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.slow
def test_ctrl_c_while_photos_are_read_is_130_and_leaves_nothing(train: Path, tmp_path: Path) -> None:
    photo = train / "red" / "0.png"
    long = tmp_path / "long.csv"  # too long to finish before the signal
    long.write_text("file_name,label\n" + f"{photo},red\n" * 100_000)
    with subprocess.Popen(
        [*PROGRAM, "fit", long, "--out", tmp_path / "out", "--encoder", "toy", "--shots", "200000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that runs the tests in the background lets its programs ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr.readline().startswith(b"note: ")  # said before the first photo is read
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.csv", "train"]


#: A module that Python imports first: Ctrl-C while some library makes code from text, as dataclasses do.
_CTRL_C_IN_AN_IMPORT = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "tip_adapter.cli.encoders":
            exec("os.kill(os.getpid(), signal.SIGINT)\\nfor _ in range(9): pass")

sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def test_ctrl_c_while_a_library_runs_code_that_it_made_from_text_is_130(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_CTRL_C_IN_AN_IMPORT)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([*PROGRAM, "encoders"], capture_output=True, env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_ctrl_c_while_a_model_is_written_keeps_the_old_one_whole(
    run: Callable[..., Ran], train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    fit = ("fit", train, "--out", tmp_path / "model", "--encoder", "toy", "--force")
    run(*fit)
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    written = []
    write = files._write_synced

    def interrupted(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == nth:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(files, "_write_synced", interrupted)
    ran = run(*fit, "--method", "zero-shot")
    assert (ran.status, ran.out) == (130, "")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "train"]


# ---- terminals and encodings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [["evaluate", "MODEL", "PHOTOS"], ["info", "MODEL"], ["encoders"], ["predict", "MODEL", "PHOTOS"]],
    ids=" ".join,
)
def test_what_is_no_terminal_gets_no_escape_codes(
    run: Callable[..., Ran], model: Path, unseen: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    ran = run(*({"MODEL": model, "PHOTOS": unseen}.get(arg, arg) for arg in args))
    assert ran.status == 0
    assert "\x1b" not in ran.out + ran.err


def _on_a_terminal(args: list[object], env: dict[str, str]) -> tuple[int, str]:
    """Run the program with both outputs on one terminal; its status and all that it wrote."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *args], stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm-256color"} | env
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    return process.wait(), written.decode()


@pytest.mark.slow
def test_no_color_is_respected_on_a_terminal(train: Path, tmp_path: Path) -> None:
    fit = ["fit", train, "--encoder", "toy", "--out"]
    status, coloured = _on_a_terminal([*fit, tmp_path / "a"], {})
    assert status == 0
    assert COLOUR.search(coloured), "there is a progress bar, and it has colours"
    status, plain = _on_a_terminal([*fit, tmp_path / "b"], {"NO_COLOR": "1"})
    assert status == 0
    assert not COLOUR.search(plain)


@pytest.mark.slow
def test_quiet_shows_no_progress_on_a_terminal(train: Path, tmp_path: Path) -> None:
    status, written = _on_a_terminal(["fit", train, "--encoder", "toy", "--out", tmp_path / "a", "--quiet"], {})
    assert status == 0
    assert "\x1b" not in written


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ["info", "MODEL"],
        ["info", "MODEL", "--json"],
        ["predict", "MODEL", "PHOTOS"],
        ["predict", "MODEL", "PHOTOS", "--json"],
        ["predict", "MODEL", "PHOTOS", "--csv"],
        ["evaluate", "MODEL", "PHOTOS"],
    ],
    ids=" ".join,
)
def test_an_output_that_knows_ascii_only_gets_all_the_same(
    program: Callable[..., Ran],
    run: Callable[..., Ran],
    make_photos: Callable[..., Path],
    tmp_path: Path,
    args: list[str],
) -> None:
    photos = make_photos("photos", 猫=2, red=2)
    run("fit", photos, "--out", tmp_path / "model", "--encoder", "toy")
    places = {"MODEL": tmp_path / "model", "PHOTOS": photos}
    ran = program(*(places.get(arg, arg) for arg in args), env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert ran.status == 0
    assert "Traceback" not in ran.err
    if "--json" in args:
        assert "猫" in json.dumps([json.loads(line) for line in ran.out.splitlines()], ensure_ascii=False)


# ---- paths that cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["fit", "LONG", "--out", "out", "--encoder", "toy"],
        ["fit", "TRAIN", "--out", "LONG", "--encoder", "toy"],
        ["fit", "TRAIN", "--out", "out", "--encoder", "toy", "--tune", "LONG"],
        ["predict", "LONG", "TRAIN"],
        ["predict", "MODEL", "LONG"],
        ["evaluate", "MODEL", "LONG"],
        ["info", "LONG"],
        ["demo", "LONG"],
    ],
    ids=" ".join,
)
def test_fault_16_a_path_that_is_too_long_is_a_failure_with_a_sentence(
    run: Callable[..., Ran],
    model: Path,
    train: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"LONG": "n" * 4096, "TRAIN": train, "MODEL": model}
    ran = run(*(places.get(arg, arg) for arg in args))
    usage = "--tune" in args  # it is neither a rule nor a place
    assert (ran.status, ran.out) == (2 if usage else 1, "")
    assert ran.err.startswith("error: ")


# ---- closed streams --------------------------------------------------------------------------------------------------


def _closed(redirections: str, *args: object) -> subprocess.CompletedProcess[str]:
    """What the program leaves when a shell closes some of its streams."""
    words = shlex.join(map(str, [*PROGRAM, *args]))
    return subprocess.run(
        ["sh", "-c", f"{words} {redirections}"], capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_costs_nothing_but_what_it_would_have_said(closed: str, train: Path, tmp_path: Path) -> None:
    (train / "red" / "broken.png").write_bytes(b"broken")
    done = _closed(closed, "fit", train, "--out", tmp_path / "model", "--encoder", "toy")
    assert done.returncode == 0
    assert ("Saved to" in done.stdout, "left out" in done.stderr) == (
        ">" not in closed.replace("2>", ""),
        "2>" not in closed,
    )
    assert json.loads(_closed("", "info", tmp_path / "model", "--json").stdout)["n_images"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_does_not_change_a_failures_status(closed: str, tmp_path: Path) -> None:
    assert _closed(closed, "info", tmp_path / "nothing").returncode == 1
    assert _closed(closed, "fit").returncode == 2


@pytest.mark.slow
def test_a_closed_stdin_is_an_empty_one(model: Path) -> None:
    done = _closed("<&-", "predict", model, "-")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: stdin contains no paths\n")
