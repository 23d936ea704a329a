"""Rewrite weight files tensor by tensor, so that a model need not fit in memory."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from jmedllm.errors import InputError
from jmedllm.models.loading import loading

FORMATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Dtypes to which an update can be added, by their safetensors names."""

Change = Callable[[torch.Tensor], torch.Tensor]


def tensors_in(file: Path) -> dict[str, dict[str, Any]]:
    """Return `dtype`, `shape` and `data_offsets` of each tensor in a safetensors file, in the order of their bytes.

    Raises:
        InputError: the file is not a safetensors file, or is truncated.
    """
    from safetensors import safe_open

    with loading(f"weights {file}"), safe_open(file, "pt"):  # checks header and length
        pass
    with file.open("rb") as handle:
        header: dict[str, dict[str, Any]] = json.loads(_header(handle)[8:])
    header.pop("__metadata__", None)
    return dict(sorted(header.items(), key=lambda item: int(item[1]["data_offsets"][0])))


def rewrite(source: Path, target: Path, changes: Mapping[str, Change]) -> None:
    """Copy a safetensors file, and apply the functions in `changes` to the tensors that they name.

    Names, shapes and dtypes do not change, so the header is copied. Only one tensor is in memory at a time.

    Raises:
        InputError: the dtype of a changed tensor is not in `FORMATS`.
    """
    with source.open("rb") as old, target.open("wb") as new:
        new.write(_header(old))
        for name, entry in tensors_in(source).items():
            start, end = entry["data_offsets"]
            raw = bytearray(old.read(end - start))
            if name not in changes:
                new.write(raw)
                continue
            if entry["dtype"] not in FORMATS:
                raise InputError(
                    f"{source}: {name} is stored as {entry['dtype']}, to which no update can be added; give a base "
                    f"in {', '.join(FORMATS)}"
                )
            stored = torch.frombuffer(raw, dtype=FORMATS[entry["dtype"]]).view(entry["shape"])
            changed = changes[name](stored).to("cpu", stored.dtype).contiguous()
            new.write(changed.view(torch.uint8).numpy().data)


def _header(handle: BinaryIO) -> bytes:
    """Read the length of the header (8 bytes) and the header; the tensors' bytes follow."""
    length = handle.read(8)
    return length + handle.read(int.from_bytes(length, "little"))
