"""Restorers as files for other runtimes: ONNX, OpenVINO and ncnn."""
