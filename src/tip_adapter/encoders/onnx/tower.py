"""One tower of a CLIP: an ONNX file that is looked at, opened when it is first run, and runs arrays into rows."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.encoders.onnx.inspection import read_graph
from tip_adapter.encoders.onnx.session import open_session
from tip_adapter.errors import CheckpointError, UsageError
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnxruntime
    from numpy.typing import NDArray

    from tip_adapter.encoders.onnx.inspection import Graph, Tensor


class Tower:
    """A graph from arrays to rows.

    Parameters
    ----------
    path : its ONNX file
    root : folder that its data must lie in
    outputs : names of the rows, for a graph that gives more than them
    device, threads : as in `load_encoder`
    """

    def __init__(
        self, path: Path, root: Path, outputs: Sequence[str], *, device: str | None, threads: int | None
    ) -> None:
        self._path = path
        self._root = root
        self._wanted = outputs
        self._device = device
        self._threads = threads

    @cached_property
    def graph(self) -> Graph:
        """What the file says of itself; raises CheckpointError as `read_graph`."""
        return read_graph(self._path, self._root)

    @cached_property
    def output(self) -> Tensor:
        """The rows: the output of that name, else the first that is a table."""
        tables = [tensor for tensor in self.graph.outputs if len(tensor.shape) == 2]
        named = [tensor for name in self._wanted for tensor in tables if tensor.name == name]
        if not tables:
            raise CheckpointError(f"{printable(self._path)} gives no rows: none of its outputs is a table")
        return [*named, *tables][0]

    @property
    def rows_per_run(self) -> int | None:
        """How many it takes at once, None for any number."""
        return self.graph.inputs[0].shape[0] if self.graph.inputs[0].shape else None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Arrays by the names of inputs → (n, d) float32 rows.

        Raises
        ------
        CheckpointError
            ONNX Runtime cannot run it.
        """
        try:
            (rows,) = self._session.run([self.output.name], dict(feeds))
        except Exception as error:  # ONNX Runtime has a class of its own for each of a dozen reasons
            raise CheckpointError(f"{printable(self._path)} does not run: {printable(str(error))}") from error
        return np.asarray(rows, dtype=np.float32)

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        path = self.graph.path
        try:
            return open_session(path, device=self._device, threads=self._threads)
        except UsageError:
            raise
        except Exception as error:  # as above
            raise CheckpointError(f"{printable(path)} cannot be opened: {printable(str(error))}") from error
