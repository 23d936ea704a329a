"""Tensors of a model directory, by their names in llama.cpp."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from jmedllm.deploy.gguf.architectures import Architecture, interleaved, rope_factors
from jmedllm.deploy.shards import tensors_in
from jmedllm.errors import InputError
from jmedllm.models.folder import weight_files
from jmedllm.models.loading import loading

_HEAD = "lm_head.weight"

_FACTORS = "rope_freqs.weight"

_ENDINGS = (".weight", ".bias")


def stored_names(folder: Path, config: Any, architecture: Architecture) -> dict[str, tuple[Path, str]]:
    """Return for each of llama.cpp's names the file and the name there, sorted by llama.cpp's name.

    Raises:
        InputError: llama.cpp has no name for a tensor.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    known = next(each for each in MODEL_ARCH if MODEL_ARCH_NAMES[each] == architecture.name)
    names = get_tensor_name_map(known, config.num_hidden_layers)
    found: dict[str, tuple[Path, str]] = {}
    for file in weight_files(folder):
        with loading(f"weights {file}"), safe_open(file, "pt") as opened:
            stored = list(opened.keys())
        for name in stored:
            if name == _HEAD and config.tie_word_embeddings:
                continue  # llama.cpp uses the embedding
            if name.endswith(".rotary_emb.inv_freq"):
                continue  # derived from the config
            target = names.get_name(name, try_suffixes=_ENDINGS)
            if target is None:
                raise InputError(
                    f"gguf: llama.cpp has no tensor for {name} in {file}; serve the model directory with vLLM or "
                    "transformers"
                )
            found[target] = (file, name)
    return dict(sorted(found.items()))


def shapes(folder: Path, config: Any, architecture: Architecture) -> list[tuple[str, tuple[int, ...]]]:
    """Return llama.cpp's name and the shape of each tensor, in the order of `exported_tensors`."""
    factors = rope_factors(config)
    found = [] if factors is None else [(_FACTORS, tuple(factors.shape))]
    for target, (file, name) in stored_names(folder, config, architecture).items():
        found.append((target, tuple(tensors_in(file)[name]["shape"])))
    return found


def exported_tensors(folder: Path, config: Any, architecture: Architecture) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield llama.cpp's name and the values of each tensor, one at a time, in the dtype of the model's files."""
    if (factors := rope_factors(config)) is not None:
        yield _FACTORS, factors
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads or config.num_attention_heads}
    for target, (file, name) in stored_names(folder, config, architecture).items():
        with safe_open(file, "pt") as opened:
            tensor = opened.get_tensor(name)
        part = target.split(".")[-2]
        if architecture.interleaves and part in heads:
            tensor = interleaved(tensor, heads[part])
        yield target, tensor
