"""How trained weights are kept from one step to the next, and how a step reaches them.

A bfloat16 number has 8 significant bits, and a usual step is far smaller than the last of them: rounded to
nearest, most steps are lost. Two remedies: keep a float32 copy for the steps (Micikevicius et al. 2018,
arXiv 1710.03740, section 3.1), or round up or down at random, in proportion, so that the mean of the rounded
number is the number itself (Gupta et al. 2015, arXiv 1502.02551).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from jmedllm.training.optimization import Weights

State = dict[str, torch.Tensor]

MASTER = "master"
"""Key of a float32 copy among what is kept beside a weight."""

PART = 2**24
"""Numbers that are rounded at once; their random numbers take four bytes each."""


@dataclass(frozen=True, slots=True)
class Keeping:
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


def round_stochastically(values: torch.Tensor) -> torch.Tensor:
    """Round float32 values to one of their two bfloat16 neighbours, to each with the probability that makes the
    mean of the result the value itself. Draws from torch's generator of the device.

    A bfloat16 number is the first 16 bits of a float32 one, so adding a uniform random number below 2**16 to the
    bits carries into them as often as the other 16 bits say.
    """
    rounded = torch.empty(values.shape, dtype=torch.bfloat16, device=values.device)
    parts = zip(values.reshape(-1).split(PART), rounded.view(-1).split(PART), strict=True)
    for part, into in parts:
        bits = part.view(torch.int32)
        carried = (bits + torch.randint_like(bits, 2**16)) & -(2**16)
        into.copy_(carried.view(torch.float32))
    return rounded


KEEPINGS: Mapping[Weights, Keeping] = {
    "float32": Keeping(
        torch.float32,
        start=lambda weight: {},
        read=lambda weight, state: weight,
        write=lambda weight, values: None,
    ),
    "bfloat16-master": Keeping(
        torch.bfloat16,
        start=lambda weight: {MASTER: weight.detach().float()},
        read=lambda weight, state: state[MASTER],
        write=lambda weight, values: weight.copy_(values),
    ),
    "bfloat16-stochastic": Keeping(
        torch.bfloat16,
        start=lambda weight: {},
        read=lambda weight, state: weight.float(),
        write=lambda weight, values: weight.copy_(round_stochastically(values)),
    ),
}


def in_format(network: torch.nn.Module, weights: Weights) -> torch.nn.Module:
    """The network with its parameters in the format of `weights`; buffers, such as rotary angles, keep theirs."""
    for parameter in network.parameters():
        parameter.data = parameter.data.to(KEEPINGS[weights].dtype)
    return network
