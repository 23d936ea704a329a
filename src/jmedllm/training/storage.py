"""Tensors of a training run on disk, written by any number of processes and read by any other number.

Both ways it is safetensors, which hold numbers and nothing that could be carried out. Several processes write
through torch.distributed.checkpoint, each its own shards, in its form for safetensors: where each shard belongs
stands in the files' headers as JSON. Its usual form, with a pickle of metadata, is neither written nor read.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from jmedllm.errors import InputError
from jmedllm.files import atomic_folder, unwritable
from jmedllm.processes import is_main_process, rank, receive, send, wait

_FILE = 2**30
"""Most bytes in a file, if no tensor alone has more."""


@contextmanager
def shared_folder(path: Path, mark: str) -> Iterator[Path]:
    """Hand all processes a temporary folder that takes the place of `path`, whole, once all have ended the block.

    Args:
        path: the folder to make.
        mark: a file that the first process writes there; see `atomic_folder`.

    Raises:
        InputError: see `atomic_folder`.
    """
    if is_main_process():
        with atomic_folder(path, mark) as temporary:
            send(temporary)
            yield temporary
            wait()
    else:
        yield receive()
        wait()
    wait()


def write_tensors(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write named tensors into a folder; of those in shards each process writes its own.

    Raises:
        InputError: the disk is full.
    """
    if rank().world_size == 1:
        for number, part in enumerate(_parts(tensors)):
            save_file(part, folder / f"tensors-{number:05d}.safetensors")
        return
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        reason = next(iter(error.failures.values()))[0]
        raise unwritable(folder, reason) if isinstance(reason, OSError) else reason from error


def _parts(tensors: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors, as many at a time as one file takes: each is copied to the host, if it is not there."""
    part: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if part and sum(each.nbytes for each in part.values()) + tensor.nbytes > _FILE:
            yield part
            part = {}
        part[name] = tensor.contiguous()
    yield part


def read_tensors(folder: Path, into: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Read all tensors of a folder, whoever wrote it, those of known names into the given tensors.

    Args:
        folder: as `write_tensors` left it.
        into: tensors by name, whole or in shards; none of them is changed where one is missing.

    Returns:
        All others, whole, on the CPU.

    Raises:
        InputError: the files are broken, or lack a tensor.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    for file in sorted(folder.glob("*.safetensors")):
        _require_whole(file)
    reader = HuggingFaceStorageReader(str(folder))
    others: dict[str, torch.Tensor] = {}
    missing = dict(into)
    try:
        for name, stored in reader.read_metadata().state_dict_metadata.items():
            assert isinstance(stored, TensorStorageMetadata)
            if sum(chunk.sizes.numel() for chunk in stored.chunks) != stored.size.numel():
                raise InputError(f"{folder}: lacks a part of {name}")
            if name not in into:
                others[name] = torch.empty(stored.size, dtype=stored.properties.dtype)
            elif into[name].shape == stored.size:
                del missing[name]
        for name in missing:
            raise InputError(f"{folder}: lacks {name}")
        with warnings.catch_warnings():
            # That there is but one process is no news.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            wanted = {name: tensor.detach() for name, tensor in into.items()} | others
            load(wanted, storage_reader=reader, no_dist=rank().world_size == 1)
    except CheckpointException as error:
        reason = next(iter(error.failures.values()))[0]
        raise InputError(f"{folder}: cannot be read: {reason}") from error
    return others


def _require_whole(file: Path) -> None:
    try:
        with safe_open(file, framework="pt"):
            pass
    except SafetensorError as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
