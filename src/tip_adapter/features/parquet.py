"""A Parquet file of vectors as named arrays (extra `features`)."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tip_adapter.features.arrow import read_columns, vector_blocks
from tip_adapter.features.named import MOST_ROWS, MOST_WIDTH, ArrayFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

#: The part of a row that is a class: its id is the name, its label the label, its vector the class embedding.
_CLASS = "class"


class ParquetFile(ArrayFile):
    """A Parquet file of columns id, label, part and vector; a row whose part is ``class`` is a class."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.path = path
        self._file = file
        columns, kept = read_columns(file, ("id", "label", "part"), MOST_ROWS)
        parts = columns.get("part", [])
        self._is_class = np.array([part == _CLASS for part in parts], bool)
        self._arrays = _parquet_arrays(columns, kept, self._is_class)
        self.names = [*self._arrays, "vectors"]
        if self._is_class.any():
            self.names.append("class_embeddings")

    def array(self, name: str) -> NDArray[Any]:
        """A column without the rows that are classes; or of these, what is called class_…."""
        if name == "class_embeddings":
            return np.concatenate([block[chosen] for block, chosen in self._chosen(of_classes=True)])
        if name not in self._arrays:
            raise ValueError(f"it holds no column {name.removesuffix('s')}")
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, int]:
        """Photos, and width of the first vector."""
        first = next(iter(vector_blocks(self._file, "vector")), np.zeros((0, 1), np.float32))
        if not 0 < first.shape[1] <= MOST_WIDTH:
            raise ValueError(f"its vectors have width {first.shape[1]}, not one from 1 to {MOST_WIDTH}")
        return len(self._arrays["ids"]), first.shape[1]

    def blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """Vectors of photos in (m, d) blocks."""
        for block, chosen in self._chosen(of_classes=False):
            yield block[chosen]

    def _chosen(self, *, of_classes: bool) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
        """Blocks, and which of their rows are classes, or photos."""
        start = 0
        for block in vector_blocks(self._file, "vector"):
            here = self._is_class[start : start + len(block)] if len(self._is_class) else np.zeros(len(block), bool)
            yield block, here if of_classes else ~here
            start += len(block)


def _parquet_arrays(
    columns: Mapping[str, list[Any]], kept: Mapping[str, str], is_class: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """Columns as the arrays that they would be in an archive."""
    if "id" not in columns:
        raise ValueError("it has no column id; a file of vectors has id, label and vector")
    is_class = is_class if len(is_class) else np.zeros(len(columns["id"]), bool)
    arrays = {}
    for plural, name in [("ids", "id"), ("labels", "label"), ("part", "part")]:
        if name in columns:
            texts = [value for value, skip in zip(columns[name], is_class, strict=True) if not skip]
            if any(text is None for text in texts):
                raise ValueError(f"column {name} has rows without a value")
            arrays[plural] = np.array(texts, dtype=np.str_ if not texts or isinstance(texts[0], str) else None)
    if is_class.any():
        for plural, name in [("class_names", "id"), ("class_labels", "label")]:
            arrays[plural] = np.array([v for v, keep in zip(columns[name], is_class, strict=True) if keep], np.str_)
    if "logit_scale" in kept:
        arrays["logit_scale"] = np.array(float(kept["logit_scale"]))
    if "encoder" in kept:
        arrays["encoder"] = np.array(kept["encoder"])
    return arrays
