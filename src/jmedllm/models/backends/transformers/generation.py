"""Greedy decoding of many completions in one batch. A row leaves the batch as soon as it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from jmedllm.models.backends.base import Completion, GenerationConfig
from jmedllm.models.backends.completion import Ends, completion
from jmedllm.models.tokenizer.encoding import Tokenizer


@dataclass(frozen=True, slots=True)
class Start:
    """Start of a completion.

    Attributes:
        prompt: ids of the prompt.
        first: the first new token.
        keys: keys and values of the prompt in each layer, as (cache, row of the cache, columns of the prompt); the
            cache is None if it cannot be joined with others.
    """

    prompt: list[int]
    first: int
    keys: tuple[Any, int, list[int]]


def decode(
    network: Any, tokenizer: Tokenizer, ends: Ends, starts: Sequence[Start], generation_config: GenerationConfig
) -> list[Completion]:
    """Return completions in the order of `starts`; they stop at an end, at the limit, or when final."""
    if not starts:
        return []
    written: list[list[int]] = [[] for _ in starts]
    cut = [False] * len(starts)
    rows = list(range(len(starts)))
    newest = [start.first for start in starts]
    cache, mask = join(starts, generation_config.max_new_tokens)
    while True:
        staying = []
        generation_config.on_tokens(len(rows))
        for place, (row, token) in enumerate(zip(rows, newest, strict=True)):
            written[row].append(token)
            if _is_over(tokenizer, ends, starts[row].prompt, written[row], generation_config):
                continue
            if len(written[row]) < generation_config.max_new_tokens:
                staying.append(place)
            else:
                cut[row] = True
        if not staying:
            break
        if len(staying) < len(rows):
            kept = torch.tensor(staying, device=mask.device)
            cache.batch_select_indices(kept)
            rows, newest, mask = [rows[i] for i in staying], [newest[i] for i in staying], mask[kept]
        lengths = [len(starts[row].prompt) + len(written[row]) - 1 for row in rows]
        logits, mask = step(network, newest, lengths, cache, mask)
        newest = logits.argmax(-1).tolist()
    return [
        completion(tokenizer, ends, start.prompt, ids, truncated=truncated)
        for start, ids, truncated in zip(starts, written, cut, strict=True)
    ]


def join(starts: Sequence[Start], room: int) -> tuple[Any, torch.Tensor]:
    """Join the caches of all prompts, left-padded, with capacity for `room` more tokens; return it with its mask
    [rows, width]."""
    from transformers import Cache

    from jmedllm.models.backends.transformers.cache import PreallocatedCacheLayer

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
                states[row, :, width - len(place) : width] = getattr(source.layers[index], name)[source_row][:, place]
            pair.append(states)
        layers.append(PreallocatedCacheLayer(pair[0], pair[1], width))
    return Cache(layers=layers), mask


def step(
    network: Any, tokens: Sequence[int], lengths: Sequence[int], cache: Any, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add one token to each row of a cache; return the logits [rows, vocabulary] and the extended mask.

    Args:
        network: the model.
        tokens: the newest token of each row.
        lengths: number of tokens before it in each row.
        cache: the cache from `join`; the tokens are added to it.
        mask: [rows, width], 0 for padding.
    """
    mask = torch.nn.functional.pad(mask, (0, 1), value=1)
    output = network(
        input_ids=torch.tensor(tokens, device=mask.device)[:, None],
        position_ids=torch.tensor(lengths, device=mask.device)[:, None],
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
    )
    return output.logits[:, -1], mask


def generate(
    network: Any,
    tokenizer: Tokenizer,
    ends: Ends,
    prompts: Sequence[list[int]],
    generation_config: GenerationConfig,
    inputs: Mapping[str, Any] = MappingProxyType({}),
) -> list[Completion]:
    """Generate completions with transformers' greedy decoding and the network's own cache.

    Args:
        inputs: inputs of the network besides the tokens, such as pixel values.
    """
    from transformers import StoppingCriteriaList

    def ends_here(prompt: list[int], ids: list[int]) -> bool:
        return _is_over(tokenizer, ends, prompt, ids, generation_config)

    def are_done(ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        generation_config.on_tokens(len(prompts))
        new = zip(prompts, ids[:, width:].tolist(), strict=True)
        return torch.tensor([ends_here(prompt, row) for prompt, row in new], device=ids.device)

    width = max(map(len, prompts))
    options = {
        "max_new_tokens": generation_config.max_new_tokens,
        "stopping_criteria": StoppingCriteriaList([are_done]),
    }
    output = generated(network, prompts, tokenizer.pad_token_id, **options, **inputs)
    done = []
    for prompt, ids in zip(prompts, output[:, width:].tolist(), strict=True):
        # A row that has ended is continued until all rows have ended.
        lengths = (length for length in range(1, len(ids) + 1) if ends_here(prompt, ids[:length]))
        length = next(lengths, None)
        done.append(completion(tokenizer, ends, prompt, ids[:length], truncated=length is None))
    return done


def generated(network: Any, prompts: Sequence[list[int]], pad_id: int, **options: Any) -> Any:
    """Run transformers' greedy decoding on a batch of left-padded prompts."""
    width = max(map(len, prompts))
    rows = [[pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return network.generate(
        input_ids=torch.tensor(rows, device=network.device),
        attention_mask=torch.tensor(mask, device=network.device),
        do_sample=False,
        pad_token_id=pad_id,
        **options,
    )


def _is_over(
    tokenizer: Tokenizer, ends: Ends, prompt: list[int], ids: list[int], generation_config: GenerationConfig
) -> bool:
    """Whether a completion ends with its newest token. `is_final` is called only if the token can end a line."""
    if ends.reached(tokenizer, ids):
        return True
    return "\n" in tokenizer.decode(ids[-1:]) and generation_config.is_final(completion(tokenizer, ends, prompt, ids))
