"""Ways to keep the samples of a packed row from seeing one another, which differ between architectures.

Attention ignores other samples if it gets the right mask; layers with a state, such as short convolutions, Mamba and
gated delta layers, carry it from one sample to the next unless each sample is computed alone.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from jmedllm.models.layers import decoder_of


@dataclass(frozen=True)
class PackedRows:
    """Rows of packed samples.

    Attributes:
        ids: [B, T] token ids.
        positions: [B, T], restarting at 0 with every sample and every padding token.
        known_segments: places of the samples, if they cannot be read from `positions` because those have no values.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    known_segments: "Segments | None" = None

    @cached_property
    def segments(self) -> "Segments":
        """Places of the samples in the rows."""
        if self.known_segments is not None:
            return self.known_segments
        starts = (self.positions == 0).flatten()
        return Segments.of_starts(starts.nonzero()[:, 0].tolist(), starts.numel())


@dataclass(frozen=True)
class Segments:
    """Places of N samples in B rows of T tokens, which are numbered from 0 to B * T.

    Attributes:
        starts: number of each sample's first token.
        lengths: number of tokens of each sample.
    """

    starts: Sequence[int]
    lengths: Sequence[int]

    @classmethod
    def of_starts(cls, starts: Sequence[int], end: int) -> "Segments":
        """Return the segments that begin at `starts`; neighbours of one token, such as padding, become one segment.

        The first token of a sample is never trained, so what a sample of one token sees does not matter.
        """
        found: list[list[int]] = []
        for start, following in zip(starts, [*starts[1:], end], strict=True):
            is_one = following == start + 1
            if is_one and found and found[-1][2]:
                found[-1][1] += 1
            else:
                found.append([start, following - start, is_one])
        return cls([each[0] for each in found], [each[1] for each in found])

    @cached_property
    def buckets(self) -> Sequence["Segments"]:
        """The segments grouped by the power of two above their length, to be padded to the same length."""
        groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for start, length in zip(self.starts, self.lengths, strict=True):
            groups[(length - 1).bit_length()].append((start, length))
        return [Segments(*zip(*members, strict=True)) for _, members in sorted(groups.items())]

    @cached_property
    def tokens(self) -> torch.Tensor:
        """Numbers of the tokens of all segments, [sum of lengths], on the CPU."""
        return _ranges(self.starts, self.lengths)

    @cached_property
    def padded_tokens(self) -> torch.Tensor:
        """Numbers of the same tokens in rows [N, L] that are padded on the right, on the CPU."""
        longest = max(self.lengths)
        return _ranges(range(0, len(self.lengths) * longest, longest), self.lengths)

    @cached_property
    def order(self) -> torch.Tensor:
        """For each token, its place among the tokens of all `buckets`, on the CPU."""
        return torch.cat([bucket.tokens for bucket in self.buckets]).argsort()


