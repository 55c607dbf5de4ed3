"""ONNX Runtime sessions, and one tower of an encoder: an ONNX file that is inspected first and opened when it is first run."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from tip_adapter.encoders.onnx.inspection import read_graph
from tip_adapter.errors import CheckpointError, UsageError
from tip_adapter.io.processors import available_processors
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tip_adapter.encoders.onnx.inspection import Graph, Tensor

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(graph: bytes | Path, *, device: str | None, threads: int | None) -> onnxruntime.InferenceSession:
    """Open a graph in ONNX Runtime: its bytes, or its file, whose folder may contain its weights.

    Raises
    ------
    UsageError
        The device is unknown, or this ONNX Runtime has no provider for it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_processors()
    # A thread that waits for the others sleeps: on a busy machine, spinning takes the time that they need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    source = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(source, options, providers=[provider(device)])


def provider(device: str | None) -> str:
    """ONNX Runtime's name of a device; raises UsageError as `open_session`."""
    name = device or "cpu"
    if name not in _PROVIDERS:
        raise UsageError(f"unknown device {name!r}: known are {', '.join(_PROVIDERS)}")
    if _PROVIDERS[name] not in onnxruntime.get_available_providers():
        raise UsageError(f"device {name} is not available in this ONNX Runtime: pip install onnxruntime-gpu")
    return _PROVIDERS[name]


class Tower:
    """A graph from arrays to vectors.

    Parameters
    ----------
    path : its ONNX file
    root : folder that must contain its weights
    outputs : names of the output with the vectors, for a graph of several outputs; only one of these may be a transformer's
        tokens, (n, tokens, d), of which the first, the class token, is the vector
    device, threads : as in `load_encoder`
    """

    def __init__(
        self, path: Path, root: Path, outputs: Sequence[str], *, device: str | None, threads: int | None
    ) -> None:
        self._path, self._root, self._wanted = path, root, outputs
        self._device, self._threads = device, threads

    @cached_property
    def graph(self) -> Graph:
        """The inspected file; raises CheckpointError as `read_graph`."""
        return read_graph(self._path, self._root)

    @cached_property
    def output(self) -> Tensor:
        """The output with the vectors: the one of that name, else the first, of two dimensions; else the tokens of that name."""
        tables = [tensor for tensor in self.graph.outputs if len(tensor.shape) == 2]
        named = [tensor for name in self._wanted for tensor in self.graph.outputs if tensor.name == name]
        found = [
            *(tensor for tensor in named if tensor in tables),
            *tables,
            *(tensor for tensor in named if len(tensor.shape) == 3),
        ]
        if not found:
            shapes = ", ".join(f"{printable(each.name)} of {len(each.shape)}" for each in self.graph.outputs)
            raise CheckpointError(
                f"{printable(self._path)} gives no vectors: none of its outputs has two dimensions ({shapes or 'it has none'})"
            )
        return found[0]

    @property
    def rows_per_run(self) -> int | None:
        """Number of inputs per run, None for any number."""
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
        vectors = np.asarray(rows, dtype=np.float32)
        return vectors[:, 0] if vectors.ndim == 3 else vectors

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        path = self.graph.path
        try:
            return open_session(path, device=self._device, threads=self._threads)
        except Exception as error:  # as above
            raise CheckpointError(f"{printable(path)} cannot be opened: {printable(str(error))}") from error
