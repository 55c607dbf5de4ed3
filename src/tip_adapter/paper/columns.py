"""How tables and pictures call what results say: methods, encoders, and numbers with their units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from tip_adapter.paper.protocols import PROTOCOLS
from tip_adapter.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tip_adapter.paper.results import Mean

#: Methods as the paper calls them, in its order.
TITLES = {
    "zero-shot": "Zero-shot CLIP",
    "linear-probe": "Linear-probe CLIP",
    "coop": "CoOp",
    "clip-adapter": "CLIP-Adapter",
    "tip-adapter": "Tip-Adapter",
    "tip-adapter-f": "Tip-Adapter-F",
    "full training": "Full training",
}
#: Of an encoder that is a file; its folder is not shown.
_FILE = "vectors:"


@dataclass(frozen=True)
class Field:
    """A number of a result as it is shown.

    Parameters
    ----------
    title : the name with its unit
    decimals : int
    scale : what ours is multiplied by; published numbers are as they are shown
    published : the name under which the published number stands, where it is another
    of_a_machine : whether it depends on the machine, so that a difference to the paper's says nothing
    """

    title: str
    decimals: int = 2
    scale: float = 1.0
    published: str | None = None
    of_a_machine: bool = False

    def mean(self, mean: Mean) -> str:
        """The mean, and half of its interval where it shows in so many decimals; of percentages always."""
        half = None if mean.half_width is None else self._rounded(mean.half_width)
        shown = self.number(mean.mean)
        return shown if half is None or (half == 0 and self.scale == 1) else f"{shown} ± {half:,.{self.decimals}f}"

    def number(self, value: float) -> str:
        """One of our numbers."""
        return f"{self._rounded(value):,.{self.decimals}f}"

    def difference(self, mean: float, theirs: float) -> str:
        """Ours minus the published one."""
        return f"{round(self.scale * mean - theirs, self.decimals) + 0.0:+,.{self.decimals}f}"

    def theirs(self, value: Any) -> str:
        """A published number, or what the paper has in its place."""
        return f"{value:,.{self.decimals}f}" if isinstance(value, (int, float)) else str(value)

    def _rounded(self, value: float) -> float:
        return round(self.scale * value, self.decimals) + 0.0  # no −0.00


FIELDS = {
    "accuracy": Field("accuracy, %", scale=100),
    "gain": Field("gain over zero-shot, points", scale=100),
    "tuning_gap": Field("tuning gap", scale=100),
    "silhouette": Field("silhouette", decimals=3),
    "alpha": Field("alpha"),
    "beta": Field("beta"),
    "epochs": Field("epochs", decimals=0),
    "learnable_parameters": Field("learnable parameters", decimals=0),
    "training_seconds": Field("training, s", published="training_time", of_a_machine=True),
    "inference_ms": Field("inference, ms", of_a_machine=True),
    "peak_memory_mib": Field("process memory, MiB", decimals=0, of_a_machine=True),
    "gpu_mib": Field("card memory, MiB", decimals=0, of_a_machine=True),
    "outcome": Field("outcome"),
}


def format_value(axis: str, value: Any) -> str:
    """The value of an axis as a reader should see it."""
    return _SHOWN[axis](value) if axis in _SHOWN else printable(str(value))


def heading(axis: str, value: Any) -> str:
    """The same where it stands alone, and shots are not told by a column's name."""
    return counted(value, "shot", "shots") if axis == "shots" else format_value(axis, value)


def varies(axis: str, results: Sequence[dict[str, Any]]) -> bool:
    """Whether an axis varies over the results; zero-shot's 0 shots, and a target that is the data set itself, do not."""
    values = {result.get(axis) for result in results} - ({0} if axis == "shots" else set())
    return len(values) > 1 and (axis != "target" or any(result["target"] != result["dataset"] for result in results))


def _encoder(name: str) -> str:
    return printable(f"{_FILE}{PurePath(name.removeprefix(_FILE)).name}" if name.startswith(_FILE) else name)


_SHOWN: dict[str, Callable[[Any], str]] = {
    "encoder": _encoder,
    "method": lambda name: TITLES.get(name, printable(name)),
    "protocol": lambda name: f"{name} (upper bound)" if PROTOCOLS[name].upper_bound else name,
    "shots": lambda n: str(n or "–"),
}
