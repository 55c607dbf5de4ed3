"""CLIPs stored as ONNX files, run without torch."""
