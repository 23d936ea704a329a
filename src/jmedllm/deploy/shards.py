"""Weight files rewritten one tensor after another, so that a model need not fit into memory."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from jmedllm.errors import InputError
from jmedllm.models.loading import loading

FORMATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Number formats that an adapter can be added to, as safetensors names them."""

Change = Callable[[torch.Tensor], torch.Tensor]


def tensors_in(file: Path) -> dict[str, dict[str, Any]]:
    """Of each tensor in a safetensors file its `dtype`, `shape` and `data_offsets`, in the order of its bytes.

    Raises:
        InputError: the file is no safetensors file, or not whole.
    """
    from safetensors import safe_open

    with loading(f"weights {file}"), safe_open(file, "pt"):  # checks header and length
        pass
    with file.open("rb") as handle:
        header: dict[str, dict[str, Any]] = json.loads(_header(handle)[8:])
    header.pop("__metadata__", None)
    return dict(sorted(header.items(), key=lambda item: int(item[1]["data_offsets"][0])))


def rewrite(source: Path, target: Path, changes: Mapping[str, Change]) -> None:
    """Copy a safetensors file, passing the tensors that `changes` names through their function.

    Names, shapes and number formats stay, so the header does too. Keeps one tensor in memory at a time.

    Raises:
        InputError: a tensor to be changed is stored in another format than `FORMATS`.
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
                    f"{source}: {name} is stored as {entry['dtype']}, which nothing can be added to; give a base "
                    f"in {', '.join(FORMATS)}"
                )
            stored = torch.frombuffer(raw, dtype=FORMATS[entry["dtype"]]).view(entry["shape"])
            changed = changes[name](stored).to("cpu", stored.dtype).contiguous()
            new.write(changed.view(torch.uint8).numpy().data)


def _header(handle: BinaryIO) -> bytes:
    """The length of the header, 8 bytes, and the header; the tensors' bytes follow."""
    length = handle.read(8)
    return length + handle.read(int.from_bytes(length, "little"))
