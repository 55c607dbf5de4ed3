"""Writes ONNX graphs: appends nodes and constants, and steps that several graphs share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike
    from onnx import GraphProto

#: Supported by every ONNX Runtime since 1.12.
OPSET = 17
_IR_VERSION = 8
#: Limit of an ONNX file, which is one protocol buffer.
MOST_BYTES = 2**31 - 2**20
#: From which version on a reduction takes its axes as an input.
_AXES_ARE_INPUTS = {"ReduceSum": 13, "ReduceMax": 18}
#: From which version on CastLike exists.
_HAS_CAST_LIKE = 15


class GraphWriter:
    """Appends to an ONNX model; each step returns the name of its output.

    Every node gets a name, also those that the model has: converters tell nodes apart by their names.

    Parameters
    ----------
    model : the model to append to, changed in place; None for a new one
    prefix : str, prefix of all new names; no other name of the model may begin with it
    """

    def __init__(self, model: ModelProto | None = None, prefix: str = "") -> None:
        self.model = model or helper.make_model(
            helper.make_graph([], "tip-adapter", [], []),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
        )
        self._prefix = prefix
        self._n_names = 0
        _name_nodes(self.model.graph)

    @property
    def opset(self) -> int:
        """The model's version of ONNX's own operators."""
        return next(entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx"))

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """An input of the model."""
        self.model.graph.input.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    @contextmanager
    def in_front(self) -> Iterator[None]:
        """What is written within comes before the steps that the model has."""
        later = list(self.model.graph.node)
        del self.model.graph.node[:]
        yield
        self.model.graph.node.extend(later)

    def feed(self, value: str, name: str) -> None:
        """Let `value` be what the model took as its input `name`, which it has no more."""
        (taken,) = (given for given in self.model.graph.input if given.name == name)
        self.model.graph.input.remove(taken)
        self._append("Identity", [value], name)

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Make `value` a float32 output of the model."""
        self._append("Identity", [value], name)
        self.model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def state(self, facts: Mapping[str, str]) -> None:
        """Add metadata to the model: name → text."""
        for name, value in facts.items():
            self.model.metadata_props.add(key=name, value=value)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A step of one output."""
        output = self._new_name(kind.lower())
        self._append(kind, inputs, output, **attributes)
        return output

    def constant(self, value: ArrayLike) -> str:
        """An array; a Python float is float32, a Python int is int64. It is copied once: it may be large."""
        array = np.ascontiguousarray(value, dtype=np.float32 if isinstance(value, float) else None)
        name = self._new_name("constant")
        shape = np.shape(value)  # `ascontiguousarray` makes a row of a number
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.model.graph.initializer.add(name=name, data_type=kind, dims=shape, raw_data=array.tobytes())
        return name

    def to_float(self, numbers: str) -> str:
        """Numbers of any type as float32, and as float16 in a file that is converted to half precision later.

        Converters change the constants of a file, but not the target of a Cast: it would still be float32.
        """
        if self.opset >= _HAS_CAST_LIKE:
            return self.node("CastLike", numbers, self.constant(1.0))
        return self.node("Cast", numbers, to=TensorProto.FLOAT)

    def to_unit_length(self, rows: str) -> str:
        """(n, d) float rows as `vectors.unit_rows` scales them: a zero row stays zero, no length overflows."""
        one = self.constant(1.0)
        largest = self._above_zero(self.largest(self.node("Abs", rows)), one)
        scaled = self.node("Div", rows, largest)
        squares = self.node("Mul", scaled, scaled)
        return self.node("Div", scaled, self._above_zero(self.node("Sqrt", self._reduce("ReduceSum", squares)), one))

    def largest(self, rows: str) -> str:
        """(n, d) → (n, 1), the largest number of each row."""
        return self._reduce("ReduceMax", rows)

    def _above_zero(self, numbers: str, one: str) -> str:
        return self.node("Where", self.node("Greater", numbers, self.constant(0.0)), numbers, one)

    def _reduce(self, kind: str, rows: str) -> str:
        """(n, d) → (n, 1)."""
        if self.opset >= _AXES_ARE_INPUTS[kind]:
            return self.node(kind, rows, self.constant(np.array([1])), keepdims=1)
        return self.node(kind, rows, axes=[1], keepdims=1)

    def _append(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        name = output if output.startswith(self._prefix) else f"{self._prefix}{output}"
        self.model.graph.node.append(helper.make_node(kind, inputs, [output], name=name, **attributes))

    def _new_name(self, kind: str) -> str:
        self._n_names += 1
        return f"{self._prefix}{kind}_{self._n_names}"


def _name_nodes(graph: GraphProto) -> None:
    """Name the nodes that have no name by their outputs, also those within If, Loop and Scan."""
    for node in graph.node:
        node.name = node.name or f"unnamed/{node.output[0]}"
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _name_nodes(inner)