def _ranges(starts: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
    return torch.cat([torch.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])


def apply_alone(function: Callable[[torch.Tensor], Any], rows: torch.Tensor, segments: Segments) -> Any:
    """Apply a causal function to each segment alone.

    Args:
        function: maps [n, L, ...] to [n, L, ...], or to a tuple that begins with such a tensor. Shorter segments
            are padded on the right to L.
        rows: [B, T, ...].
        segments: places of the samples in the rows.

    Returns:
        [B, T, ...], or a tuple that begins with it, whose other members are those of the last call.
    """
    flat, found, others = rows.flatten(0, 1), [], None
    for bucket in segments.buckets:
        samples = flat[bucket.tokens.to(rows.device)].split(list(bucket.lengths))
        output = function(pad_sequence(samples, batch_first=True))
        if isinstance(output, tuple):
            output, *others = output
        found.append(output.flatten(0, 1)[bucket.padded_tokens.to(rows.device)])
    whole = torch.cat(found)[segments.order.to(rows.device)].unflatten(0, rows.shape[:2])
    return whole if others is None else (whole, *others)


Hidden = Callable[[Any, PackedRows], torch.Tensor]
"""Decoder and packed rows → hidden states [B, T, H]."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """A way to compute the hidden states of packed samples.

    Attributes:
        description: what isolates the samples, for users.
        hidden: computes the hidden states.
        calls_once: whether each batch is one call of the decoder, as sharded weights need it: processes gather them
            together.
    """

    description: str
    hidden: Hidden
    calls_once: bool = True


def _by_positions(decoder: Any, rows: PackedRows) -> torch.Tensor:
    return _run(decoder, rows.ids, rows.positions, None)


def _by_masks(decoder: Any, rows: PackedRows) -> torch.Tensor:
    from transformers.masking_utils import create_masks_for_generate

    dtype = decoder.get_input_embeddings().weight.dtype  # its device may be another: see `offload_embedding`
    embedded = torch.empty(*rows.ids.shape, 1, dtype=dtype, device=rows.ids.device)
    masks = create_masks_for_generate(decoder.config, embedded, None, None, position_ids=rows.positions)
    return _run(decoder, rows.ids, rows.positions, masks)


def _by_sequence_lengths(decoder: Any, rows: PackedRows) -> torch.Tensor:
    """Pass the borders to kernels that take them, under the names that transformers and their authors use."""
    segments, device = rows.segments, rows.ids.device
    borders = torch.tensor([*segments.starts, rows.ids.numel()], dtype=torch.int32, device=device)
    longest = max(segments.lengths)
    numbers = torch.arange(len(segments.lengths), device=device, dtype=torch.int32)
    indices = numbers.repeat_interleave(torch.tensor(segments.lengths, device=device))[None]
    hidden = _run(
        decoder,
        rows.ids.reshape(1, -1),
        rows.positions.reshape(1, -1),
        None,
        cu_seq_lens_q=borders,
        cu_seq_lens_k=borders,
        max_length_q=longest,
        max_length_k=longest,
        seq_idx=indices,
    )
    return hidden.view(*rows.ids.shape, -1)


def _mixers_alone(attention: Hidden) -> Hidden:
    def hidden(decoder: Any, rows: PackedRows) -> torch.Tensor:
        _border_of(decoder).announced = rows.segments
        return attention(decoder, rows)

    return hidden


def _samples_alone(decoder: Any, rows: PackedRows) -> torch.Tensor:
    def run(ids: torch.Tensor) -> torch.Tensor:
        return _run(decoder, ids, torch.arange(ids.shape[1], device=ids.device).expand(ids.shape), None)

    hidden: torch.Tensor = apply_alone(run, rows.ids, rows.segments)
    return hidden


def _run(decoder: Any, ids: torch.Tensor, positions: torch.Tensor, mask: Any, **lengths: Any) -> torch.Tensor:
    output = decoder(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False, **lengths)
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


@dataclass
class _Border:
    """Where the mixers of a decoder reset their state.

    Attributes:
        announced: segments of the next call of the decoder.
        segments: segments of its last call, which recomputation of activations needs; None for calls without packed
            samples, such as generation.
    """

    announced: Segments | None = None
    segments: Segments | None = None

    def begin(self, *_: Any) -> None:
        """Take the announced segments, at the start of each call of the decoder."""
        self.segments, self.announced = self.announced, None


_BORDER = "_jmedllm_border"


def _border_of(decoder: Any) -> _Border:
    """Return the border of a decoder; the first call makes its mixers follow it."""
    if not hasattr(decoder, _BORDER):
        border = _Border()
        setattr(decoder, _BORDER, border)
        decoder.register_forward_pre_hook(border.begin)
        for module in decoder.modules():
            # Layers that carry a state between tokens also have a short convolution over them.
            if any(isinstance(child, torch.nn.Conv1d) for child in module.children()):
                module.forward = _following(module.forward, border)
    found: _Border = getattr(decoder, _BORDER)
    return found


def _following(forward: Callable[..., Any], border: _Border) -> Callable[..., Any]:
    def run(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if border.segments is None:
            return forward(hidden_states, *args, **kwargs)
        if "attention_mask" in kwargs:
            kwargs["attention_mask"] = None  # it would mask padding, and there is none within a segment
        return apply_alone(lambda padded: forward(padded, *args, **kwargs), hidden_states, border.segments)

    return run


ISOLATIONS: Mapping[str, Isolation] = {
    "positions": Isolation("their positions", _by_positions),
    "masks": Isolation("a mask for each kind of layer", _by_masks),
    "sequence_lengths": Isolation("their lengths, which the kernels take", _by_sequence_lengths),
    "mixers": Isolation(
        "their positions, and layers with a state compute each sample alone", _mixers_alone(_by_positions)
    ),
    "masks_and_mixers": Isolation(
        "a mask for each kind of layer, and layers with a state compute each sample alone", _mixers_alone(_by_masks)
    ),
    "samples": Isolation("computing each sample in a row of its own", _samples_alone, calls_once=False),
}
"""Ways to isolate samples, cheapest first; the last one is exact for every causal architecture."""

_ATTRIBUTE = "_jmedllm_isolation"


def isolate(network: Any, name: str) -> None:
    """Choose how `hidden_states` isolates the samples of a causal model's decoder; the default is "positions"."""
    setattr(decoder_of(network), _ATTRIBUTE, ISOLATIONS[name])


def hidden_states(decoder: Any, rows: PackedRows) -> torch.Tensor:
    """Compute the hidden states [B, T, H] of packed samples, which do not see one another."""
    chosen: Isolation = getattr(decoder, _ATTRIBUTE, ISOLATIONS["positions"])
    return chosen.hidden(decoder, rows)
