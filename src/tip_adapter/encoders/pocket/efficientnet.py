"""EfficientNet-Lite0 as an ONNX graph, built from its tensors: uint8 images to mean-pooled feature maps.

Batch norms are folded into the convolutions in front of them. The layers follow the published network: a stem, seven
stages of inverted bottlenecks without squeeze-excitation, a head of 1,280 channels; ReLU6 throughout.
"""

from __future__ import annotations

from math import erf, exp, pi, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import TensorProto

from tip_adapter.encoders.onnx.writer import GraphWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

SIDE = 224
WIDTH = 1280
_EPSILON = 1e-3


class _Stage(NamedTuple):
    expansion: int
    stride: int
    kernel: int
    channels: int
    repeats: int


_STAGES = (
    _Stage(1, 1, 3, 16, 1),
    _Stage(6, 2, 3, 24, 2),
    _Stage(6, 2, 5, 40, 2),
    _Stage(6, 2, 3, 80, 3),
    _Stage(6, 1, 5, 112, 3),
    _Stage(6, 2, 5, 192, 4),
    _Stage(6, 1, 3, 320, 1),
)


class Network(NamedTuple):
    """The parts of EfficientNet-Lite0 that pocket uses."""

    onnx: bytes  #: graph: "pixels" (n, 224, 224, 3) uint8 → "features" (n, 1280) float32
    mean: NDArray[np.float32]  #: (1280,) closed-form mean of the features
    classifier: NDArray[np.float32]  #: (1000, 1280) rows of ImageNet's classes


def build_network(tensors: Mapping[str, NDArray[Any]]) -> Network:
    """Write the graph from the checkpoint's tensors, which are in the order of the network.

    Parameters
    ----------
    tensors : name → array, in the order of the file

    Returns
    -------
    Network
    """
    graph = GraphWriter()
    pixels = graph.input("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    graph.output(write_network(graph, pixels, tensors), "features", ["n", WIDTH])
    arrays, classifier = _arrays(tensors)
    return Network(graph.model.SerializeToString(), _mean_of_relu6(arrays[-3], arrays[-4]), classifier)


def write_network(graph: GraphWriter, pixels: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Append the network to a graph: `pixels`, (n, 224, 224, 3) uint8 → its features, (n, 1280) float32."""
    layers = _fold_batch_norms(_arrays(tensors)[0])
    network = _NetworkWriter(graph, pixels)
    network.pixels()
    network.convolution(*next(layers), stride=2)
    channels = 32
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            network.bottleneck(layers, stage, stride=stage.stride if repeat == 0 else 1, channels=channels)
            channels = stage.channels
    network.convolution(*next(layers))
    network.node("ReduceMean", axes=[2, 3], keepdims=0)
    return network.top


def _arrays(tensors: Mapping[str, NDArray[Any]]) -> tuple[list[NDArray[Any]], NDArray[np.float32]]:
    """The arrays of the layers, and the classifier's rows."""
    *layers, classifier, _bias = [array for name, array in tensors.items() if not name.endswith("num_batches_tracked")]
    return layers, classifier


def _fold_batch_norms(arrays: Sequence[NDArray[Any]]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The weight and bias of each convolution with its batch norm folded in.

    A layer has five arrays: the convolution's weight, then the batch norm's weight, bias, mean and variance.
    """
    for start in range(0, len(arrays), 5):
        weight, scale, bias, mean, variance = arrays[start : start + 5]
        factor = scale / np.sqrt(variance + _EPSILON)
        yield weight * factor[:, None, None, None], bias - mean * factor


def _mean_of_relu6(mean: NDArray[Any], scale: NDArray[Any]) -> NDArray[np.float32]:
    """Mean of min(max(x, 0), 6) where x is normal with a batch norm's bias as mean and its |weight| as deviation."""
    return np.array(
        [_mean_above(0, m, abs(s)) - _mean_above(6, m, abs(s)) for m, s in zip(mean, scale, strict=True)], np.float32
    )


def _mean_above(bound: float, mean: float, deviation: float) -> float:
    """E[max(x - bound, 0)] of a normal x."""
    z = (mean - bound) / deviation
    return (mean - bound) * (1 + erf(z / sqrt(2))) / 2 + deviation * exp(-z * z / 2) / sqrt(2 * pi)


class _NetworkWriter:
    """Appends layers in a chain; `self.top` is the name of the last output."""

    def __init__(self, graph: GraphWriter, pixels: str) -> None:
        self._graph = graph
        self.top = pixels

    def node(self, kind: str, *others: str, **attributes: Any) -> None:
        self.top = self._graph.node(kind, self.top, *others, **attributes)

    def pixels(self) -> None:
        """uint8 (n, 224, 224, 3) → float (n, 3, 224, 224) in [-1, 1]."""
        self.node("Cast", to=TensorProto.FLOAT)
        self.node("Div", self._graph.constant(127.5))
        self.node("Sub", self._graph.constant(1.0))
        self.node("Transpose", perm=[0, 3, 1, 2])

    def convolution(self, weight: NDArray[Any], bias: NDArray[Any], *, stride: int = 1, relu6: bool = True) -> None:
        n_channels, per_group, kernel, _ = weight.shape
        self.node(
            "Conv",
            self._graph.constant(weight),
            self._graph.constant(bias),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            group=n_channels if per_group == 1 else 1,
            auto_pad="SAME_UPPER",
        )
        if relu6:
            self.node("Clip", self._graph.constant(0.0), self._graph.constant(6.0))

    def bottleneck(self, layers: Iterator[Any], stage: _Stage, *, stride: int, channels: int) -> None:
        before = self.top
        if stage.expansion > 1:
            self.convolution(*next(layers))
        self.convolution(*next(layers), stride=stride)
        self.convolution(*next(layers), relu6=False)
        if stride == 1 and channels == stage.channels:
            self.node("Add", before)
