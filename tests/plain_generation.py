"""Plain scoring and generation, one sequence at a time, to compare with the backend's methods."""

from dataclasses import replace

import torch

from jmedllm.models.backends.base import Completion, GenerationConfig, Request
from jmedllm.models.backends.transformers.model import TransformersModel
from jmedllm.models.tokenizer.encoding import encode

_EPSILON = torch.finfo(torch.float32).eps
LIKE_PLAIN = {"rel": 512 * _EPSILON, "abs": 512 * _EPSILON * 8}
"""How far sums of float32 log-probabilities may differ when the same numbers are added in another order.

Relative to the sum, whose rounding grows with its tokens, and to logits of about 8, the size of those here: 6e-5
and 5e-4. The most seen with three widths of vectors is 1.2e-4 of 5.6 (qwen3_next, whose recurrence carries
rounding from token to token). A token that reads another than it should is off by more than 0.1.
"""

REQUESTS = [
    Request(
        "1", "### 指示：\n欠乏すると壊血病になるのはどれか。\n### 応答：\n", "1", ("ビタミンA", "ビタミンC", "鉄")
    ),
    Request("2", "### Instruction:\nScurvy?\n### Response:\n", "2", ("vitamin C", "vitamin", "iron, zinc", "a")),
    Request("3", "ビタミンCの欠乏で" * 20, "3", ("壊血病", "脚気")),
    Request("4", "Q", "4", ("vitamin C" * 9, "b")),
]


def score(model: TransformersModel, requests: list[Request]) -> list[tuple[float, ...]]:
    found = dict(model.answer(requests, GenerationConfig(0)))
    return [found[index].log_probs for index in range(len(requests))]


def complete(model: TransformersModel, requests: list[Request], max_new_tokens: int) -> list[Completion]:
    """Completions that are wanted together with the scores."""
    wanted = [replace(request, generate=True) for request in requests]
    found = dict(model.answer(wanted, GenerationConfig(max_new_tokens)))
    return [found[index].completion for index in range(len(requests))]


def score_alone(model: TransformersModel, prompt: str, choice: str) -> float:
    """Sum of log-probabilities by one plain forward of prompt and choice."""
    start = len(encode(model.tokenizer, [prompt])[0])
    [ids] = encode(model.tokenizer, [prompt + choice])
    with torch.inference_mode():
        logits = model.network(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return sum(logits[i - 1, ids[i]].item() for i in range(start, len(ids)))


def generated(model: TransformersModel, prompt: str, max_new_tokens: int) -> str:
    """What transformers' own greedy decoding writes, one prompt at a time."""
    [ids] = encode(model.tokenizer, [prompt])
    output = model.network.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=max_new_tokens, pad_token_id=0, eos_token_id=0
    )
    return str(model.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))
