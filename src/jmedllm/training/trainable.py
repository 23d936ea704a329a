"""Check that the training loop supports an architecture, and find how its packed samples are isolated.

The check runs a small copy of the architecture on a few tokens, before anything else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from jmedllm.errors import InputError
from jmedllm.models.small_copy import UNUSABLE, small_copies
from jmedllm.processes import rank
from jmedllm.training.isolation import ISOLATIONS, PackedRows, Segments
from jmedllm.training.loss import split

TOLERANCE = 1e-4
"""Largest accepted difference in float32: of logits as a fraction of their standard deviation, and of a parameter's
gradient as a fraction of the largest gradient."""

_ROWS: Sequence[Sequence[int]] = ((5, 11, 7, 70), (2, 64, 3, 9))
"""Lengths of the packed samples of each row; the rows end in padding.

They are longer than a short convolution, shorter and longer than the chunk of gated delta layers (64 tokens), and one
has a neighbour on both sides.
"""

_PADDING = 3


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences between packed samples and the same samples alone; see `TOLERANCE`."""

    logits: float
    gradients: float

    @property
    def is_exact(self) -> bool:
        """Whether packing changes nothing but rounding."""
        return self.logits <= TOLERANCE and self.gradients <= TOLERANCE


def choose_isolation(config: Any, device: torch.device) -> str:
    """Return the name of the cheapest of `ISOLATIONS` that is exact for an architecture.

    Every candidate computes a small copy of the architecture in float32, with weights that make attention across
    samples visible. The model's own weights are not needed.

    Args:
        config: transformers configuration of the model.
        device: device of the training; kernels differ between devices.

    Raises:
        InputError: no small copy of the architecture can be run, it changes its logits after the head in an unknown
            way, or several processes cannot train it.
    """
    name = _choose(_Architecture(config), str(device))
    if rank().world_size > 1 and not ISOLATIONS[name].calls_once:
        raise InputError(
            f"architecture {config.model_type!r}: packed samples are isolated by {ISOLATIONS[name].description}, "
            "which does not work with several processes; use one"
        )
    return name


class _Architecture:
    """A configuration that is compared by its values, so that it can be a key of a cache."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.values = config.to_json_string(use_diff=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Architecture) and self.values == other.values

    def __hash__(self) -> int:
        return hash(self.values)


@lru_cache(maxsize=16)
def _choose(architecture: _Architecture, device: str) -> str:
    config = architecture.config
    for network in small_copies(config):
        try:
            samples = _Samples.of(network.to(device))
        except UNUSABLE:
            continue  # sizes with which the architecture can be built but not run
        if not samples.head_difference <= TOLERANCE:
            raise InputError(
                f"architecture {config.model_type!r} changes its logits after the head in an unknown way (by up to "
                f"{samples.head_difference:.2g} standard deviations), so training cannot compute its loss; choose "
                "another base"
            )
        for name, found in samples.differences():
            if found is not None and found.is_exact:
                return name
    raise InputError(
        f"architecture {config.model_type!r}: no small copy of it can be run to check that packed samples do not see "
        "one another; choose another base"
    )


def differences(network: Any) -> dict[str, Differences]:
    """Compare packed samples with the same samples alone, for each of `ISOLATIONS` that the network supports."""
    found = _Samples.of(network).differences()
    return {name: each for name, each in found if each is not None}


@dataclass(frozen=True, slots=True)
class _Samples:
    """Samples in packed rows, and what the network gives for each of them alone.

    Attributes:
        logits: logits of all samples alone, [sum of lengths, V].
        gradients: sum of the gradients of all samples alone, by parameter.
        head_difference: between the head applied to the decoder's hidden states and the network's own logits.
    """

    network: Any
    rows: PackedRows
    logits: torch.Tensor
    gradients: Mapping[str, torch.Tensor]
    head_difference: float

    @classmethod
    def of(cls, network: Any) -> "_Samples":
        decoder, head = split(network)
        generator = torch.Generator().manual_seed(0)
        longest = max(sum(lengths) for lengths in _ROWS) + _PADDING
        words = network.config.get_text_config().vocab_size
        ids = torch.randint(1, words, (len(_ROWS), longest), generator=generator).to(network.device)
        positions = torch.zeros_like(ids)
        starts, lengths = [], []
        for number, row in enumerate(_ROWS):
            start = 0
            for length in row:
                positions[number, start : start + length] = torch.arange(length)
                starts.append(number * longest + start)
                lengths.append(length)
                start += length
        segments = Segments(starts, lengths)
        samples = ids.flatten()[segments.tokens.to(network.device)].split(lengths)
        network.zero_grad()
        logits, apart = [], 0.0
        for sample in samples:
            alone = head(ISOLATIONS["positions"].hidden(decoder, _one(sample)))[0]
            own = network(input_ids=sample[None], use_cache=False).logits[0]
            apart = max(apart, _difference(alone.detach(), own.detach()))
            _loss(alone, sample).backward()
            logits.append(alone.detach())
        return cls(network, PackedRows(ids, positions, segments), torch.cat(logits), _gradients(network), apart)

    def differences(self) -> Iterator[tuple[str, Differences | None]]:
        """Yield the differences of each way to isolate; None if the architecture does not support it."""
        for name in ISOLATIONS:
            try:
                yield name, self.differences_of(name)
            except UNUSABLE:
                yield name, None

    def differences_of(self, name: str) -> Differences:
        """Compare the packed samples, isolated in one way, with the samples alone."""
        decoder, head = split(self.network)
        self.network.zero_grad()
        hidden = ISOLATIONS[name].hidden(decoder, PackedRows(self.rows.ids, self.rows.positions))
        tokens = self.rows.segments.tokens.to(hidden.device)
        logits = head(hidden.flatten(0, 1)[tokens])
        lengths = list(self.rows.segments.lengths)
        each = zip(logits.split(lengths), self.rows.ids.flatten()[tokens].split(lengths), strict=True)
        torch.stack([_loss(part, sample) for part, sample in each]).sum().backward()
        found = _gradients(self.network)
        largest = max(gradient.abs().max().item() for gradient in self.gradients.values())
        return Differences(
            _difference(logits.detach(), self.logits),
            max((found[key] - self.gradients[key]).abs().max().item() for key in self.gradients) / largest,
        )


def _one(sample: torch.Tensor) -> PackedRows:
    return PackedRows(sample[None], torch.arange(len(sample), device=sample.device)[None])


def _loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits[:-1], ids[1:], reduction="sum")


def _gradients(network: Any) -> dict[str, torch.Tensor]:
    named = ((name, each.grad) for name, each in network.named_parameters())
    return {name: gradient.clone() for name, gradient in named if gradient is not None}


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.std()).item()
