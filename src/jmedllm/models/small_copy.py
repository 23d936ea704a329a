"""A small network of the same architecture as a large one, to try out what the architecture does."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from jmedllm.errors import InputError, is_out_of_memory
from jmedllm.models.libraries import be_quiet

_VOCABULARY = 320
_MOST_LAYERS = 8
"""Decoder layers of a copy whose kinds of layers alternate with a longer period."""

_NARROW = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
_SHALLOW = {
    "vocab_size": _VOCABULARY,
    "intermediate_size": 64,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
}
_CHANGES: tuple[Mapping[str, int], ...] = (_NARROW | _SHALLOW, _SHALLOW, {"vocab_size": _VOCABULARY})
"""Sizes to try, smallest network first: not every architecture allows every combination of sizes."""

UNUSABLE = (ValueError, RuntimeError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What architectures raise that do not allow a combination of sizes, when built or when used."""

_GAIN = 1.6
"""Standard deviation of a layer's outputs where its inputs have 1: weights as in training start at about 0.02 a
number, so small that most of what one token does to another hides in the residual stream."""


def small_copies(config: Any) -> Iterator[Any]:
    """Networks of the architecture of `config`, with few layers and random weights in float32, smallest first.

    All that a configuration switches on (kinds of layers, biases, scaling, soft-capping) stays switched on. Of
    composite configurations the text part is built.

    Args:
        config: a transformers configuration of a causal model; it is left as it is.

    Yields:
        Those that can be built; a caller that cannot use one takes the next.
    """
    text = config.get_text_config()
    for changes in _CHANGES:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = _built(text, changes)
        if network is not None:
            yield network


def _built(config: Any, changes: Mapping[str, int]) -> Any | None:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM

    be_quiet()
    try:
        network = AutoModelForCausalLM.from_config(_smaller(config, changes), dtype=torch.float32)
    # Configurations refuse sizes that do not go together in many ways.
    except (*UNUSABLE, StrictDataclassError) as error:
        if is_out_of_memory(error):
            raise InputError(
                "memory runs out on a small copy of the model's layers; free some host memory"
            ) from error
        return None
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1 and not name.endswith("A_log"):  # decay rates are no weights of a sum
                weight.normal_(0, _GAIN / weight[0].numel() ** 0.5)
    return network.eval()


def _smaller(config: Any, changes: Mapping[str, int]) -> Any:
    values: dict[str, Any] = config.to_dict()
    layers = int(config.num_hidden_layers)
    kept = _layers_kept(values.get("layer_types"), layers)
    for name, value in values.items():
        if name in changes and isinstance(value, int) and not isinstance(value, bool):
            values[name] = min(changes[name], value) if value else value
        elif isinstance(value, list) and len(value) == layers > kept:
            values[name] = value[:kept]  # one entry for each layer
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        values[name] = None
    return type(config).from_dict(values | {"num_hidden_layers": kept})


def _layers_kept(kinds: list[str] | None, layers: int) -> int:
    """The first layers that hold every kind of layer there is, at least two."""
    if not kinds:
        return min(layers, 2)
    last = max(kinds.index(kind) for kind in kinds) + 1
    return min(layers, max(2, min(last, _MOST_LAYERS)))
