"""The paper's numbers: which of them belongs to a result, and whether the two can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from tip_adapter.methods import METHODS
from tip_adapter.paper.datasets.records import dataset_records
from tip_adapter.paper.experiments import papers_encoder, published
from tip_adapter.paper.results import key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tip_adapter.paper.experiments import Experiment

#: Axes on which a published number must agree with a result, besides the encoder.
_AXES = ("dataset", "target", "method", "shots", "variant")


@dataclass(frozen=True)
class Published:
    """The paper's numbers for one experiment.

    Parameters
    ----------
    rows : records as in published.jsonl
    sizes : data set → number of its classes and of its test photos, as published
    drawn : which of them pictures show: those that can be compared, or also those next to other data and encoders
    """

    rows: tuple[dict[str, Any], ...]
    sizes: Mapping[str, tuple[int, int]]
    drawn: Literal["comparable", "all"] = "comparable"

    @classmethod
    def of(cls, experiment: Experiment, drawn: Literal["comparable", "all"] = "comparable") -> Self:
        """Those of an experiment."""
        rows = tuple(row for row in published() if row["experiment"] == experiment.published)
        sizes = {name: (r.n_classes, r.n_images.get("test", 0)) for name, r in dataset_records().items()}
        return cls(rows, sizes, drawn)

    def row_of(self, result: dict[str, Any]) -> dict[str, Any] | None:
        """The published row for a result: of its data set and encoder; None without any.

        Where the paper has one data set only, its number is shown with those of any other, as not comparable; so does
        the number of its first encoder with those of encoders that it has not.
        """
        names = {row["dataset"] for row in self.rows}
        fitting = self._fitting(result)
        if not fitting and len(names) == 1:
            (only,) = names
            fitting = self._fitting({**result, "dataset": only, "target": only})
        encoder = papers_encoder(result["encoder"])
        if encoder in {row["encoder"] for row in self.rows}:
            fitting = [row for row in fitting if row["encoder"] == encoder]
        return fitting[0] if fitting else None

    def comparable(self, row: dict[str, Any], result: dict[str, Any]) -> bool:
        """Whether a result has the row's encoder and data set, all of its classes and as many test photos."""
        same = papers_encoder(result["encoder"]) == row["encoder"] and result["dataset"] == row["dataset"]
        size = self.sizes.get(result["target"])
        return same and size == (result.get("n_classes"), result.get("n_test"))

    @property
    def literature(self) -> list[dict[str, Any]]:
        """Rows that no method here could measure, such as full training."""
        return [row for row in self.rows if row["method"] not in METHODS]

    def _fitting(self, result: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows that agree with a result; where a row states no target or variant it is of the data set itself, and of none."""
        return [
            row
            for row in self.rows
            if key_of({"target": row["dataset"], "variant": "", **row}, _AXES) == key_of(result, _AXES)
        ]
