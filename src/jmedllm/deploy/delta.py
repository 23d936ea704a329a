"""Read the update of each weight from an adapter's files, without loading the base."""

import re
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.files import read_json
from jmedllm.models.layers import decoder_of, part_name
from jmedllm.models.loading import loading
from jmedllm.training.lora import adapted_layers

_UNKNOWN = ("modules_to_save", "layer_replication", "lora_bias", "use_qalora", "trainable_token_indices")
"""Settings of peft that change the update and are not supported."""
_CHANGED_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initializations of peft that change the base weights."""


_LEAST_SHARE = 0.01
"""Smaller shares of all weights are not reported as frozen."""


@dataclass(frozen=True, slots=True)
class Delta:
    """The update of one weight [out, in], or of the weights of all experts of a layer [experts, out, in].

    Attributes:
        a: [..., r, in].
        b: [..., out, r].
        scale: factor of the product B A.
        magnitude: [out], the norm of each row of the sum, for DoRA; else None.
        transposed: whether the network stores the weight as [..., in, out].
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None = None
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight as the network stores it."""
        rows, columns = self.b.shape[-2], self.a.shape[-1]
        return (*self.a.shape[:-2], *((columns, rows) if self.transposed else (rows, columns)))

    def add_to(self, weight: torch.Tensor) -> torch.Tensor:
        """Return weight plus update, summed in float32 and rounded once.

        The sum is W + s B A; for DoRA its rows are scaled to `magnitude`. Experts are summed one at a time.
        """
        if weight.dim() == 2:
            return self._sum(weight, self.a, self.b).to(weight.dtype)
        for expert, a, b in zip(whole := weight.clone(), self.a, self.b, strict=True):
            expert.copy_(self._sum(expert, a, b))
        return whole

    def _sum(self, weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        product = (b.to(weight.device).float() @ a.to(weight.device).float()) * self.scale
        total = (weight.T if self.transposed else weight).float() + product
        if self.magnitude is not None:
            total *= (self.magnitude.to(total.device) / torch.linalg.norm(total, dim=1))[:, None]
        return total.T if self.transposed else total


def read_deltas(adapter: Path, network: Any) -> dict[str, Delta]:
    """Read the update of each parameter that a LoRA, rsLoRA or DoRA adapter changes, by the parameter's name.

    Args:
        adapter: PEFT directory.
        network: structure of the base, from `load_structure`; the adapter layers are added to it.

    Raises:
        InputError: the adapter is of another kind, its files are damaged, or it does not fit the network.
    """
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    _require_known(adapter, read_json(adapter / "adapter_config.json"))
    with loading(f"adapter {adapter} on its base"):
        config = PeftConfig.from_pretrained(str(adapter))
        config.base_model_name_or_path = None  # otherwise peft warns that this base has another path
        adapted: Any = get_peft_model(network, config)
        tensors = load_file(adapter / "adapter_model.safetensors")
    if whole := sorted(name for name in tensors if ".lora_" not in name):
        raise InputError(
            f"adapter {adapter}: contains {whole[0]}, a full tensor besides the updates, which merge does "
            "not support; evaluate it with jmedllm eval --adapter"
        )
    for name, wanted in get_peft_model_state_dict(adapted).items():
        if name in tensors and tensors[name].shape != wanted.shape:
            raise InputError(
                f"adapter {adapter}: {name} is {list(tensors[name].shape)}, but on this base it would be "
                f"{list(wanted.shape)}; give the base it was trained on"
            )
    for layer in adapted_layers(adapted).values():
        for part in layer.adapter_layer_names:
            getattr(layer, part).to_empty(device="cpu")
    with loading(f"adapter {adapter} on its base"):
        found: Any = set_peft_model_state_dict(adapted, {name: tensor.float() for name, tensor in tensors.items()})
    if found.unexpected_keys:
        raise InputError(
            f"adapter {adapter}: {found.unexpected_keys[0]} is for a layer that this base does not have or that "
            "the adapter's config does not name; give the base it was trained on"
        )
    if missing := [name for name in found.missing_keys if ".lora_" in name]:
        raise InputError(f"adapter {adapter}: {missing[0]} is missing, though its config names it; copy it again")
    return deltas_on(adapted)


def deltas_on(adapted: Any) -> dict[str, Delta]:
    """Return the updates of a network with an adapter, by the parameter's name; weights may be missing.

    Raises:
        InputError: the adapter changes a module other than linear layers and experts.
    """
    found: dict[str, Delta] = {}
    for name, layer in adapted_layers(adapted.get_base_model()).items():
        if not layer.lora_A or any(each.weight.dim() != 2 for each in layer.lora_A.values()):
            raise InputError(f"adapter target {name}: only linear layers and experts can be merged; leave it out")
        # If several parameters of a module are adapted, peft nests the wrappers.
        parts = [name.replace(".base_layer", ""), getattr(layer, "parameter_name", "weight")]
        found |= {".".join(parts): _delta(layer, adapter) for adapter in layer.lora_A}
    return found


def adapted_share(adapted: Any) -> float:
    """Return the share of all weights in matrices that an adapter changes."""
    base = adapted.get_base_model()
    changed = sum(prod(delta.shape) for delta in deltas_on(adapted).values())
    total: int = sum(each.numel() for name, each in base.named_parameters() if ".lora_" not in name)
    return changed / total


def left_frozen(adapted: Any) -> dict[str, float]:
    """Return the shares of all weights in matrices that an adapter leaves frozen, without embeddings and head.

    Returns:
        Shares by name, with * for the layer index and one entry per tower besides the decoder; largest first, only
        those of 1 % or more.
    """
    base = adapted.get_base_model()
    changed, head = deltas_on(adapted), base.get_output_embeddings()
    decoder = {id(parameter) for parameter in decoder_of(base).parameters()}
    sizes = Counter[str]()
    for name, module in base.named_modules():
        is_known = module is head or isinstance(module, torch.nn.Embedding) or ".lora_" in name
        for kind, parameter in [] if is_known else module.named_parameters(recurse=False):
            whole = f"{name}.{kind}".replace(".base_layer", "")
            if parameter.dim() > 1 and whole not in changed:
                pattern = re.sub(r"\.\d+\.", ".*.", whole.removesuffix(".weight"))
                sizes[pattern if id(parameter) in decoder else part_name(whole)] += parameter.numel()
    total = sum(each.numel() for name, each in base.named_parameters() if ".lora_" not in name)
    return {name: size / total for name, size in sizes.most_common() if size >= _LEAST_SHARE * total}


def _delta(layer: Any, adapter: str) -> Delta:
    a, b = layer.lora_A[adapter].weight.detach(), layer.lora_B[adapter].weight.detach()
    scale: float = layer.scaling[adapter]
    if hasattr(layer, "parameter_name") and layer.get_param().dim() == 3:
        # All experts are in two matrices: [experts * r, in] and [out, r * experts].
        a, b = a.unflatten(0, (layer.num_experts, -1)), b.unflatten(1, (-1, layer.num_experts)).permute(2, 0, 1)
        return Delta(a, b, scale, transposed=getattr(layer.get_base_layer(), "is_transposed", False))
    lengths = layer.lora_magnitude_vector
    magnitude = lengths[adapter].weight.detach().float() if adapter in lengths else None
    return Delta(a, b, scale, magnitude, transposed=bool(layer.fan_in_fan_out))


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
            f"adapter {adapter}: {what} is not supported by merge; supported are plain LoRA, rsLoRA and DoRA"
        )
