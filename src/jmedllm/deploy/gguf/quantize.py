"""Quantize with ggml's own code, in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import numpy as np

from jmedllm.deploy.gguf.types import Quantize, encoded_size
from jmedllm.deploy.llama_cpp import require_llama_cpp
from jmedllm.errors import InputError
from jmedllm.signals import blocked_signals

_CHILD = "jmedllm.deploy.ggml_quantize"

MATRIX_S = 3600.0
"""Time limit for one matrix, in seconds; the largest take some minutes."""


@contextmanager
def quantizing() -> Iterator[Quantize]:
    """Provide ggml's quantization until the block ends.

    Raises:
        InputError: llama.cpp is not installed, or its process ends.
    """
    from gguf import GGMLQuantizationType

    require_llama_cpp("deploy gguf")
    with blocked_signals():
        process = subprocess.Popen([sys.executable, "-m", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdin is not None and process.stdout is not None
        to_child, from_child = process.stdin, process.stdout

        def quantize(values: "np.ndarray[Any, Any]", name: str, importance: Any) -> "np.ndarray[Any, Any]":
            rows, columns = values.shape
            size = encoded_size(values.shape, name)
            kind = int(GGMLQuantizationType[name])
            matrix = {"type": kind, "rows": rows, "columns": columns, "size": size}
            limit = Timer(MATRIX_S, process.kill)
            limit.start()
            try:
                to_child.write(json.dumps(matrix | {"weighted": importance is not None}).encode() + b"\n")
                to_child.write(np.ascontiguousarray(values, dtype=np.float32).data)
                if importance is not None:
                    to_child.write(np.ascontiguousarray(importance, dtype=np.float32).data)
                to_child.flush()
                found = from_child.read(size)
            except BrokenPipeError:
                found = b""
            finally:
                limit.cancel()
            if len(found) != size:
                raise InputError(
                    f"gguf: ggml ended, or took longer than {MATRIX_S:,.0f} s, while it quantized a matrix of "
                    f"{rows} x {columns} to {name}; give another --type"
                )
            return np.frombuffer(found, dtype=np.uint8).reshape(rows, -1)

        try:
            yield quantize
        finally:
            process.kill()
