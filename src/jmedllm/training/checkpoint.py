"""Checkpoints of a training run and the weights of its best evaluation, complete or absent.

Files are safetensors and JSON only, so loading them executes nothing. A checkpoint can be read by another number of
processes than wrote it: with several processes, torch.distributed.checkpoint writes one file per process in its
safetensors format, which stores the position of each shard as JSON in the header. Its default format, which includes
pickled metadata, is never written or read.
"""

import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from jmedllm.errors import InputError
from jmedllm.files import atomic_folder, read_json, sweep, to_json, unwritable, write_atomic
from jmedllm.processes import broadcast_from_rank0, is_main_process, rank, receive, send, wait
from jmedllm.training.optim.optimizer import Optimizer

_FILE = 2**30
"""Largest size of a file in bytes, unless a single tensor is larger."""


@contextmanager
def shared_folder(path: Path, mark: str) -> Iterator[Path]:
    """Provide a temporary folder to all processes; it replaces `path` when all of them have left the block.

    Args:
        path: folder to create.
        mark: name of the file that marks the folder as complete; see `atomic_folder`.

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
    """Write named tensors into a folder; each process writes its own shards.

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
    """Group the tensors into files of at most `_LARGEST` bytes, copied to the host."""
    part: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if part and sum(each.nbytes for each in part.values()) + tensor.nbytes > _FILE:
            yield part
            part = {}
        part[name] = tensor.contiguous()
    yield part


def read_tensors(folder: Path, into: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Read all tensors of a folder; those whose names are in `into` are read in place.

    Args:
        folder: folder written by `write_tensors`.
        into: tensors by name, full or sharded. If one is missing, none is changed.

    Returns:
        All other tensors, unsharded, on the CPU.

    Raises:
        InputError: a file is damaged or a tensor is missing.
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
            # A single process is expected here.
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


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a training run: completed optimizer steps, and the tokens trained in them."""

    step: int
    trained_tokens: int


_NAME = r"step-\d{8}"


def save(folder: Path, network: Any, optimizer: Optimizer, done: Progress, input_hash: str) -> None:
    """Write a checkpoint, then remove older ones.

    Args:
        folder: directory of all checkpoints of this stage.
        network: model whose trainable parameters are saved.
        optimizer: optimizer of exactly these parameters.
        done: progress of the run.
        input_hash: hash of everything that must be unchanged when training resumes.
    """
    target = folder / f"step-{done.step:08d}"
    state = {"step": done.step, "trained_tokens": done.trained_tokens, "input_hash": input_hash}
    with shared_folder(target, "state.json") as temporary:
        write_tensors(_trained(network) | optimizer.state() | _random(), temporary)
        if is_main_process():
            write_atomic(temporary / "state.json", to_json(state))
    if is_main_process():
        for old in _all(folder):
            if old != target:
                shutil.rmtree(old)
        sweep(folder, _NAME)


def _random() -> dict[str, torch.Tensor]:
    """Return the states of the random generators; several processes seed each step instead, see `seed_step`."""
    if rank().world_size > 1:
        return {}
    states = {"random.cpu": torch.get_rng_state()}
    return states | ({"random.cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _all(folder: Path) -> list[Path]:
    """Return all complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if re.fullmatch(_NAME, path.name))


def _trained(network: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


def resume(folder: Path, network: Any, optimizer: Optimizer, input_hash: str) -> Progress | None:
    """Load the latest checkpoint into network, optimizer and random generators; return None if there is none.

    The checkpoint may have been written by another number of processes.

    Raises:
        InputError: the checkpoint was written for other inputs, or is damaged.
    """
    latest = broadcast_from_rank0(lambda: next(reversed(_all(folder)), None))
    if latest is None:
        return None
    with _suggest_removing(latest):
        state = _state(latest / "state.json")
    if state["input_hash"] != input_hash:
        raise InputError(f"checkpoint {latest}: written for other inputs; choose another --output")
    with _suggest_removing(latest):
        random = read_tensors(latest, _trained(network) | optimizer.state())
    if "random.cpu" in random:
        torch.set_rng_state(random["random.cpu"])
    if "random.cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["random.cuda"])
    return Progress(state["step"], state["trained_tokens"])


@contextmanager
def _suggest_removing(latest: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        reason = str(error).partition("; ")[0]
        raise InputError(
            f"checkpoint is damaged: {reason}; remove {latest}: the run then resumes from the previous one, or "
            "from the start"
        ) from error


def _state(file: Path) -> dict[str, Any]:
    state = read_json(file)
    for key in ("step", "trained_tokens", "input_hash"):
        if not isinstance(state, dict) or key not in state:
            raise InputError(f"{file}: lacks {key}")
    return dict(state)


_STATE = "state.json"


def keep_best(folder: Path, network: Any, step: int) -> None:
    """Save the trainable weights after `step`, unless `folder` already contains them.

    Write the checkpoint of the same step first, so that the best weights are on disk whenever the process is killed.
    """
    if kept_step(folder) == step:
        return
    with shared_folder(folder, _STATE) as temporary:
        write_tensors(_weights(network), temporary)
        if is_main_process():
            write_atomic(temporary / _STATE, to_json({"step": step}))


def _weights(network: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


def kept_step(folder: Path) -> int | None:
    """Return the step of the saved weights, or None if there are none."""
    file = folder / _STATE
    return broadcast_from_rank0(lambda: int(read_json(file)["step"]) if file.is_file() else None)


def restore_best(folder: Path, network: Any, step: int) -> None:
    """Load the weights saved after `step` into the network.

    Raises:
        InputError: the folder contains no weights, or those of another step.
    """
    if kept_step(folder) != step:
        raise InputError(
            f"{folder}: does not contain the weights of step {step}; remove {folder.parent} and train again"
        )
    read_tensors(folder, _weights(network))
