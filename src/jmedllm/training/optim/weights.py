"""How trained weights are kept from one step to the next, and how a step reaches them.

A bfloat16 number has 8 significant bits, and a usual step is far smaller than the last of them: rounded to
nearest, most steps are lost. Two remedies: keep a float32 copy for the steps (Micikevicius et al. 2018,
arXiv 1710.03740, section 3.1), or round up or down at random, in proportion, so that the mean of the rounded
number is the number itself (Gupta et al. 2015, arXiv 1502.02551).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from jmedllm.training.config import WeightFormatName

State = dict[str, torch.Tensor]

MASTER = "master"
"""Key of a float32 copy among what is kept beside a weight."""

_PART = {"cpu": 2**18, "cuda": 2**24}
"""Numbers that are handled at once: on a CPU as many as fit its caches, see docs/training/offload.md; a GPU wants
few launches."""

PERIOD = 2**16
"""After so many numbers of a tensor the noise that they are rounded by comes again. A CPU draws a random number in
more time than three steps of AdamW take."""


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """One way of keeping weights.

    Attributes:
        dtype: of the weights that the network computes with.
        start: what is kept beside a weight.
        read: a weight's values in float32, for a step to change in place.
        write: puts the values that a step has changed into the weight.
    """

    dtype: torch.dtype
    start: Callable[[torch.Tensor], State]
    read: Callable[[torch.Tensor, State], torch.Tensor]
    write: Callable[[torch.Tensor, torch.Tensor], object]


def part_size(device: torch.device) -> int:
    """Numbers of a tensor on `device` that are handled at once."""
    return _PART.get(device.type, _PART["cuda"])


def chunks(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Flat parts of tensors of one shape, as many numbers at a time as suit the device."""
    size = part_size(tensors[0].device)
    return zip(*(each.view(-1).split(size) for each in tensors), strict=True)


def draw_noise(tensor: torch.Tensor) -> torch.Tensor:
    """What the parts of a tensor are rounded by: integers below 2**16 from torch's generator of the device."""
    drawn = torch.randint(2**16, (PERIOD,), dtype=torch.int32, device=tensor.device)
    longest = min(tensor.numel(), part_size(tensor.device))
    return drawn.repeat(-(-longest // PERIOD))


def round_part(values: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Round float32 values to one of their two bfloat16 neighbours, to each with the probability that makes the
    mean of the result the value itself.

    A bfloat16 number is the first 16 bits of a float32 one, so adding a uniform random number below 2**16 to the
    bits carries into them as often as the other 16 bits say.
    """
    bits = values.view(torch.int32) + noise[: len(values)]
    bits &= -(2**16)
    return bits.view(torch.float32).bfloat16()


def round_stochastically(values: torch.Tensor) -> torch.Tensor:
    """A tensor with each number rounded as in `round_part`."""
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
    """The network with its parameters in the format of `weights`; buffers, such as rotary angles, keep theirs."""
    for parameter in network.parameters():
        parameter.data = parameter.data.to(WEIGHT_FORMATS[weights].dtype)
    return network
