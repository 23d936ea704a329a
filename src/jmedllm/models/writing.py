"""Greedy writing of many completions side by side; a row that has ended leaves the batch at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jmedllm.models import Completion, Writing
from jmedllm.models.encoding import Tokenizer


@dataclass(frozen=True, slots=True)
class Start:
    """Where a completion goes on from.

    Attributes:
        prompt: the prompt's ids.
        first: the first new token.
        keys: keys and values of the prompt in each layer, as (cache, row of the cache, columns of the prompt).
    """

    prompt: list[int]
    first: int
    keys: tuple[Any, int, list[int]]


def decode(
    network: Any, tokenizer: Tokenizer, ends: frozenset[int], starts: Sequence[Start], writing: Writing
) -> list[Completion]:
    """Completions in the order of `starts`; they stop at an end token, at the limit, or when final."""
    if not starts:
        return []
    written: list[list[int]] = [[] for _ in starts]
    cut = [False] * len(starts)
    rows = list(range(len(starts)))
    newest = [start.first for start in starts]
    cache, mask = _gather(starts, writing.max_new_tokens)
    while True:
        staying = []
        for place, (row, token) in enumerate(zip(rows, newest, strict=True)):
            written[row].append(token)
            if token in ends or _is_final(tokenizer, starts[row].prompt, written[row], writing):
                continue
            if len(written[row]) < writing.max_new_tokens:
                staying.append(place)
            else:
                cut[row] = True
        if not staying:
            break
        if len(staying) < len(rows):
            kept = torch.tensor(staying, device=mask.device)
            cache.batch_select_indices(kept)
            rows, newest, mask = [rows[i] for i in staying], [newest[i] for i in staying], mask[kept]
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        lengths = [len(starts[row].prompt) + len(written[row]) - 1 for row in rows]
        output = network(
            input_ids=torch.tensor(newest, device=mask.device)[:, None],
            position_ids=torch.tensor(lengths, device=mask.device)[:, None],
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        newest = output.logits[:, -1].argmax(-1).tolist()
    return [
        completion(tokenizer, start.prompt, ids, truncated=truncated)
        for start, ids, truncated in zip(starts, written, cut, strict=True)
    ]


def completion(tokenizer: Tokenizer, prompt: list[int], ids: list[int], *, truncated: bool = False) -> Completion:
    """Decode new tokens, alone and behind their prompt."""
    return Completion(
        text=str(tokenizer.decode(ids, skip_special_tokens=True)),
        decoded=str(tokenizer.decode(prompt + ids, skip_special_tokens=True)),
        truncated=truncated,
    )


def _is_final(tokenizer: Tokenizer, prompt: list[int], ids: list[int], writing: Writing) -> bool:
    """Asked only where the newest token can end a line."""
    return "\n" in tokenizer.decode(ids[-1:]) and writing.is_final(completion(tokenizer, prompt, ids))


def _gather(starts: Sequence[Start], room: int) -> tuple[Any, torch.Tensor]:
    """One cache of all prompts, left-padded, with room for `room` more tokens, and its mask [rows, width]."""
    from transformers import Cache

    from jmedllm.models.cache import RoomyLayer

    width = max(len(start.prompt) for start in starts)
    first = starts[0].keys[0].layers
    device = first[0].keys.device
    mask = torch.zeros(len(starts), width, dtype=torch.long, device=device)
    for row, start in enumerate(starts):
        mask[row, width - len(start.prompt) :] = 1
    columns = [torch.tensor(start.keys[2], device=device) for start in starts]
    layers: list[Any] = []
    for index, layer in enumerate(first):
        pair = []
        for name in ("keys", "values"):
            example = getattr(layer, name)
            states = example.new_zeros(len(starts), example.shape[1], width + room, example.shape[3])
            for row, (start, place) in enumerate(zip(starts, columns, strict=True)):
                source, source_row, _ = start.keys
                states[row, :, width - len(place) : width] = getattr(source.layers[index], name)[source_row][
                    :, place
                ]
            pair.append(states)
        layers.append(RoomyLayer(pair[0], pair[1], width))
    return Cache(layers=layers), mask
