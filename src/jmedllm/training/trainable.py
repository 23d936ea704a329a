"""Check that the training loop supports an architecture, on a few tokens before anything else."""

from dataclasses import dataclass
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.models.small_copy import UNUSABLE, small_copies
from jmedllm.training.loss import split

TOLERANCE = 1e-4
"""Largest accepted difference of logits in float32, as a fraction of their standard deviation. On the architectures in
tests/models/backends/test_capabilities.py, isolated packing stays below 1e-5; the smallest difference of any
configuration in which samples attend to one another is 1.26."""

LENGTHS = (5, 11, 7)
"""Lengths of the packed samples: longer than a short convolution, all different, one with neighbours on both sides."""

_ALTERNATIVES = "Llama 3, Mistral, Swallow, Gemma 3 and MedGemma can be trained"


@dataclass(frozen=True, slots=True)
class Differences:
    """Largest differences of logits, as fractions of their standard deviation.

    Attributes:
        packed: between a sample in a packed row and the same sample alone.
        head: between the head applied to the decoder's hidden states and the network's own logits.
    """

    packed: float
    head: float


def require_trainable(config: Any, device: torch.device) -> None:
    """Check that packed samples do not attend to one another and that the chunked loss equals the network's own.

    The check runs a small copy of the architecture in float32, with weights that make attention across samples
    visible. It does not need the model's own weights.

    Args:
        config: transformers configuration of the model.
        device: device of the training; kernels differ between devices.

    Raises:
        InputError: packed samples attend to one another; the architecture changes its logits after the head
            (soft-capping, scaling); or no small copy of it can be run.
    """
    kind = config.model_type
    found = _differences_of(config, device)
    if found is None:
        raise InputError(
            f"architecture {kind!r}: no small copy of it can be run to check that packed samples do not see one "
            f"another; {_ALTERNATIVES}"
        )
    if not found.head <= TOLERANCE:
        raise InputError(
            f"architecture {kind!r} changes its logits after the head (soft-capping or scaling, by up to "
            f"{found.head:.2g} standard deviations), which training does not support yet; {_ALTERNATIVES}"
        )
    if not found.packed <= TOLERANCE:
        raise InputError(
            f"architecture {kind!r} lets packed samples see one another (logits change by up to "
            f"{found.packed:.2g} standard deviations), which training does not support yet; {_ALTERNATIVES}"
        )


def _differences_of(config: Any, device: torch.device) -> Differences | None:
    for network in small_copies(config):
        try:
            return differences(network.to(device))
        except UNUSABLE:
            continue  # sizes with which the architecture can be built but not run
    return None


@torch.no_grad()
def differences(network: Any) -> Differences:
    """Compare packed samples with the same samples alone, and the logits of the head with the network's own."""
    decoder, head = split(network)
    words = network.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randint(1, words, (1, length), generator=generator).to(network.device) for length in LENGTHS]
    positions = torch.cat([torch.arange(length, device=network.device) for length in LENGTHS])[None]
    packed = _hidden(decoder, torch.cat(samples, dim=1), position_ids=positions).split(LENGTHS, dim=1)
    alone = [head(_hidden(decoder, sample)) for sample in samples]
    own = [network(input_ids=sample, use_cache=False).logits for sample in samples]
    return Differences(
        packed=max(_difference(head(each), other) for each, other in zip(packed, alone, strict=True)),
        head=max(_difference(each, other) for each, other in zip(alone, own, strict=True)),
    )


def _hidden(decoder: Any, ids: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = decoder(input_ids=ids, attention_mask=None, use_cache=False, **inputs).last_hidden_state
    return hidden


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.std()).item()
