"""The state of a training run on disk: whole or not there, in safetensors and JSON only."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.files import read_json, sweep, to_json, write_atomic
from jmedllm.processes import broadcast_from_rank0, is_main_process, rank
from jmedllm.training.optim.optimizer import Optimizer
from jmedllm.training.storage import read_tensors, shared_folder, write_tensors


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a checkpoint hands back beside the tensors it has put in place."""

    step: int
    trained_tokens: int


_NAME = r"step-\d{8}"


def save(
    folder: Path,
    network: Any,
    optimizer: Optimizer,
    step: int,
    trained_tokens: int,
    input_hash: str,
) -> None:
    """Write the checkpoint after `step` steps and then remove older ones.

    Args:
        folder: directory of all checkpoints of this stage.
        network: its trainable parameters are saved.
        optimizer: over exactly these parameters.
        step: optimiser steps done.
        trained_tokens: tokens trained so far.
        input_hash: hash of everything that must be the same when the run goes on.
    """
    target = folder / f"step-{step:08d}"
    state = {"step": step, "trained_tokens": trained_tokens, "input_hash": input_hash}
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
    """The random generators; several processes draw by the step instead, see `draw_apart`."""
    if rank().world_size > 1:
        return {}
    states = {"random.cpu": torch.get_rng_state()}
    return states | ({"random.cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _all(folder: Path) -> list[Path]:
    """All whole checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if re.fullmatch(_NAME, path.name))


def _trained(network: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


def resume(folder: Path, network: Any, optimizer: Optimizer, input_hash: str) -> Resumed | None:
    """Put the latest checkpoint into network, optimiser and random generators; None where there is none.

    It may have been written by another number of processes.

    Raises:
        InputError: the checkpoint was written for other inputs, or is damaged.
    """
    latest = broadcast_from_rank0(lambda: next(reversed(_all(folder)), None))
    if latest is None:
        return None
    with _mended_by_removing(latest):
        state = _state(latest / "state.json")
    if state["input_hash"] != input_hash:
        raise InputError(f"checkpoint {latest}: written for other inputs; choose another --output")
    with _mended_by_removing(latest):
        random = read_tensors(latest, _trained(network) | optimizer.state())
    if "random.cpu" in random:
        torch.set_rng_state(random["random.cpu"])
    if "random.cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["random.cuda"])
    return Resumed(state["step"], state["trained_tokens"])


@contextmanager
def _mended_by_removing(latest: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        told = str(error).partition("; ")[0]
        raise InputError(
            f"checkpoint is damaged: {told}; remove {latest}: the run goes on from the one before it, or else "
            "from the start"
        ) from error


def _state(file: Path) -> dict[str, Any]:
    state = read_json(file)
    for key in ("step", "trained_tokens", "input_hash"):
        if not isinstance(state, dict) or key not in state:
            raise InputError(f"{file}: lacks {key}")
    return dict(state)
