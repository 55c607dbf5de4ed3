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


#: Stages of bottlenecks: (expansion, stride of the first, how many); channels and kernels are those of the weights.
_STAGES = ((1, 1, 1), (6, 2, 2), (6, 2, 2), (6, 2, 3), (6, 1, 3), (6, 2, 4), (6, 1, 1))


class Network(NamedTuple):
    """The parts of EfficientNet-Lite0 that pocket uses."""

    onnx: bytes  #: graph: "pixels" (n, 224, 224, 3) uint8 → "features" (n, 1280) float32
    mean: NDArray[np.float32]  #: (1280,) closed-form mean of the features
    classifier: NDArray[np.float32]  #: (1000, 1280) rows of ImageNet's classes


def build_network(tensors: Mapping[str, NDArray[Any]]) -> Network:
    """Write the graph from the checkpoint's tensors, name → array in the order of the network."""
    graph = GraphWriter()
    pixels = graph.input("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    graph.output(write_network(graph, pixels, tensors), "features", ["n", WIDTH])
    arrays, classifier = _arrays(tensors)
    return Network(graph.model.SerializeToString(), _mean_of_relu6(arrays[-3], arrays[-4]), classifier)


def write_network(graph: GraphWriter, pixels: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Append the network to a graph: `pixels`, (n, 224, 224, 3) uint8 → its features, (n, 1280) float32."""
    layers = _fold_batch_norms(_arrays(tensors)[0])
    network = _NetworkWriter(graph, graph.to_float(pixels))
    network.node("Div", graph.constant(127.5))  # to (n, 3, 224, 224) in [-1, 1]
    network.node("Sub", graph.constant(1.0))
    network.node("Transpose", perm=[0, 3, 1, 2])
    network.convolution(*next(layers), stride=2)
    for expansion, stride, n in _STAGES:
        network.bottleneck(layers, expands=expansion > 1, stride=stride, adds=False)
        for _ in range(n - 1):
            network.bottleneck(layers, expands=expansion > 1, stride=1, adds=True)
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

    def __init__(self, graph: GraphWriter, images: str) -> None:
        self._graph = graph
        self.top = images

    def node(self, kind: str, *others: str, **attributes: Any) -> None:
        self.top = self._graph.node(kind, self.top, *others, **attributes)

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

    def bottleneck(self, layers: Iterator[Any], *, expands: bool, stride: int, adds: bool) -> None:
        before = self.top
        if expands:
            self.convolution(*next(layers))
        self.convolution(*next(layers), stride=stride)
        self.convolution(*next(layers), relu6=False)
        if adds:
            self.node("Add", before)
