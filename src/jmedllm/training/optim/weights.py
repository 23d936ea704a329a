"""Weight formats: dtype of the trained weights, and how an optimizer step updates them.

A bfloat16 number has 8 significant bits, and a typical update is far smaller than the last of them, so rounding to
nearest loses most updates. There are two remedies: update a float32 copy (Micikevicius et al. 2018, arXiv 1710.03740,
section 3.1), or round stochastically, so that the expected value of the rounded number is the number itself (Gupta et
al. 2015, arXiv 1502.02551).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from jmedllm.training.config import WeightFormatName

State = dict[str, torch.Tensor]

MASTER = "master"
"""Key of the float32 copy in the state of a weight."""

_PART = {"cpu": 2**18, "cuda": 2**24}
"""Numbers per part: on a CPU as many as fit in its caches, see docs/training/offload.md; on a GPU more, for fewer
kernel launches."""

PERIOD = 2**16
"""The rounding noise of a tensor repeats after this many numbers: on a CPU, drawing a random number takes longer than
three steps of AdamW."""


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """Storage of trained weights.

    Attributes:
        dtype: dtype of the weights that the network computes with.
        start: creates the state of a weight besides its moments.
        read: returns the values of a weight in float32, which a step updates in place.
        write: writes updated values into the weight.
    """

    dtype: torch.dtype
    start: Callable[[torch.Tensor], State]
    read: Callable[[torch.Tensor, State], torch.Tensor]
    write: Callable[[torch.Tensor, torch.Tensor], object]


def part_size(device: torch.device) -> int:
    """Return the numbers per part of a tensor on `device`."""
    return _PART.get(device.type, _PART["cuda"])


def chunks(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Split tensors of one shape into flat parts of `part_size`."""
    size = part_size(tensors[0].device)
    return zip(*(each.view(-1).split(size) for each in tensors), strict=True)


def draw_noise(tensor: torch.Tensor) -> torch.Tensor:
    """Draw the rounding noise of a tensor: integers below 2**16 from torch's generator of the device."""
    drawn = torch.randint(2**16, (PERIOD,), dtype=torch.int32, device=tensor.device)
    longest = min(tensor.numel(), part_size(tensor.device))
    return drawn.repeat(-(-longest // PERIOD))


def round_part(values: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Round float32 values stochastically to one of their two bfloat16 neighbours, without bias.

    A bfloat16 number is the first 16 bits of a float32 number. Adding a uniform random integer below 2**16 to the bits
    carries into them with a probability proportional to the other 16 bits.
    """
    bits = values.view(torch.int32) + noise[: len(values)]
    bits &= -(2**16)
    return bits.view(torch.float32).bfloat16()


def round_stochastically(values: torch.Tensor) -> torch.Tensor:
    """Round each number of a tensor as in `round_part`."""
    rounded = torch.empty(values.shape, dtype=torch.bfloat16, device=values.device)
    noise = draw_noise(values)
    for part, into in chunks(values, rounded):
        into.copy_(round_part(part, noise))
    return rounded


WEIGHT_FORMATS: Mapping[WeightFormatName, WeightFormat] = {
    "float32": WeightFormat(
        torch.float32,
        start=lambda weight: {},
        read=lambda weight, state: weight,
        write=lambda weight, values: None,
    ),
    "bfloat16-master": WeightFormat(
        torch.bfloat16,
        start=lambda weight: {MASTER: weight.detach().float()},
        read=lambda weight, state: state[MASTER],
        write=lambda weight, values: weight.copy_(values),
    ),
    "bfloat16-stochastic": WeightFormat(
        torch.bfloat16,
        start=lambda weight: {},
        read=lambda weight, state: weight.float(),
        write=lambda weight, values: weight.copy_(round_stochastically(values)),
    ),
}


def cast_weights(network: torch.nn.Module, weights: WeightFormatName) -> torch.nn.Module:
    """Cast the trainable parameters of a network to the dtype of `weights`.

    Frozen ones and buffers, such as rotary frequencies, keep theirs.
    """
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(WEIGHT_FORMATS[weights].dtype)
    return network
