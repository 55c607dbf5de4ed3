"""Opens an ONNX graph on the device asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime

from tip_adapter.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(graph: bytes | Path, *, device: str | None, threads: int | None) -> onnxruntime.InferenceSession:
    """Open a graph in ONNX Runtime: its bytes, or its file, beside which its data may lie.

    Raises
    ------
    UsageError
        The device is unknown, or this ONNX Runtime has no provider for it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
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
