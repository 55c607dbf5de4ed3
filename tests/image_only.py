"""The files of a small encoder of images only, with the inputs and outputs of a vision transformer."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 6
PREPROCESSING = {
    "size": {"shortest_edge": 10},
    "crop_size": {"height": 8, "width": 8},
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
MIXED = np.random.default_rng(0).standard_normal((3, WIDTH)).astype(np.float32)
TOKENS = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "tokens", WIDTH])
POOLED = helper.make_tensor_value_info("pooler_output", TensorProto.FLOAT, ["n", WIDTH])


def transformer(outputs: list[onnx.ValueInfoProto]) -> bytes:
    """A class token, the mean colour mixed, and a token of each of four patches."""
    steps = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colour"]),
        helper.make_node("MatMul", ["colour", "mixed"], ["pooler_output"]),
        helper.make_node("Unsqueeze", ["pooler_output", "one"], ["class_token"]),
        helper.make_node("AveragePool", ["pixel_values"], ["patches"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Reshape", ["patches", "flat"], ["by_channel"]),
        helper.make_node("Transpose", ["by_channel"], ["by_patch"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["by_patch", "mixed"], ["patch_tokens"]),
        helper.make_node("Concat", ["class_token", "patch_tokens"], ["last_hidden_state"], axis=1),
    ]
    given = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", "channels", "height", "width"])
    constants = {"mixed": MIXED, "one": np.array([1]), "flat": np.array([0, 3, -1])}
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(steps, "transformer", [given], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


FILES = {
    "onnx/model.onnx": transformer([TOKENS]),
    "preprocessor_config.json": json.dumps(PREPROCESSING).encode(),
}
