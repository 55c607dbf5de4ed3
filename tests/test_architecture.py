"""The architecture: order of imports, size of the root, vocabulary, one home for each thing, and pages that list what exists."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import tokenize
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest

import tip_adapter
from tip_adapter.encoders.prompts import template_sets

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def test_packages_import_only_packages_below_them() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Module → the modules of this package that it imports, inside functions and for type checking too."""
    graph = grimp.build_graph("tip_adapter", cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def entry(module: str) -> str:
    """The package or module at the root of the package that a module belongs to: ``methods`` of ``tip_adapter.methods.ops``."""
    return module.split(".")[1] if "." in module else "__init__"


def test_the_root_has_at_most_eight_layers_and_no_cycle(imports: dict[str, set[str]]) -> None:
    below: dict[str, set[str]] = {}
    for module, imported in imports.items():
        below.setdefault(entry(module), set()).update(map(entry, imported))
    for name in below:
        below[name] -= {name, "__init__", "__main__"}  # the first only has names, the second only starts the program
    depth: dict[str, int] = {}
    for name in TopologicalSorter(below).static_order():  # CycleError names the cycle
        depth[name] = 1 + max((depth[other] for other in below[name]), default=0)
    assert max(depth.values()) <= 8, sorted(depth.items(), key=lambda item: item[1])


def test_no_two_modules_import_each_other_not_even_for_types(imports: dict[str, set[str]]) -> None:
    below = {module: imported - {"tip_adapter"} for module, imported in imports.items() if module != "tip_adapter"}
    TopologicalSorter(below).prepare()  # CycleError names the cycle


def test_only_the_command_line_imports_the_root_package(imports: dict[str, set[str]]) -> None:
    importing = {module for module, imported in imports.items() if "tip_adapter" in imported}
    assert {module for module in importing if entry(module) not in ("cli", "__main__")} == set()


def test_the_root_has_at_most_eleven_folders_and_twelve_files() -> None:
    inside = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    folders = sorted(path.name for path in inside if path.is_dir())
    files = sorted(path.name for path in inside if path.is_file())
    assert len(folders) <= 11, folders
    assert len(files) <= 12, files


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each name that a module binds by importing from this package → its dotted path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tip_adapter":
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            ours = (alias for alias in node.names if alias.name.partition(".")[0] == "tip_adapter")
            yield from ((alias.asname or alias.name, alias.name) for alias in ours)


@pytest.mark.parametrize("name", TREES)
def test_a_package_uses_no_private_name_of_another(name: str) -> None:
    home = name.partition("/")[0].removesuffix(".py")
    others = {bound: path for bound, path in imported_names(TREES[name]) if entry(path) != home}
    reached = {
        f"{ast.unparse(node.value)}.{node.attr}"
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute) and private(node.attr) and ast.unparse(node.value) in others
    }
    assert [path for path in others.values() if any(map(private, path.split(".")))] == []
    assert reached == set()


def test_imports_are_absolute() -> None:
    relative = [
        name
        for name, tree in TREES.items()
        if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
    ]
    assert relative == []


# ---- vocabulary ------------------------------------------------------------------------------------------------------

#: Words that earlier versions used for what the field has terms for → the term. In names of modules, classes, functions,
#: arguments and variables, as one of the words that a name is made of.
NOT_IN_NAMES = {
    "gate": "inputs",
    "stair": "accuracy curve",
    "stairs": "accuracy curve",
    "staircase": "accuracy curve",
    "shelf": "provider",
    "shelves": "providers",
    "material": "vectors",
    "standing": "readable",
    "held(?! out)": "locked, kept",
    "told": "reported",
    "tells": "varies",
    "bend": "adapter_forward",
    "bends": "adapter_forward",
    "bent": "adapter output",
    "teach": "add, incremental",
    "taught": "incremental",
    "teaching": "incremental",
    "tally": "accumulator",
    "bundle": "model folder",
    "workshop": "staging folder",
    "twin": "duplicate",
    "twins": "duplicates",
    "misfit": "ValidationError",
    "slopes": "gradients",
    "pull back": "backward",
    "kernels": "ops",
}

#: The same in texts: pages, docstrings, comments, messages. Only what has no ordinary meaning in such a text.
NOT_IN_TEXTS = {
    "gates?(?! arrays?)": "inputs, validation",
    "stairs?|staircases?": "piecewise constant accuracy",
    "shelf|shelves": "provider",
    "material": "vectors",
    "(?:is|are|be|was|were|been) told(?! (?:apart|from))": "is reported",
    "bends?|bent": "adapter",
    "teach|teaches|taught": "add, update",
    "tally": "accumulator",
    "bundles?": "model folder",
    "workshop": "staging folder",
    "twins?": "near-duplicates; labels that differ only by Unicode form or white space",
    "houses?|rooms": "package, layer",
    "nobody": "no one, or name who",
    "beside": "next to, in addition to",
    "at hand": "available",
    "for ever": "permanently",
    "stands? in|stands? beside": "is, is used instead",
    "named right": "correct",
    "the pair": "(alpha, beta)",
    "(?:taken )?at (?:its|their) word": "calibrated",
    "in the place of|in their place": "instead of",
}

WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def identifiers(tree: ast.AST) -> set[str]:
    """Every name that a module defines: its functions, classes, arguments, variables, attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def spelled(name: str) -> str:
    """A name as words: ``held out queries`` of HeldOutQueries, ``twin of`` of _twin_of."""
    return " ".join(WORDS.findall(name)).lower()


NAMES = {
    path: {spelled(name) for name in [*Path(path).with_suffix("").parts, *identifiers(tree)]}
    for path, tree in TREES.items()
}


@pytest.mark.parametrize(("word", "instead"), NOT_IN_NAMES.items())
def test_no_name_of_the_old_vocabulary_is_left(word: str, instead: str) -> None:
    found = {(path, name) for path, names in NAMES.items() for name in names if re.search(rf"\b(?:{word})\b", name)}
    assert found == set(), f"use: {instead}"


def texts_of(path: Path) -> str:
    """The strings, docstrings and comments of a module."""
    strings = (
        node.value for node in ast.walk(TREES[path.relative_to(PACKAGE).as_posix()]) if isinstance(node, ast.Constant)
    )
    with path.open("rb") as file:
        comments = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    return "\n".join([*(value for value in strings if isinstance(value, str)), *comments])


PROSE = {
    path.relative_to(ROOT).as_posix(): re.sub(r"\]\([^)]*\)", "]", path.read_text(encoding="utf-8"))
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if path.name != "LOG.md"  # experiments as they were written down
}
TEXTS = {**PROSE, **{path.relative_to(ROOT).as_posix(): texts_of(path) for path in SOURCES}}


@pytest.mark.parametrize(("words", "instead"), NOT_IN_TEXTS.items())
def test_no_text_uses_the_old_vocabulary(words: str, instead: str) -> None:
    pattern = re.compile(rf"(?<![\w/.-])(?:{words})(?![\w-])".replace(" ", r"\s+"), re.IGNORECASE)
    found = [
        f"{path}: … {' '.join(text[max(0, hit.start() - 40) : hit.end() + 40].split())} …"
        for path, text in TEXTS.items()
        for hit in pattern.finditer(text)
    ]
    assert found == [], f"write: {instead}"


# ---- documents -------------------------------------------------------------------------------------------------------


ARCHITECTURE = ROOT / "docs" / "explanation" / "architecture.md"


def documented_tree() -> dict[str, str]:
    """Path → its few words, from the block of the architecture page that starts with ``src/tip_adapter/``."""
    block = re.search(
        r"^```\w*\nsrc/tip_adapter/\n(.*?)^```", ARCHITECTURE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
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
    assert listed - real == set(), "listed, but does not exist"
    assert real - optional - listed == set(), "exists, but is not listed"


def test_the_page_of_the_architecture_has_the_layers_that_are_checked() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = config["tool"]["importlinter"]["contracts"]
    present = {path.stem for path in PACKAGE.iterdir()}
    layers = [re.findall(r"\w+", layer) for layer in contract["layers"]]
    shown = [" | ".join(name for name in layer if name in present) for layer in layers]
    assert "\n".join(["```text", *shown, "```"]) in ARCHITECTURE.read_text(encoding="utf-8")


def test_the_trees_are_current() -> None:
    for page, text in runpy.run_path(str(ROOT / "docs" / "render_tree.py"))["pages"]().items():
        assert page.read_text(encoding="utf-8") == text, "run: python docs/render_tree.py"


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


def test_the_page_of_faults_names_files_that_exist() -> None:
    assert [place for places in fault_rows().values() for place in places if not (ROOT / place).exists()] == []


def test_every_file_that_states_the_version_states_the_same() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    released, date = re.findall(
        r"^## \[([\d.]+)\] - ([\d-]+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )[0]
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [released] == [tip_adapter.__version__]
    assert re.findall(r"^date-released: (.*)$", citation, re.MULTILINE) == [date]


# ---- public names ----------------------------------------------------------------------------------------------------


def test_the_public_names_are_these() -> None:
    assert tip_adapter.__all__ == [
        "CLIPAdapterClassifier",
        "Choice",
        "ClassEmbeddings",
        "CoOpClassifier",
        "FewShotClassifier",
        "LinearProbeClassifier",
        "Prediction",
        "SupportSet",
        "TextOffsetClassifier",
        "TipAdapterCV",
        "TipAdapterClassifier",
        "TipAdapterError",
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
    assert ran == {("__main__.py", "exec('')")}  # empty, so that Python forgets an interruption
    assert files_that_call(r"^subprocess\.\w+$") == {"images/decoding_pool.py", "distributed/local.py"}


def test_torch_reads_tensors_only() -> None:
    loads = [ast.unparse(call) for tree in TREES.values() for called, call in calls(tree) if called == "torch.load"]
    assert loads
    assert all("weights_only=True" in load for load in loads)


#: The files that may import torch, inside functions: encoders that run on it, trainable towers, and what trains them.
WITH_TORCH = {
    "encoders/open_clip/learnable_towers.py",
    "encoders/pocket/torch_tower.py",
    "encoders/open_clip/towers.py",
    "encoders/toy_torch.py",
    "methods/coop.py",
    "paper/finetune.py",
}


def test_only_encoders_on_torch_and_training_through_towers_import_torch() -> None:
    importing = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [str(ast.literal_eval(node.args[0]))]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "require_extra"
            else []
        )
        if module.partition(".")[0] in ("torch", "torchvision", "timm", "open_clip")
    }
    assert importing == WITH_TORCH


def test_autograd_is_used_only_to_train_through_towers() -> None:
    assert files_that_call(r"autograd\.grad$") == {"methods/coop.py", "paper/finetune.py"}


# ---- what no file contains ------------------------------------------------------------------------------------------


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
