"""Renders docs/reference/datasets.md from the records: `python docs/render_datasets.py` writes the page."""

from __future__ import annotations

from pathlib import Path

from tip_adapter.paper.datasets.records import SPLITS_URL, DatasetRecord, dataset_records
from tip_adapter.paper.tables import markdown_table

PAGE = Path(__file__).parent / "reference" / "datasets.md"
INTRODUCTION = f"""# Data sets

The paper's eleven data sets and two targets, as `tip-adapter datasets` knows them. Rendered from their records by
`python docs/render_datasets.py`; a test renders it again and compares. Nothing is downloaded, nothing is moved: they are
read in place, in the layout that the few-shot literature uses. [How to lay them out](../how-to/datasets.md).
The split files are kept [there]({SPLITS_URL}).
"""
WHAT = """## What each holds

Photos and classes as the literature's splits count them; sizes are those of the published archives.
"""
WHERE = """## Where each lies

Below the data root (`--data-root`, or the environment variable `TIP_ADAPTER_DATA`). A list (`.json`, `.txt`) may be packed
as `.gz`. Photos lie below the last folder, as the list names them; where there is no list, in a folder for each class.
"""
GET = """## Where to get each
"""
SETTINGS = """## Templates, epochs, and the public code's search

The set of [templates](../../src/tip_adapter/encoders/templates.toml) that class names are put into, the epochs of
Tip-Adapter-F, and how the authors' public code searches: it starts from a pair and looks up to the two ends for a better
one. A target is classified with its source's cache.
"""


def render() -> str:
    """The page: four tables over the records."""
    records = dataset_records().values()
    header = ["data set", "name", "classes", "train", "val", "test", "size", "licence"]
    sections = [
        INTRODUCTION,
        WHAT,
        markdown_table(header, map(_what, records)),
        WHERE,
        markdown_table(["name", "folder", "lists", "photos under"], map(_where, records)),
        GET,
        markdown_table(["name", "where", "to know"], map(_get, records)),
        SETTINGS,
        markdown_table(
            ["name", "templates", "epochs", "from beta, alpha", "up to beta, alpha"], map(_settings, records)
        ),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _what(record: DatasetRecord) -> list[str]:
    counts = [f"{record.n_images[part]:,}" if part in record.n_images else "–" for part in ("train", "val", "test")]
    return [
        record.title,
        f"`{record.name}`",
        f"{record.n_classes:,}",
        *counts,
        f"{record.size_mib:,} MiB",
        record.licence,
    ]


def _where(record: DatasetRecord) -> list[str]:
    lists = [f"`{name}`" for name in record.files]
    under = {part: folder for part, folder in record.photos_under.items() if folder != "."}
    folders = [f"`{folder}`" for folder in dict.fromkeys([*under.values(), *record.holds])]
    return [f"`{record.name}`", f"`{record.folder}`", ", ".join(lists) or "–", ", ".join(folders) or "–"]


def _get(record: DatasetRecord) -> list[str]:
    notes = [*filter(None, [record.advice]), *(f"no longer at `{link}`" for link in record.dead_links)]
    return [f"`{record.name}`", f"<{record.url}>", "; ".join(notes)]


def _settings(record: DatasetRecord) -> list[str]:
    search = record.search
    if search is None:
        return [f"`{record.name}`", record.templates, f"those of `{record.source}`", "–", "–"]
    pairs = [f"{search.beta:g}, {search.alpha:g}", f"{search.beta_most:g}, {search.alpha_most:g}"]
    epochs = ", ".join(f"{n} {method}" for method, n in record.epochs.items())
    return [f"`{record.name}`", record.templates, epochs, *pairs]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
