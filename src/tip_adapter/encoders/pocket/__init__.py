"""The offline default encoder: EfficientNet-Lite0 and a multilingual sentence encoder."""
