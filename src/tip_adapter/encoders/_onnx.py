"""Opens an ONNX graph on the device asked for."""

from __future__ import annotations

import onnxruntime

from tip_adapter.errors import UsageError

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(graph: bytes, *, device: str | None, threads: int | None) -> onnxruntime.InferenceSession:
    """Open `graph` in ONNX Runtime.

    Raises
    ------
    UsageError
        The device is unknown, or this ONNX Runtime has no provider for it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=[_provider(device or "cpu")])


def _provider(device: str) -> str:
    if device not in _PROVIDERS:
        raise UsageError(f"unknown device {device!r}: known are {', '.join(_PROVIDERS)}")
    if _PROVIDERS[device] not in onnxruntime.get_available_providers():
        raise UsageError(f"device {device} is not available in this ONNX Runtime: pip install onnxruntime-gpu")
    return _PROVIDERS[device]
