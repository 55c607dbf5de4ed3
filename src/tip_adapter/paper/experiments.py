"""The paper's tables and figures as records, and what has to be measured for one of them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING, Any

import msgspec

from tip_adapter.errors import UsageError
from tip_adapter.methods import method_class
from tip_adapter.paper.datasets.records import dataset_records
from tip_adapter.paper.draws import NESTED
from tip_adapter.plugins import unknown_name
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Names that stand for others.
ALIASES = {"table2": "figure4"}
#: What identifies a task, and its result.
AXES = ("experiment", "dataset", "target", "encoder", "method", "shots", "seed", "draws", "protocol", "variant")


@dataclass(frozen=True)
class Block:
    """A product of lists, part of an experiment.

    Parameters
    ----------
    datasets : data sets that the support comes from
    targets : data sets that are tested on, in addition to or instead of the support's own; empty for that alone
    encoders, methods, protocols : names; no protocols for those that a method and a data set allow
    shots, seeds : int
    variants : name → settings of the method that it changes
    shown_classes : of how many classes, the first ones, the keys are shown in the plane; None for no such picture
    """

    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    methods: tuple[str, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    targets: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})
    shown_classes: int | None = None


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the paper.

    Parameters
    ----------
    name, title : str; the name as it was asked for, which may be an alias
    published : the experiment under which the published numbers stand
    rows : the axis that a line of the table stands for
    columns : an axis, or the fields to show
    picture : ``curves``, ``bars`` or ``scatter``
    blocks : what is measured
    notes : what a reader should know
    protocols : by which a person wants it, where a block names none; empty for those that a method and a data set allow
    draws : how images are drawn, a key of `DRAWS`
    """

    name: str
    title: str
    published: str
    rows: str
    columns: str | tuple[str, ...]
    picture: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    draws: str = NESTED

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that a line of the table shows: one each column, or accuracy over an axis."""
        return ("accuracy",) if isinstance(self.columns, str) else self.columns

    @property
    def shots_and_seeds(self) -> frozenset[tuple[int, int]]:
        """(shots, seed) of every draw of photos."""
        return frozenset(draw for block in self.blocks for draw in product(block.shots, block.seeds))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of its blocks, each once."""
        return tuple(dict.fromkeys(method for block in self.blocks for method in block.methods))

    def restricted(self, wanted: Mapping[str, tuple[Any, ...]]) -> Experiment:
        """The experiment with other values on some axes: axis → values.

        The paper's methods only where a block has them; all others wherever a block compares methods as they are.

        Raises
        ------
        UsageError
            No block takes one of the methods.
        """
        others: dict[str, Any] = {axis: wanted[axis] for axis in wanted if axis not in ("methods", "protocols")}
        blocks = []
        for block in self.blocks:
            added = [m for m in wanted.get("methods", ()) if m not in papers_methods() and not any(block.variants)]
            methods = tuple(m for m in (*block.methods, *added) if m in wanted.get("methods", block.methods))
            if methods:
                blocks.append(replace(block, methods=methods, **others))
        restricted = replace(self, blocks=tuple(blocks), protocols=wanted.get("protocols", self.protocols))
        if refused := [method for method in wanted.get("methods", ()) if method not in restricted.methods]:
            compares = any(not any(block.variants) for block in self.blocks)
            raise UsageError(
                f"{self.name} has none of the methods {', '.join(map(printable, refused))}; it has {', '.join(self.methods)}"
                f"{', and takes those that the paper does not compare' if compares else ''}"
            )
        return restricted


@dataclass(frozen=True)
class Task:
    """One result to be measured; the fields of a result's line, and the settings of its variant."""

    experiment: str
    dataset: str
    target: str
    encoder: str
    method: str
    shots: int
    seed: int
    draws: str
    protocol: str
    variant: str
    settings: Mapping[str, Any] = field(compare=False)
    shown_classes: int | None = None

    def axes(self) -> dict[str, Any]:
        """What the line of its result begins with."""
        return {axis: getattr(self, axis) for axis in AXES}


@cache
def experiments() -> dict[str, Experiment]:
    """Name → experiment, in the order of the paper."""
    known = {}
    for name, table in _tables().items():
        if name not in ("defaults", "encoders"):
            # A block has the axes of its own, then those of its experiment, then the defaults.
            blocks = [{**_tables()["defaults"], **table, **block} for block in table["blocks"]]
            known[name] = msgspec.convert({"name": name, "published": name, **table, "blocks": blocks}, Experiment)
    return known


def papers_methods() -> frozenset[str]:
    """The methods that the paper compares."""
    return frozenset(method for known in experiments().values() for method in known.methods)


def papers_encoder(name: str) -> str | None:
    """What the paper calls an encoder of ours; None for one that it does not have."""
    return next((theirs for theirs, ours in _tables()["encoders"].items() if name in ours), None)


def experiment(name: str) -> Experiment:
    """The experiment of that name, or that it stands for; it keeps the name that was asked for.

    Raises
    ------
    UnknownName
        With the nearest known name.
    """
    known, own = experiments(), ALIASES.get(name, name)
    if own not in known:
        raise unknown_name("experiment", name, [*known, *ALIASES])
    return replace(known[own], name=name)


@cache
def published() -> tuple[dict[str, Any], ...]:
    """The paper's numbers, one record each, accuracies in percent; fields as a result's, and `experiment`."""
    return tuple(json.loads(line) for line in _data("published.jsonl").splitlines())


def tasks(chosen: Experiment, protocols_for: Callable[[str, str, int], tuple[str, ...]]) -> Iterator[Task]:
    """What has to be measured, in an order that asks for each encoder and data set in one piece.

    Parameters
    ----------
    chosen : Experiment
    protocols_for : (method, data set, keys a class) → protocols, where a block names none
    """
    for block in chosen.blocks:
        sources = {target: dataset_records()[target].source or target for target in block.targets}
        pairs = [
            (dataset, target)
            for dataset in block.datasets
            for target in [target for target in sources if sources[target] == dataset] or [dataset]
        ]
        for encoder, (dataset, target) in product(block.encoders, pairs):
            for method, variant in product(block.methods, block.variants):
                settings = block.variants[variant]
                learns = method_class(method).capabilities.needs_images  # else it is measured once, at 0 shots
                for shots, seed in product(block.shots, block.seeds) if learns else [(0, block.seeds[0])]:
                    keys = min(shots, settings.get("cache_size", shots))  # a class
                    for protocol in block.protocols or protocols_for(method, dataset, keys):
                        yield Task(
                            experiment=ALIASES.get(chosen.name, chosen.name),
                            dataset=dataset,
                            target=target,
                            encoder=encoder,
                            method=method,
                            shots=shots,
                            seed=seed,
                            draws=chosen.draws,
                            protocol=protocol,
                            variant=variant,
                            settings=settings,
                            shown_classes=block.shown_classes,
                        )


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(_data("experiments.toml"))


def _data(name: str) -> str:
    return (files("tip_adapter.paper") / name).read_text(encoding="utf-8")
