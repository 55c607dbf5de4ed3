"""Writes ONNX graphs: appends nodes and constants, and steps that several graphs share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike

#: Supported by every ONNX Runtime since 1.12.
OPSET = 17
_IR_VERSION = 8
#: Limit of an ONNX file, which is one protocol buffer.
MOST_BYTES = 2**31 - 2**20
#: From which version on a reduction takes its axes as an input.
_AXES_ARE_INPUTS = {"ReduceSum": 13, "ReduceMax": 18}


class GraphWriter:
    """Appends to an ONNX model; each step returns the name of its output.

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
        self.model.graph.node.append(helper.make_node("Identity", [value], [name]))

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Make `value` a float32 output of the model."""
        self.model.graph.node.append(helper.make_node("Identity", [value], [name]))
        self.model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def state(self, facts: Mapping[str, str]) -> None:
        """Add metadata to the model: name → text."""
        for name, value in facts.items():
            self.model.metadata_props.add(key=name, value=value)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A step of one output."""
        output = self._new_name(kind.lower())
        self.model.graph.node.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: ArrayLike) -> str:
        """An array; a Python float is float32, a Python int is int64. It is copied once: it may be large."""
        array = np.ascontiguousarray(value, dtype=np.float32 if isinstance(value, float) else None)
        name = self._new_name("constant")
        shape = np.shape(value)  # `ascontiguousarray` makes a row of a number
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.model.graph.initializer.add(name=name, data_type=kind, dims=shape, raw_data=array.tobytes())
        return name

    def to_unit_length(self, rows: str) -> str:
        """(n, d) float rows as `vectors.unit_rows` scales them: a zero row stays zero, no length overflows."""
        one = self.constant(1.0)
        largest = self._above_zero(self._reduce("ReduceMax", self.node("Abs", rows)), one)
        scaled = self.node("Div", rows, largest)
        squares = self.node("Mul", scaled, scaled)
        return self.node("Div", scaled, self._above_zero(self.node("Sqrt", self._reduce("ReduceSum", squares)), one))

    def _above_zero(self, numbers: str, one: str) -> str:
        return self.node("Where", self.node("Greater", numbers, self.constant(0.0)), numbers, one)

    def _reduce(self, kind: str, rows: str) -> str:
        """(n, d) → (n, 1)."""
        if self.opset >= _AXES_ARE_INPUTS[kind]:
            return self.node(kind, rows, self.constant(np.array([1])), keepdims=1)
        return self.node(kind, rows, axes=[1], keepdims=1)

    def _new_name(self, kind: str) -> str:
        self._n_names += 1
        return f"{self._prefix}{kind}_{self._n_names}"
