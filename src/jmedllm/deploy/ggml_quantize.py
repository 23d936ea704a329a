"""Child process of `llama_cpp`: quantizes matrices with ggml's own code until its standard input closes."""

import ctypes
import json
import sys
from importlib.util import find_spec

from jmedllm.signals import ignore_signals

_FLOAT = 4


def main() -> None:
    """Read matrices from standard input and write their quantized bytes to standard output.

    A matrix is a line of JSON with `type` (ggml's number), `rows`, `columns`, `size` (bytes of the result) and
    `weighted`; then its float32 values; then, if weighted, a float32 importance for each column.
    """
    library = find_spec("xllamacpp.xllamacpp")
    assert library is not None and library.origin is not None
    ggml = ctypes.CDLL(library.origin)
    quantize = ggml.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64),
        ctypes.c_void_p,
    ]
    while line := sys.stdin.buffer.readline():
        matrix = json.loads(line)
        rows, columns = matrix["rows"], matrix["columns"]
        values = bytearray(sys.stdin.buffer.read(rows * columns * _FLOAT))
        importance = bytearray(sys.stdin.buffer.read(columns * _FLOAT)) if matrix["weighted"] else None
        result = ctypes.create_string_buffer(matrix["size"])
        written = quantize(
            matrix["type"],
            _address(values),
            ctypes.addressof(result),
            0,
            rows,
            columns,
            None if importance is None else _address(importance),
        )
        assert written == matrix["size"], (written, matrix)
        sys.stdout.buffer.write(result.raw)
        sys.stdout.buffer.flush()


def _address(values: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(values)).from_buffer(values))


if __name__ == "__main__":
    ignore_signals()  # the parent ends this process
    main()
