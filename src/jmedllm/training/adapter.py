"""The trainable part of stage 2."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from jmedllm.errors import unknown
from jmedllm.models.folder import Quantization
from jmedllm.settings import Settings

Preset = Literal["all-linear", "attention", "qkv"]

_PRESETS = {
    "qkv": ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value", "c_attn", "dense"),
}


class Adapter(Settings):
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) by peft."""

    r: int = Field(16, ge=1, description="rank")
    alpha: int = Field(32, ge=1, description="the update is scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Preset | list[str] = Field("all-linear", description="preset or names of layers")
    quantization: Quantization = Field("none", description="nf4: 4-bit base (QLoRA), needs [gpu]")


def add_adapter(network: Any, settings: Adapter, seed: int) -> Any:
    """Freeze the network and put a fresh adapter on it; `seed` draws its first matrix.

    Raises:
        InputError: a target matches no linear layer; the nearest names are given.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_targets(network, settings.targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(network, config)


def _targets(network: Any, targets: Preset | Sequence[str]) -> str | list[str]:
    if targets == "all-linear":
        return "all-linear"
    present = {
        name.rpartition(".")[2] for name, module in network.named_modules() if hasattr(module, "in_features")
    } | {"c_attn"} & {name.rpartition(".")[2] for name, _ in network.named_modules()}
    if isinstance(targets, str):
        chosen = [name for name in _PRESETS[targets] if name in present]
        if not chosen:
            raise unknown("adapter target preset for this architecture", targets, present)
        return chosen
    for target in targets:
        if target not in present:
            raise unknown("adapter target", target, present)
    return list(targets)
