"""Sizes of a model, counted on its structure: from its config alone, without weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from jmedllm.errors import InputError, NoSuchPathError
from jmedllm.files import read_json
from jmedllm.models.classes import class_for
from jmedllm.models.experts import chosen_experts, expert_layers
from jmedllm.models.folder import is_hub_id, require_no_gguf, require_unambiguous, resolve
from jmedllm.models.layers import decoder_layers, layer_list
from jmedllm.models.libraries import be_quiet
from jmedllm.models.loading import loading
from jmedllm.planning.published import published_config

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes from which memory and time are estimated; all but the first two are numbers of parameters.

    Attributes:
        layers: number of decoder layers.
        period: number of layers after which their sizes repeat, such as 4 for three gated delta layers and one of
            attention; `layers` if they do not.
        queries: total width of the query heads.
        embedding: input embedding.
        head: output head; 0 if it shares the weights of the embedding.
        linear: linear layers in all decoder layers, without biases; these can be quantized to 4 bits.
        experts: matrices of all routed experts that are not linear layers.
        active_experts: those of the experts that one token passes through.
        largest_matrix: largest of these linear layers.
        largest_layer: largest decoder layer.
        in_layers: all decoder layers.
        total: whole model.
    """

    layers: int
    period: int
    queries: int
    embedding: int
    head: int
    linear: int
    experts: int
    active_experts: int
    largest_matrix: int
    largest_layer: int
    in_layers: int
    total: int

    @property
    def active(self) -> int:
        """Parameters that one token passes through, with the embedding and the head."""
        return self.total - self.experts + self.active_experts


def structure(values: Mapping[str, Any], name: str, dtype: torch.dtype) -> Any:
    """Build the network of a config on the device "meta", without values of parameters.

    Args:
        values: content of config.json.
        name: name of the model, for messages.
        dtype: dtype of the parameters.

    Raises:
        InputError: a size is missing or invalid, or transformers does not support the architecture.
    """
    from transformers import AutoConfig

    text = values.get("text_config")
    config = {**values, **text} if isinstance(text, Mapping) else values
    fix = "take the config.json of a causal model"
    if missing := [key for key in ("model_type", *_SIZES) if key not in config]:
        raise InputError(f"config of {name}: lacks {', '.join(missing)}; {fix}")
    if wrong := [key for key in _SIZES if not (isinstance(config[key], int) and config[key] > 0)]:
        raise InputError(f"config of {name}: {wrong[0]} is {config[wrong[0]]!r}, not a number above 0; {fix}")
    be_quiet()
    with loading(f"config of {name}"), torch.device("meta"), TemporaryDirectory() as folder:
        # Only reading from a file decodes what JSON has no word for, such as infinity.
        (Path(folder) / "config.json").write_text(json.dumps(values), encoding="utf-8")
        config = AutoConfig.from_pretrained(folder)
        return class_for(config).from_config(config, dtype=dtype)


def shape_of(network: Any) -> Shape:
    """Count the parameters of a causal model, with or without values.

    Raises:
        InputError: its decoder layers cannot be found, or have no linear layer.
    """
    layers: list[Any] = decoder_layers(network)
    embedding, head = network.get_input_embeddings(), network.get_output_embeddings()
    sizes = network.config.get_text_config()
    width = getattr(sizes, "head_dim", None) or sizes.hidden_size // sizes.num_attention_heads
    linear = [m.weight.numel() for layer in layers for m in layer.modules() if hasattr(m, "in_features")]
    if not linear:
        raise InputError(
            f"architecture {network.config.model_type!r} has no linear layers in its decoder layers; choose a "
            "base of the Llama or Qwen family"
        )
    routed = [
        (layer, sum(size for name, size in layer.matrices.items() if not _is_linear(network, name)))
        for layer in expert_layers(network)
    ]
    sizes_of_layers = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    return Shape(
        layers=len(layers),
        period=_period(sizes_of_layers),
        queries=sizes.num_attention_heads * width,
        embedding=embedding.weight.numel(),
        head=0 if head.weight is embedding.weight else head.weight.numel(),
        linear=sum(linear),
        experts=sum(size for _, size in routed),
        active_experts=sum(size * chosen_experts(sizes, layer) // layer.count for layer, size in routed),
        largest_matrix=max(linear),
        largest_layer=max(sizes_of_layers),
        in_layers=sum(sizes_of_layers),
        total=sum(p.numel() for p in network.parameters()),
    )


def _is_linear(network: Any, parameter: str) -> bool:
    return hasattr(network.get_submodule(parameter.rpartition(".")[0]), "in_features")


def _period(sizes: list[int]) -> int:
    return next(n for n in range(1, len(sizes) + 1) if len(sizes) % n == 0 and sizes == sizes[:n] * (len(sizes) // n))


def keep_layers(network: Any, count: int) -> None:
    """Remove all but the first `count` decoder layers of a causal model."""
    del layer_list(network)[count:]


def config_of(path: str, revision: str | None = None, *, ignore_adapter: bool = False) -> dict[str, Any]:
    """Read the config.json of a base from a directory or the local cache, else from those that come with jmedllm.

    Raises:
        InputError: the base is unknown, the file is not a JSON object, or the folder also contains an adapter.
    """
    require_no_gguf(Path(path))
    try:
        folder = Path(path) if Path(path).is_dir() else resolve(path, revision=revision)
    except InputError:
        if published := published_config(path):
            return dict(published.values)
        cached = ", and not in the local Hugging Face cache" if is_hub_id(path) else ""
        raise NoSuchPathError(
            Path(path),
            f"base {path}: no such directory{cached}; give a directory with the model's config.json",
        ) from None
    require_unambiguous(folder, ignore_adapter=ignore_adapter)
    file = folder / "config.json"
    values = read_json(file)
    if not isinstance(values, dict):
        raise InputError(f"{file}: is not a JSON object; take the config.json of a causal model")
    return values
