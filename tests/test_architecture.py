"""The house keeps its rules: the order of imports, one of each thing, and documents that say what is there."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tip_adapter
from tip_adapter.encoders.prompts import template_sets

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tip_adapter"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """Every call with its dotted name as written: ``np.exp``, ``path.open``."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def files_that_call(pattern: str) -> set[str]:
    """Source files with a call whose dotted name matches."""
    return {name for name, tree in TREES.items() if any(re.search(pattern, called) for called, _ in calls(tree))}


# ---- the order of imports --------------------------------------------------------------------------------------------


def test_every_room_knows_only_the_rooms_below_it() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


# ---- documents -------------------------------------------------------------------------------------------------------


def documented_tree() -> dict[str, str]:
    """Path → its few words, from the block of the architecture page that starts with ``src/tip_adapter/``."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"^```\w*\nsrc/tip_adapter/\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert block, "architecture.md holds no block that starts with src/tip_adapter/"
    listed: dict[str, str] = {}
    above: list[str] = []
    for line in block[1].splitlines():
        indent = len(line) - len(line.lstrip())
        name, _, words = line.strip().partition("  ")
        assert indent % 2 == 0, f"not indented by twos: {line!r}"
        above = [*above[: indent // 2 - 1], name.rstrip("/")]
        listed["/".join(above)] = words.strip()
    return listed


def test_the_documented_tree_is_the_real_one() -> None:
    listed = set(documented_tree())
    real = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if "__pycache__" not in path.parts}
    optional = {name for name in real if name.endswith(("__init__.py", "__main__.py"))}
    assert listed - real == set(), "listed, but not there"
    assert real - optional - listed == set(), "there, but not listed"


def test_every_line_of_the_tree_has_a_few_words() -> None:
    assert [name for name, words in documented_tree().items() if not words] == []


@pytest.mark.parametrize("script", ["docs/render_commands.py", "docs/render_datasets.py"])
def test_a_rendered_page_is_current(script: str) -> None:
    page = runpy.run_path(str(ROOT / script))
    assert page["PAGE"].read_text(encoding="utf-8") == page["render"](), f"run: python {script}"


def fault_tests() -> set[int]:
    """The numbers that names of tests carry."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    names = [name for text in texts for name in re.findall(r"^\s*def (test_\w+)", text, re.MULTILINE)]
    return {int(number) for name in names for number in re.findall(r"fault_(\d+)", name)}


def fault_rows() -> dict[int, list[str]]:
    """Number → the files and folders that the page of faults names for it."""
    page = (ROOT / "docs" / "reference" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+)[ †]*\|.*\|(.*?)\|$", page, re.MULTILINE)
    return {int(number): re.findall(r"`([^`]+)`", where) for number, where in rows}


def test_every_fault_has_a_test_and_every_fault_test_a_fault() -> None:
    assert set(fault_rows()) == fault_tests()


def test_the_page_of_faults_names_files_that_are_there() -> None:
    assert [place for places in fault_rows().values() for place in places if not (ROOT / place).exists()] == []


# ---- public names ----------------------------------------------------------------------------------------------------


def test_the_public_names_are_these() -> None:
    assert tip_adapter.__all__ == [
        "CLIPAdapterClassifier",
        "Choice",
        "ClassEmbeddings",
        "CoOpClassifier",
        "FewShotClassifier",
        "LinearProbeClassifier",
        "SupportSet",
        "TipAdapterClassifier",
        "TipAdapterFClassifier",
        "ZeroShotClassifier",
        "choose_alpha_beta",
        "extract",
        "load_encoder",
    ]
    assert dir(tip_adapter) == sorted([*tip_adapter.__all__, "__version__"])


@pytest.mark.parametrize("name", tip_adapter.__all__)
def test_a_public_name_is_there_with_its_own_docstring(name: str) -> None:
    thing = getattr(tip_adapter, name)
    assert thing.__name__ == name
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}(")  # what a dataclass without one gets


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="frobnicate"):
        _ = tip_adapter.frobnicate


def test_everything_public_has_a_docstring() -> None:
    bare = [
        f"{name}: {getattr(node, 'name', 'the module')}"
        for name, tree in TREES.items()
        for node in [tree, *tree.body]
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and not getattr(node, "name", "").startswith("_")
        and not ast.get_docstring(node)
    ]
    assert bare == []


# ---- one of each -----------------------------------------------------------------------------------------------------


def test_one_place_writes_files() -> None:
    changes = r"(^|\.)(write_text|write_bytes|mkdir|makedirs|rmdir|unlink|rmtree|symlink_to|touch|save_file|tofile)$"
    system = r"^(os\.(rename|replace|remove|open|write)|shutil\.\w+|tempfile\.\w+|np\.save\w*)$"
    assert files_that_call(f"{changes}|{system}") == {"io/files.py"}


