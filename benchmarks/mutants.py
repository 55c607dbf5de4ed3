"""How many small changes of the code the tests notice: mutmut changes one expression, and a test of that module must fail.

    python -m benchmarks.mutants [MODULE ...]

MODULE is one of mutants.toml, such as `metrics`, or `named`: the changes chosen by hand. Without any, all of them; the
results of others are kept. mutmut runs only the tests that call the changed function, each mutant in a process of its own,
in a copy of the working tree.
"""

from __future__ import annotations

import ast
import datetime
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutmut.mutation.file_mutation import mutate_file_contents

from benchmarks.record import ROOT, write_results
from benchmarks.render import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLAN: dict[str, Any] = tomllib.loads((Path(__file__).parent / "mutants.toml").read_text(encoding="utf-8"))
#: Mutants drawn in each module.
N_DRAWN = 20
SEED = 0
NAMED = "named"
_PYTEST = ["-m", "not data and not slow", "-p", "no:cacheprovider"]
_SKIPPED = (".git", ".venv", "site", "__pycache__", ".*_cache", ".hypothesis")


def main() -> None:
    chosen = sys.argv[1:] or [*PLAN["modules"], NAMED]
    tried = {module: tested(module) for module in chosen if module != NAMED}
    by_hand = [named(change) for change in PLAN["named"]] if NAMED in chosen else None
    earlier = read("mutants")
    rows = {row["module"]: row for row in earlier["rows"]} | tried
    results = {
        "rows": [with_reasons(rows[module]) for module in PLAN["modules"] if module in rows],
        "named": earlier["named"] if by_hand is None else by_hand,
    }
    write_results("mutants", "python -m benchmarks.mutants", results)


def tested(module: str) -> dict[str, Any]:
    """Mutants of a module drawn by the seed: how many its tests notice, and the others as lines before and after."""
    source = f"src/tip_adapter/{module}.py"
    known = sorted(mutants(source).items())
    drawn = dict(random.Random(SEED).sample(known, min(N_DRAWN, len(known))))
    with copied_tree() as tree:
        write_settings(tree, source, PLAN["modules"][module])
        run_mutmut(tree, "run", "--max-children", str(os.cpu_count() or 1), *drawn)
        lines = run_mutmut(tree, "results", "--all", "true").splitlines()
    found = dict(line.strip().split(": ", 1) for line in lines if ": " in line)
    survivors = [drawn[name] for name in drawn if found[name] not in ("killed", "timeout")]
    date = datetime.date.today().isoformat()
    return {"module": module, "n": len(drawn), "n_known": len(known), "date": date, "survivors": survivors}


def named(change: dict[str, Any]) -> dict[str, Any]:
    """A change that no mutation makes, and whether its tests notice it."""
    with copied_tree() as tree:
        path = tree / "src" / "tip_adapter" / change["file"]
        code = path.read_text(encoding="utf-8")
        if code.count(change["before"]) != 1:
            raise ValueError(f"{change['file']} does not hold this once, update mutants.toml: {change['before']}")
        path.write_text(code.replace(change["before"], change["after"]), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-qx", *_PYTEST, *change["tests"]]
        done = subprocess.run(command, cwd=tree, env=environment(tree / "src"), stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the tests of {change['name']!r} did not run")
    return {"name": change["name"], "file": change["file"], "noticed": done.returncode == 1}


def mutants(source: str) -> dict[str, dict[str, str]]:
    """Mutmut's mutants of a file that change what is computed, name → lines before and after.

    Left out are those that only change the text of a literal, put None for a value or drop an argument: three quarters of
    all, and most of these raise an error at once.
    """
    mutated = mutate_file_contents(source, (ROOT / source).read_text(encoding="utf-8"))
    functions = {node.name: node for node in ast.walk(ast.parse(mutated.code)) if isinstance(node, ast.FunctionDef)}
    package = source.removeprefix("src/").removesuffix(".py").replace("/", ".")
    found = {}
    for name in mutated.mutant_names:
        original, mutant = functions[f"{name.rpartition('__mutmut_')[0]}__mutmut_orig"], functions[name]
        if without_texts(original) != without_texts(mutant) and values(original) == values(mutant):
            found[f"{package}.{name}"] = {"module": package, **changed_lines(original, mutant)}
    return found


def without_texts(function: ast.FunctionDef) -> str:
    """The body of a function with the same text in all literals."""
    copy = ast.parse("\n".join(map(ast.unparse, function.body)))
    for node in ast.walk(copy):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(copy)


def values(function: ast.FunctionDef) -> tuple[int, int]:
    """How many arguments are passed in a function, and how often None is written."""
    nodes = list(ast.walk(function))
    n_arguments = sum(len(node.args) + len(node.keywords) for node in nodes if isinstance(node, ast.Call))
    return n_arguments, sum(isinstance(node, ast.Constant) and node.value is None for node in nodes)


def changed_lines(original: ast.FunctionDef, mutant: ast.FunctionDef) -> dict[str, str]:
    """The lines before and after the change, as Python unparses a function: without comments."""
    before, after = ([ast.unparse(line) for line in function.body] for function in (original, mutant))
    lines = list(difflib.ndiff("\n".join(before).splitlines(), "\n".join(after).splitlines()))
    return {
        when: "\n".join(line[2:].strip() for line in lines if line[0] == sign)
        for when, sign in [("before", "-"), ("after", "+")]
    }


def with_reasons(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a module; its survivors with the reason of mutants.toml why no test can notice them, or None."""
    keys = ("module", "before", "after")
    reasons = {tuple(known[key] for key in keys): known["reason"] for known in PLAN["equivalent"]}
    survivors = [{**change, "reason": reasons.get(tuple(change[key] for key in keys))} for change in row["survivors"]]
    return {**row, "survivors": survivors}


@contextmanager
def copied_tree() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        Path(folder).chmod(0o755)  # some tests become another user
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*_SKIPPED))
        yield tree


def write_settings(tree: Path, source: str, tests: Sequence[str]) -> None:
    copied = sorted({path.name for path in tree.iterdir()} - {"src", "tests", "pyproject.toml"})
    settings = {
        "source_paths": ["src"],
        "only_mutate": [source],
        "also_copy": copied,
        "pytest_add_cli_args": _PYTEST,
        "pytest_add_cli_args_test_selection": list(tests),
    }
    lines = ["\n[tool.mutmut]", *(f"{name} = {value!r}" for name, value in settings.items())]
    (tree / "mutants" / "src").mkdir(
        parents=True
    )  # Python does not look again in a folder that was missing at its start
    with (tree / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def run_mutmut(tree: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(
        command, cwd=tree, env=environment(tree / "mutants" / "src"), stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise RuntimeError(f"mutmut {arguments[0]} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def environment(source: Path) -> dict[str, str]:
    """The variables of a process that imports the package from there, as the programs that it starts do."""
    paths = [str(source), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    main()
