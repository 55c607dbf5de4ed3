"""What a person asks for, carried out: an experiment on what is here, its results, table and picture in a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tip_adapter.encoders import load_encoder
from tip_adapter.errors import FolderError, UnknownName, UsageError, printable
from tip_adapter.files import cache_folder, write_file
from tip_adapter.methods import METHODS, method_class
from tip_adapter.paper.datasets import dataset_record, dataset_records
from tip_adapter.paper.experiments import experiment, published, tasks
from tip_adapter.paper.figures import render_figure
from tip_adapter.paper.material import FileMaterial, PhotoStore
from tip_adapter.paper.protocols import PROTOCOLS
from tip_adapter.paper.results import read_results, recording
from tip_adapter.paper.runner import allowed_protocols, chooses, run
from tip_adapter.paper.splits import open_dataset
from tip_adapter.paper.tables import Published, marked, render_table
from tip_adapter.prompts import resolve_templates
from tip_adapter.sources import labelled_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tip_adapter.encoders import Encoder
    from tip_adapter.features import Progress
    from tip_adapter.paper.experiments import Experiment, Task
    from tip_adapter.paper.material import Material

#: More shots or a larger seed than this are slips.
_MOST_SHOTS, _LARGEST_SEED = 10_000, 2**32 - 1


@dataclass(frozen=True)
class Done:
    """What came of an order.

    Parameters
    ----------
    results : of the whole order, known and new
    n_measured : how many of them are new
    n_encoded : photos that went through the encoder
    table : the page, Markdown
    """

    results: list[dict[str, Any]]
    n_measured: int
    n_encoded: int
    table: str


@dataclass(eq=False)
class Order:
    """An experiment, and what it is to be measured on.

    Parameters
    ----------
    experiment : Experiment, restricted to what is wanted
    protocols : names; empty for the default ones
    vectors : a file of vectors or a folder of features in the place of photos, or None
    data_root : folder of the data sets, or None
    device, threads : as in `load_encoder`
    """

    experiment: Experiment
    protocols: tuple[str, ...]
    vectors: Path | None
    data_root: Path | None
    device: str | None
    threads: int | None
    _materials: dict[tuple[str, str], Material] = field(default_factory=dict)
    _encoders: dict[str, Encoder] = field(default_factory=dict)
    _stores: list[PhotoStore] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        name: str,
        *,
        encoder: str | None,
        datasets: str | None,
        shots: str | None,
        seeds: str | None,
        methods: str | None,
        protocols: str | None,
        vectors: Path | None,
        data_root: Path | None,
        device: str | None,
        threads: int | None,
    ) -> Self:
        """From words: lists are separated by commas, None leaves what the experiment has.

        Raises
        ------
        UnknownName
            There is no such experiment, data set, method or protocol; the nearest is suggested.
        UsageError
            Shots or seeds are no numbers in their bounds; neither photos nor vectors are named; a method is none of
            the experiment's.
        """
        chosen = experiment(name)
        wanted: dict[str, tuple[Any, ...]] = {}
        if vectors is not None:
            wanted |= {"encoders": (f"vectors:{vectors}",), "datasets": (vectors.stem,), "targets": ()}
        if encoder is not None and vectors is None:
            wanted["encoders"] = (encoder,)
        if datasets is not None and vectors is None:
            wanted |= {"datasets": tuple(dataset_record(part).name for part in _parts(datasets)), "targets": ()}
        if shots is not None:
            wanted["shots"] = _numbers(shots, "--shots", 1, _MOST_SHOTS)
        if seeds is not None:
            wanted["seeds"] = _numbers(seeds, "--seeds", 0, _LARGEST_SEED)
        if methods is not None:
            wanted["methods"] = _known(methods, "method", METHODS)
        asked = () if protocols is None else _known(protocols, "protocol", PROTOCOLS)
        if vectors is None and data_root is None:
            raise UsageError("name the folder of the data sets (--data-root, or TIP_ADAPTER_DATA), or --vectors FILE")
        restricted = chosen.restricted(wanted)
        if not restricted.blocks:
            raise UsageError(
                f"{chosen.name} has none of the methods {methods}; see `tip-adapter reproduce --list --json`"
            )
        return cls(restricted, asked, vectors, data_root, device, threads)

    def carry_out(self, place: Path, *, say: Callable[[str], None], progress: Progress | None) -> Done:
        """Measure what is not in the folder yet, and write table and picture.

        Parameters
        ----------
        place : folder: results.jsonl, NAME.md, NAME.png
        say : called with what is missing, in a sentence
        progress : called with (results done, results in all)

        Raises
        ------
        ResultsError
            results.jsonl cannot be read, or is of another version.
        NotWritable
            Another run writes there, or with the system's reason; what was measured stays.
        """
        wanted = list(tasks(self.experiment, self._protocols_for))
        lines = place / "results.jsonl"
        new: list[dict[str, Any]] = []
        with recording(lines) as append:
            known = read_results(lines)

            def record(result: dict[str, Any]) -> None:
                append(result)
                new.append(result)

            def counted_off(task: Task) -> Task:
                if progress:
                    progress(wanted.index(task), len(wanted))
                return task

            results = run(map(counted_off, wanted), known, lambda *key: self._material(wanted, *key), record, say)
        table = ""
        if results:
            table = self._render(place, marked(results))
        return Done(results, len(new), sum(store.n_encoded for store in self._stores), table)

    def _render(self, place: Path, results: list[dict[str, Any]]) -> str:
        chosen = self.experiment
        rows = tuple(row for row in published() if row["experiment"] == chosen.published)
        n_test = {name: record.n_photos.get("test", 0) for name, record in dataset_records().items()}
        table = render_table(chosen, results, Published(rows, n_test))
        write_file(place / f"{chosen.name}.md", table.encode())
        write_file(place / f"{chosen.name}.png", render_figure(chosen, results))
        return table

    def _protocols_for(self, method: str, dataset: str, keys: int) -> tuple[str, ...]:
        if self.protocols and chooses(method) and keys:
            return self.protocols
        return allowed_protocols(method, keys, has_validation=self._has_validation(dataset))

    def _has_validation(self, dataset: str) -> bool:
        if self.vectors is not None:
            try:
                return len(labelled_source(self.vectors, part="val")) > 0
            except FolderError:
                return False
        return "val" in dataset_record(dataset).n_photos

    def _material(self, wanted: list[Task], dataset: str, encoder: str) -> Material:
        """Opened when first asked for."""
        key = dataset, encoder
        if key not in self._materials:
            self._materials[key] = self._open(wanted, dataset, encoder)
        return self._materials[key]

    def _open(self, wanted: list[Task], dataset: str, encoder: str) -> Material:
        if self.vectors is not None:
            loaded = self._encoder(encoder)
            return FileMaterial(self.vectors, loaded).material(dataset, tuple(loaded.record.templates))
        record = dataset_record(dataset)
        if self.data_root is None:
            raise UsageError("name the folder of the data sets: --data-root")
        splits = open_dataset(record, self.data_root)
        loaded = self._encoder(encoder)
        draws = frozenset((t.shots, t.seed) for t in wanted if t.dataset == dataset and t.shots)
        store = PhotoStore(splits, loaded, cache_folder() / "vectors", draws, self.threads)
        self._stores.append(store)
        own = loaded.record.keeps_templates
        return store.material(tuple(loaded.record.templates) if own else resolve_templates((record.templates,)))

    def _encoder(self, name: str) -> Encoder:
        if name not in self._encoders:
            self._encoders[name] = load_encoder(name, device=self.device, threads=self.threads)
        return self._encoders[name]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _known(text: str, kind: str, known: Any) -> tuple[str, ...]:
    for part in _parts(text):
        if part not in known:
            if kind == "method":
                method_class(part)
            raise UnknownName.among(kind, part, known)
    return tuple(_parts(text))


def _numbers(text: str, option: str, least: int, most: int) -> tuple[int, ...]:
    """Whole numbers in a list.

    Raises
    ------
    UsageError
        One is none, or out of bounds; or there is none.
    """
    found = tuple(int(part) for part in _parts(text) if part.isdecimal())
    if not found or len(found) != len(_parts(text)) or not all(least <= number <= most for number in found):
        raise UsageError(
            f"{option} takes whole numbers from {least} to {most}, separated by commas, not {printable(text)}"
        )
    return tuple(dict.fromkeys(found))
