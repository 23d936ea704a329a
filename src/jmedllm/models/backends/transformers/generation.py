"""Generation with the network's own cache, for networks whose caches cannot be joined, and for pictures."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from jmedllm.models.backends.transformers.replies import Decoder, Reply


def generate(
    network: Any, decoder: Decoder, replies: Sequence[Reply], inputs: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write replies to the end with transformers' `generate`. A row that has ended waits for the others.

    Args:
        replies: replies of which nothing is written yet.
        inputs: inputs of the network besides the tokens, such as pixel values.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    def only_chosen(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        decoder.extend(replies, scores)
        newest = torch.tensor([[reply.newest] for reply in replies], device=scores.device)
        return torch.full_like(scores, -torch.inf).scatter(1, newest, 0.0)

    def are_done(ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        decoder.generation_config.on_tokens(len(replies))
        return torch.tensor([reply.finish_reason is not None for reply in replies], device=ids.device)

    generated(
        network,
        [reply.prompt for reply in replies],
        decoder.tokenizer.pad_token_id,
        max_new_tokens=decoder.longest,
        logits_processor=LogitsProcessorList([only_chosen]),
        stopping_criteria=StoppingCriteriaList([are_done]),
        **inputs,
    )


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
