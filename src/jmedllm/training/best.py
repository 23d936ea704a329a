"""The best weights of a stage so far, beside its checkpoints."""

from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.files import read_json, to_json, write_atomic
from jmedllm.processes import broadcast_from_rank0, is_main_process
from jmedllm.training.storage import read_tensors, shared_folder, write_tensors

_STATE = "state.json"


def keep_best(folder: Path, network: Any, step: int) -> None:
    """Keep the trainable weights as they are after `step`, unless `folder` holds those of this very step.

    A checkpoint of the same step must have been written before: whichever of the two a kill prevents, the
    weights of the best evaluation are then on disk.
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
    """The step whose weights are kept; None where there are none."""
    file = folder / _STATE
    return broadcast_from_rank0(lambda: int(read_json(file)["step"]) if file.is_file() else None)


def restore_best(folder: Path, network: Any, step: int) -> None:
    """Put the weights that were kept after `step` back into the network.

    Raises:
        InputError: others are there, or none.
    """
    if kept_step(folder) != step:
        raise InputError(f"{folder}: does not hold the weights of step {step}; remove {folder.parent} and train again")
    read_tensors(folder, _weights(network))
