"""What an adapter does to each weight of its base, read from the adapter's files without loading the base."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.files import read_json
from jmedllm.models.loading import loading

_PREFIX = "base_model.model."
_PARTS = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
_UNKNOWN = ("rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "lora_bias", "use_qalora")
"""Settings of peft that change what is added, which is not done here."""
_CHANGED_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initialisations by which peft changes the base itself."""


@dataclass(frozen=True, slots=True)
class Delta:
    """The update of one weight [out, in].

    Attributes:
        a: [r, in].
        b: [out, r].
        scale: of the product B A.
        magnitude: [out], the length of each row of the sum, for DoRA; else None.
        transposed: the base stores the weight as [in, out].
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight as the base stores it."""
        rows, columns = len(self.b), self.a.shape[1]
        return (columns, rows) if self.transposed else (rows, columns)

    def add_to(self, weight: torch.Tensor) -> torch.Tensor:
        """Weight plus update in float32: W + s B A, and for DoRA its rows scaled to their magnitude."""
        product = (self.b.to(weight.device) @ self.a.to(weight.device)) * self.scale
        total = (weight.T if self.transposed else weight) + product
        if self.magnitude is not None:
            total *= (self.magnitude.to(total.device) / torch.linalg.norm(total, dim=1))[:, None]
        return total.T if self.transposed else total


def read_deltas(adapter: Path) -> dict[str, Delta]:
    """The update of each layer that a LoRA, rsLoRA or DoRA adapter adapts, by the layer's name.

    Raises:
        InputError: the adapter is of another kind, or its files are broken.
    """
    from safetensors.torch import load_file

    config = read_json(adapter / "adapter_config.json")
    _require_known(adapter, config)
    with loading(f"adapter {adapter}"):
        tensors = load_file(adapter / "adapter_model.safetensors")
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        part = next((part for part in _PARTS if name.endswith(f".{part}")), None)
        if part is None or not name.startswith(_PREFIX):
            raise InputError(f"adapter {adapter}: {name} is nothing a merge knows; sit it with exam --adapter")
        layer = name.removeprefix(_PREFIX).removesuffix(f".{part}")
        layers.setdefault(layer, {})[part] = tensor.float()
    rank, alpha = config["r"], config["lora_alpha"]
    scale = alpha / sqrt(rank) if config.get("use_rslora") else alpha / rank
    transposed = bool(config.get("fan_in_fan_out"))
    return {layer: _delta(adapter, layer, parts, scale, transposed) for layer, parts in layers.items()}


def _delta(adapter: Path, layer: str, parts: Mapping[str, torch.Tensor], scale: float, transposed: bool) -> Delta:
    for part in _PARTS[:2]:
        if part not in parts:
            raise InputError(f"adapter {adapter}: {layer} has no {part}; save the adapter again")
    return Delta(parts[_PARTS[0]], parts[_PARTS[1]], scale, parts.get(_PARTS[2]), transposed)


def _require_known(adapter: Path, config: dict[str, Any]) -> None:
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(_CHANGED_BASE):
        raise InputError(
            f"adapter {adapter}: was trained on a base that {start} had changed; convert it to plain LoRA by "
            "peft's path_initial_model_for_weight_conversion"
        )
    strange = [name for name in _UNKNOWN if config.get(name)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or strange:
        what = strange[0] if strange else f"{config.get('peft_type')} with bias {config.get('bias', 'none')}"
        raise InputError(
            f"adapter {adapter}: {what} is nothing a merge knows; it can merge plain LoRA, rsLoRA and DoRA"
        )
