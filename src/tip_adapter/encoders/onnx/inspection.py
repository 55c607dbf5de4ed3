"""Inspection of untrusted ONNX files before they run: inputs, outputs, and refusal of foreign code and outside files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from tip_adapter.errors import CheckpointError
from tip_adapter.io.files import open_regular
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Domains of ONNX Runtime's own operators. All others need a library, which could run any code.
_BUILT_IN = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph.

    Parameters
    ----------
    name : str
    dtype : str, ONNX's name of its type, such as ``FLOAT``
    shape : sizes, None for a free dimension
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """An ONNX file that has passed inspection.

    Parameters
    ----------
    path : path of the file
    inputs, outputs : its tensors, in order
    data : other files that contain its weights
    """

    path: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    data: tuple[Path, ...]


def read_graph(path: Path, root: Path) -> Graph:
    """Inspect an ONNX file without running it.

    Parameters
    ----------
    path : path of the file
    root : folder that must contain its weights

    Raises
    ------
    CheckpointError
        It cannot be read, names files outside `root`, or uses operators that are not ONNX Runtime's own.
    """
    model = _parse(path)
    if model.functions or model.training_info:
        raise _refused(path, "it contains functions of its own, which are not run")
    for node in (node for graph in _graphs(model.graph) for node in graph.node):
        if node.domain not in _BUILT_IN:
            operator = f"{printable(node.domain)}.{printable(node.op_type)}"
            raise _refused(path, f"it uses the operator {operator}, which is not ONNX Runtime's own")
    weights = {place for tensor in _tensors(model.graph) for place in _location(tensor)}
    data = tuple(_inside(path, place, root) for place in sorted(weights))
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor(value) for value in model.graph.input if value.name not in given)
    return Graph(path, inputs, tuple(map(_tensor, model.graph.output)), data)


def whole_model(graph: Graph) -> onnx.ModelProto:
    """The model of an inspected graph, with the weights of its other files.

    Raises
    ------
    CheckpointError
        It cannot be read any more, or names other files than when it was inspected.
    """
    model = _parse(graph.path)
    for tensor in _tensors(model.graph):
        for place in _location(tensor):
            file = graph.path.parent / place
            if file not in graph.data:
                raise _refused(graph.path, "it has changed since it was opened")
            stated = {entry.key: entry.value for entry in tensor.external_data}
            try:
                with open_regular(file) as data:
                    data.seek(int(stated.get("offset", 0)))
                    tensor.raw_data = data.read(int(stated.get("length", -1)))
            except (OSError, ValueError) as error:
                raise _refused(graph.path, f"its weights cannot be read: {printable(str(error))}") from error
            tensor.ClearField("external_data")
            tensor.data_location = onnx.TensorProto.DEFAULT
    return model


def _parse(path: Path) -> onnx.ModelProto:
    try:
        with open_regular(path) as file:
            return onnx.ModelProto.FromString(file.read())
    except DecodeError as error:
        raise _refused(path, "it is not an ONNX file, or is truncated") from error
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all its subgraphs."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node:
                    yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a graph contains."""
    for part in _graphs(graph):
        sparse = list(part.sparse_initializer)
        yield from part.initializer
        for node in part.node:
            for attribute in node.attribute:
                yield from [attribute.t, *attribute.tensors]
                sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)


def _location(tensor: onnx.TensorProto) -> list[str]:
    """Where a tensor's values are, if they are not in the ONNX file."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL and not tensor.external_data:
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]


def _inside(path: Path, place: str, root: Path) -> Path:
    file = path.parent / place
    outside = "\\" in place or not file.resolve().is_relative_to(root.resolve())
    if outside or place.startswith("/") or ".." in file.relative_to(path.parent).parts:
        raise _refused(path, f"its weights are outside its folder, at {printable(place)}")
    if not file.is_file():
        raise _refused(path, f"its weights, {printable(place)}, are missing")
    return file


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
    return Tensor(value.name, onnx.TensorProto.DataType.Name(kind.elem_type), shape)


def _refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{printable(path)} is not opened: {reason}; get it again from where you trust it")