def test_nothing_else_opens_a_file_for_writing() -> None:
    opened = {
        name
        for name, tree in TREES.items()
        for called, node in calls(tree)
        if re.search(r"(^|\.)(open|fdopen)$", called)
        and any(
            isinstance(arg, ast.Constant)
            and isinstance(arg.value, str)
            and re.fullmatch(r"[rbt]*[wax+][rbtwax+]*", arg.value)
            for arg in [*node.args, *(keyword.value for keyword in node.keywords)]
        )
    }
    assert opened == {"io/files.py"}


def test_one_place_normalises_rows() -> None:
    # testing.py measures lengths to judge other people's encoders; it scales nothing.
    assert files_that_call(r"(linalg\.norm|vector_norm|normalize_rows|preprocessing\.normalize)$") <= {"testing.py"}
    assert files_that_call(r"(^|\.)sqrt$") >= {"vectors.py"}
    assert defined("^_?unit_rows$") == {"vectors.py"}


def defined(pattern: str) -> set[str]:
    """Source files that define a function whose name matches."""
    return {
        name
        for name, tree in TREES.items()
        if any(isinstance(node, ast.FunctionDef) and re.search(pattern, node.name) for node in ast.walk(tree))
    }


def test_one_place_holds_softmax_and_one_the_cache() -> None:
    assert defined("^_?softmax$") == {"vectors.py"}
    assert defined("affinity|cache_logits|sum_by_class") == {"methods/ops.py", "methods/tip_adapter.py"}


def test_one_place_holds_the_templates() -> None:
    sentences = {text for texts in template_sets().values() for text in texts if text != "{}"}
    holders = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".toml", ".json", ".txt")
        if any(sentence in path.read_text(encoding="utf-8") for sentence in sentences)
    }
    assert holders == {"encoders/templates.toml"}


def test_one_place_holds_a_training_loop() -> None:
    loops = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.For, ast.While)) and "epoch" in ast.unparse(node).split("\n")[0]
    }
    assert loops == {"methods/training.py"}


def test_nothing_that_is_read_can_run() -> None:
    runs = r"^(eval|exec|compile|__import__|os\.system|os\.popen)$"
    reads = r"^(pickle\.loads?|joblib\.load|yaml\.load|marshal\.loads?|np\.load|numpy\.load|shelve\.open)$"
    ran = {
        (name, ast.unparse(call))
        for name, tree in TREES.items()
        for called, call in calls(tree)
        if re.search(f"{runs}|{reads}", called)
    }
    assert ran == {("__main__.py", "exec('')")}  # of nothing, so that Python forgets an interruption
    assert files_that_call(r"^subprocess\.\w+$") == {"images/decoding_process.py"}


def test_torch_reads_tensors_only() -> None:
    loads = [ast.unparse(call) for tree in TREES.values() for called, call in calls(tree) if called == "torch.load"]
    assert loads
    assert all("weights_only=True" in load for load in loads)


#: The files that may import torch, when they are asked for: encoders on it, towers to learn through, and what learns.
WITH_TORCH = {
    "encoders/open_clip/learnable_towers.py",
    "encoders/pocket/torch_tower.py",
    "encoders/open_clip/towers.py",
    "encoders/toy_torch.py",
    "methods/coop.py",
    "paper/finetune.py",
}


def test_only_what_runs_or_learns_through_towers_imports_torch() -> None:
    importing = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if module.partition(".")[0] in ("torch", "torchvision", "timm", "open_clip")
    }
    assert importing == WITH_TORCH


def test_gradients_by_torch_are_asked_for_where_towers_are_learned_through() -> None:
    assert files_that_call(r"autograd\.grad$") == {"methods/coop.py", "paper/finetune.py"}


# ---- what stands in no file ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """Path → text of every file of ours that git tracks or would."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git here: this is no checkout")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    texts = {}
    for name in filter(None, names):
        if (ROOT / name).is_file():
            texts[name] = (ROOT / name).read_bytes().decode("utf-8", "replace")
    return texts


@pytest.mark.parametrize("folder", ["work", "root", "home", "Users"])
def test_no_file_names_a_place_on_somebodys_machine(tracked: dict[str, str], folder: str) -> None:
    place = re.compile(rf"(?<![\w.*/]){re.escape('/' + folder + '/')}\w")
    assert [name for name, text in tracked.items() if place.search(text)] == []


def test_no_file_names_a_registry_but_torchs_own(tracked: dict[str, str]) -> None:
    registry = re.compile(r"https?://[^\s'\"]*(?:/simple\b|pythonhosted|/whl\b)[^\s'\"]*|index-url[ =]+[\"']?(\S+)")
    named = {(name, match[0]) for name, text in tracked.items() for match in registry.finditer(text)}
    allowed = "https://download.pytorch.org/whl/cpu"
    ours = Path(__file__).relative_to(ROOT).as_posix()
    assert {pair for pair in named if allowed not in pair[1] and pair[0] != ours} == set()
