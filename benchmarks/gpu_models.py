"""Models of a real shape with random weights, created on the device: nothing is downloaded."""

from collections.abc import Mapping
from typing import Any

import torch

from jmedllm.planning.shape import config_of, structure

SPREAD = 0.02
"""Standard deviation of random weights, as transformers draws them for both shapes."""


def config(model: str | Mapping[str, Any]) -> dict[str, Any]:
    """The config of a model, given by a name that `jmedllm plan` knows or as a mapping."""
    return config_of(model) if isinstance(model, str) else dict(model)


def random_network(values: Mapping[str, Any], device: torch.device, home: torch.device) -> Any:
    """A network of this config in bfloat16.

    Args:
        values: contents of config.json; head and embedding must not be tied.
        device: draws the weights, one after another.
        home: keeps them.
    """
    network = structure(values, "the benchmark's model", torch.bfloat16)
    torch.manual_seed(0)
    _fill(network, device, home)
    return network


def random_nf4_network(values: Mapping[str, Any], device: torch.device) -> Any:
    """The same network with all linear layers of the decoder in 4 bits, as `models.loading` loads them.

    One matrix after another is drawn and quantized, so that only one exists in bfloat16 at a time.

    Raises:
        ImportError: bitsandbytes is not installed.
    """
    import bitsandbytes

    network = structure(values, "the benchmark's model", torch.bfloat16)
    torch.manual_seed(0)
    for parent in list(network.get_decoder().modules()):
        for name, linear in list(parent.named_children()):
            if isinstance(linear, torch.nn.Linear):
                setattr(parent, name, _in_4_bits(bitsandbytes.nn, linear, device))
    _fill(network, device, device)
    network.is_loaded_in_4bit = True  # peft reads this
    return network


def _in_4_bits(library: Any, linear: torch.nn.Linear, device: torch.device) -> Any:
    """A 4-bit layer with random weights in place of one on the meta device; its bias is drawn later."""
    rounded = library.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=torch.bfloat16,
        quant_type="nf4",
        device="meta",
    )
    rounded.to(torch.bfloat16)
    drawn = torch.empty(linear.weight.shape, dtype=torch.bfloat16, device=device).normal_(std=SPREAD)
    rounded.weight = library.Params4bit(drawn, requires_grad=False, quant_type="nf4", module=rounded).to(device)
    return rounded


def _fill(network: Any, device: torch.device, home: torch.device) -> None:
    """Fill everything on the meta device: parameters at random, buffers as their module computes them."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                drawn = _drawn(empty, name).to(home)
                module._parameters[name] = torch.nn.Parameter(drawn, parameter.requires_grad)
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            for name, buffer in type(module)(module.config).named_buffers(recurse=False):
                module._buffers[name] = buffer.to(home)


def _drawn(empty: torch.Tensor, name: str) -> torch.Tensor:
    if empty.dim() >= 2:
        return empty.normal_(std=SPREAD)
    return empty.zero_() if name == "bias" else empty.fill_(1.0)


def word_tokenizer(size: int) -> Any:
    """A tokenizer of `size` words w0, w1, …: a text has as many tokens as words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w0", pad_token="w0")
