"""Renders the tree of the source into the architecture page and, two levels deep, into README: `python docs/render_tree.py`.

The words of a module or package are the first sentence of its docstring, those of a script of its first comment; those of
data files are in the table below.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tip_adapter"

#: Files and folders that have no docstring: path or ending → words.
DATA_FILES = {
    "cli/caltech101.json": "accuracies that the demo shows, rendered from docs/results/caltech101.json",
    "encoders/onnx/clips.toml": "CLIPs with a short name: where their files are, and what the files do not say",
    "encoders/pocket/imagenet_classnames.txt": "ImageNet's 1,000 class names",
    "encoders/templates.toml": "the paper's prompt templates",
    "paper/datasets/datasets.toml": "the data sets",
    "paper/experiments.toml": "the tables and figures",
    "paper/published.jsonl": "the paper's numbers",
    "py.typed": "marks the package as typed",
    "serve/page": "the page that opens at /: scripts without a build step, and its style",
    "serve/page/index.html": "names the scripts and the style sheet",
    "serve/page/page.css": "style sheet of the page",
    "serve/page/vendor": "libraries of the page, as they are published",
    "vendor/manifest.json": "versions, licences and digests of these libraries",
    "vendor/htm.mjs": "htm: elements from templates",
    "vendor/preact.mjs": "Preact: draws the page",
    ".LICENSE": "licence",
    ".svg": "icon",
    ".html.jinja": "template of an HTML page",
    ".md.jinja": "template of a Markdown page",
    ".css": "style sheet of the HTML pages",
}

#: Page → how many levels of the tree it shows.
LEVELS = {ROOT / "docs" / "explanation" / "architecture.md": 9, ROOT / "README.md": 1}
BLOCK = re.compile(r"(?<=^```text\nsrc/tip_adapter/\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)


def pages() -> dict[Path, str]:
    """Page → its text with the tree rendered again."""
    return {page: rendered(page.read_text(encoding="utf-8"), tree(levels)) for page, levels in LEVELS.items()}


def rendered(page: str, lines: str) -> str:
    """A page with these lines in its block of the tree."""
    return BLOCK.sub(lambda _: lines, page)


def tree(levels: int) -> str:
    """One line for each folder and file, in aligned columns."""
    lines = list(entries(PACKAGE, levels))
    width = max(len(name) for name, _ in lines) + 2
    return "".join(f"{name:{width}}{text}\n" for name, text in lines)


def entries(folder: Path, levels: int, indent: int = 2) -> Iterator[tuple[str, str]]:
    """Name, indented, and words: folders first, then files. An `__init__.py` speaks for its folder."""
    inside = [path for path in folder.iterdir() if path.name != "__pycache__"]
    for path in sorted(inside, key=lambda path: (path.is_file(), path.name)):
        if path.is_dir():
            package = path / "__init__.py"
            yield f"{'':{indent}}{path.name}/", words(package if package.exists() else path)
            if levels > 1:
                yield from entries(path, levels - 1, indent + 2)
        elif path.name != "__init__.py":
            yield f"{'':{indent}}{path.name}", words(path)


def words(path: Path) -> str:
    """The first sentence about a file, without its full stop."""
    if path.suffix == ".py":
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        paragraph = " ".join(docstring.partition("\n\n")[0].split())
        return re.split(r"\.(?:\s|$)", paragraph, maxsplit=1)[0].replace("`", "")
    if path.suffix == ".js":
        (comment,) = re.findall(r"\A((?:// .*\n)+)", path.read_text(encoding="utf-8"))
        return re.split(r"\.(?:\s|$)", " ".join(comment.replace("// ", "").split()), maxsplit=1)[0]
    name = path.relative_to(PACKAGE).as_posix()
    return next((text for ending, text in DATA_FILES.items() if name.endswith(ending)), "")


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
