"""Greedy decoding of many completions in one batch. A row leaves the batch as soon as it ends."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch

from jmedllm.models.backends.base import Completion, GenerationConfig
from jmedllm.models.chat import ChatTemplate, turn_end
from jmedllm.models.tokenizer.encoding import Tokenizer


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends a completion; none of it is part of the text.

    Attributes:
        tokens: each of them ends it.
        text: ends it too, where the chat template ends a turn with plain text instead of a token; may be empty.
    """

    tokens: frozenset[int] = field(default_factory=frozenset)
    text: str = ""

    def reached(self, tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
        """Whether the newest token ends a completion."""
        if ids[-1] in self.tokens:
            return True
        return bool(self.text) and self.text in tokenizer.decode(ids[-len(self.text.encode()) :])

    def without(self, ids: Sequence[int]) -> list[int]:
        """New tokens without those that end them."""
        return list(takewhile(lambda token: token not in self.tokens, ids))

    def before(self, text: str) -> str:
        """A completion's text without the end that is plain text."""
        return text.partition(self.text)[0] if self.text else text


NOTHING = Ends()
"""Ends nothing."""


def ends_of(tokenizer: Tokenizer, others: Iterable[int | None] = ()) -> Ends:
    """What ends a completion: EOS, `others`, and what the chat template writes behind a turn of the assistant."""
    turn = turn_end(ChatTemplate(tokenizer))
    tokens = (tokenizer.eos_token_id, turn.token, *others)
    return Ends(frozenset(token for token in tokens if token is not None), turn.words)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a completion goes on from.

    Attributes:
        prompt: the prompt's ids.
        first: the first new token.
        keys: keys and values of the prompt in each layer, as (cache, row of the cache, columns of the prompt);
            the cache is None if there is none that could be joined with others.
    """

    prompt: list[int]
    first: int
    keys: tuple[Any, int, list[int]]


def decode(
    network: Any, tokenizer: Tokenizer, ends: Ends, starts: Sequence[Start], generation_config: GenerationConfig
) -> list[Completion]:
    """Completions in the order of `starts`; they stop at an end, at the limit, or when final."""
    if not starts:
        return []
    written: list[list[int]] = [[] for _ in starts]
    cut = [False] * len(starts)
    rows = list(range(len(starts)))
    newest = [start.first for start in starts]
    cache, mask = join(starts, generation_config.max_new_tokens)
    while True:
        staying = []
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
    """One cache of all prompts, left-padded, with room for `room` more tokens, and its mask [rows, width]."""
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
    """Logits [rows, vocabulary] behind one more token in each row of a cache, and the mask with these tokens.

    Args:
        network: reads the tokens.
        tokens: the newest of each row.
        lengths: how many tokens of each row come before it.
        cache: what `join` gave; the tokens are added to it.
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
    network: Any, tokenizer: Tokenizer, ends: Ends, prompts: Sequence[list[int]], generation_config: GenerationConfig
) -> list[Completion]:
    """Completions by transformers' own greedy decoding, with whatever cache the network keeps."""
    from transformers import StoppingCriteriaList

    def ends_here(prompt: list[int], ids: list[int]) -> bool:
        return _is_over(tokenizer, ends, prompt, ids, generation_config)

    def are_done(ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        new = zip(prompts, ids[:, width:].tolist(), strict=True)
        return torch.tensor([ends_here(prompt, row) for prompt, row in new], device=ids.device)

    width = max(map(len, prompts))
    options = {
        "max_new_tokens": generation_config.max_new_tokens,
        "stopping_criteria": StoppingCriteriaList([are_done]),
    }
    output = generated(network, prompts, tokenizer.pad_token_id, **options)
    done = []
    for prompt, ids in zip(prompts, output[:, width:].tolist(), strict=True):
        # A row that has ended is written on until all have.
        lengths = (length for length in range(1, len(ids) + 1) if ends_here(prompt, ids[:length]))
        length = next(lengths, None)
        done.append(completion(tokenizer, ends, prompt, ids[:length], truncated=length is None))
    return done


def generated(network: Any, prompts: Sequence[list[int]], pad_id: int, **options: Any) -> Any:
    """What transformers' own greedy decoding gives for prompts side by side, padded on the left."""
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


def completion(
    tokenizer: Tokenizer, ends: Ends, prompt: list[int], ids: Sequence[int], *, truncated: bool = False
) -> Completion:
    """Decode new tokens, alone and behind their prompt, without what ends them."""
    generated = ids
    ids = ends.without(ids)
    plain = ends.before(str(tokenizer.decode(ids, skip_special_tokens=True)))
    # The borders of thoughts and channels are special tokens in some models: without them a thought cannot be told
    # from the answer. BOS, EOS and the like say nothing.
    silent = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    spoken = [token for token in ids if token not in silent]
    text = ends.before(str(tokenizer.decode(spoken, skip_special_tokens=False)))
    whole = str(tokenizer.decode(prompt + ids, skip_special_tokens=True))
    return Completion(
        text, whole, "length" if truncated else "stop", len(generated), plain=None if plain == text else plain
    )


def _is_over(
    tokenizer: Tokenizer, ends: Ends, prompt: list[int], ids: list[int], generation_config: GenerationConfig
) -> bool:
    """Whether a completion ends with its newest token; whether it is final is asked only where that can end a
    line."""
    if ends.reached(tokenizer, ids):
        return True
    return "\n" in tokenizer.decode(ids[-1:]) and generation_config.is_final(completion(tokenizer, ends, prompt, ids))
