"""The best weights of a stage so far, beside its checkpoints."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from jmedllm.errors import InputError
from jmedllm.files import atomic_folder, read_json, to_json, write_atomic

_WEIGHTS, _STATE = "weights.safetensors", "state.json"


def keep_best(folder: Path, network: Any, step: int) -> None:
    """Keep the trainable weights as they are after `step`, unless `folder` holds those of this very step.

    A checkpoint of the same step must have been written before: whichever of the two a kill prevents, the
    weights of the best evaluation are then on disk.
    """
    if kept_step(folder) == step:
        return
    weights = {name: p.detach().contiguous() for name, p in network.named_parameters() if p.requires_grad}
    with atomic_folder(folder, _STATE) as temporary:
        save_file(weights, temporary / _WEIGHTS)
        write_atomic(temporary / _STATE, to_json({"step": step}))


def kept_step(folder: Path) -> int | None:
    """The step whose weights are kept; None where there are none."""
    return int(read_json(folder / _STATE)["step"]) if (folder / _STATE).is_file() else None


def restore_best(folder: Path, network: Any, step: int) -> None:
    """Put the weights that were kept after `step` back into the network.

    Raises:
        InputError: others are there, or none.
    """
    if kept_step(folder) != step:
        raise InputError(
            f"{folder}: does not hold the weights of step {step}; remove {folder.parent} and train again"
        )
    weights = load_file(folder / _WEIGHTS)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])
