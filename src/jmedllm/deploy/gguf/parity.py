"""Compare the predictions of a served model with those of the model directory in transformers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from jmedllm.deploy.llama_cpp import LlamaServer
from jmedllm.errors import InputError

POSITIONS = 64
"""Positions compared in each text, its last ones: errors of rotary positions grow with the distance."""

_LENGTH = 256
"""Largest number of tokens of a text."""

_FORCED = 1000.0
"""Bias of the token that is sampled. It changes no reported log-probability, and avoids tokens that are parts of a
character, for which llama.cpp reports nothing."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of the next-token predictions of two models.

    Attributes:
        kl: mean KL(transformers || served) in nats.
        top1: share of positions with the same most likely token.
        positions: number of positions.
    """

    kl: float
    top1: float
    positions: int


def log_probs(server: LlamaServer, ids: Sequence[int], rows: int, forced: int) -> torch.Tensor:
    """Return the log-probabilities [rows] of the token that follows `ids`, in double precision.

    Args:
        server: a server of llama.cpp.
        ids: the prompt.
        rows: size of the vocabulary.
        forced: token to sample, a whole character.

    Raises:
        InputError: the server does not return the whole vocabulary.
    """
    answer = server.post(
        "/completion",
        {
            "prompt": list(ids), "n_predict": 1, "n_probs": rows, "temperature": -1, "post_sampling_probs": False,
            "logit_bias": [[forced, _FORCED]], "cache_prompt": True, "response_fields": ["completion_probabilities"],
        },
    )  # fmt: skip
    listed = answer["completion_probabilities"][0]["top_logprobs"]
    found = torch.full((rows,), float("nan"), dtype=torch.float64)
    found[[entry["id"] for entry in listed]] = torch.tensor([e["logprob"] for e in listed], dtype=torch.float64)
    if found.isnan().any():
        raise InputError(f"server {server.url}: returned {len(listed)} of {rows} log-probabilities; check its logits")
    return found.log_softmax(-1)  # the server rounds to float32


@torch.no_grad()
def parity(
    server: LlamaServer, network: Any, texts: Mapping[str, Sequence[Sequence[int]]], forced: int
) -> dict[str, Parity]:
    """Compare predictions at the last positions of texts.

    Args:
        server: the served model.
        network: the model in transformers, in float32.
        texts: token ids of texts, by language.
        forced: see `log_probs`.

    Raises:
        InputError: see `log_probs`; or a prediction is not finite.
    """
    found = {}
    for language, sequences in texts.items():
        divergences: list[float] = []
        same = 0
        for ids in (list(each[:_LENGTH]) for each in sequences):
            logits = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
            for place in range(max(0, len(ids) - POSITIONS), len(ids)):
                expected = logits[place]
                served = log_probs(server, ids[: place + 1], len(expected), forced)
                divergences.append(float((expected.exp() * (expected - served)).sum()))
                same += int(expected.argmax() == served.argmax())
        mean = sum(divergences) / len(divergences)
        found[language] = Parity(max(0.0, mean), same / len(divergences), len(divergences))
    return found


@dataclass(frozen=True, slots=True)
class Agreement:
    """Greedy answers of two models.

    Attributes:
        same: number of prompts with the same answer.
        prompts: number of prompts.
    """

    same: int
    prompts: int


@torch.no_grad()
def greedy_agreement(
    server: LlamaServer, network: Any, prompts: Sequence[Sequence[int]], ends: Sequence[int], tokens: int
) -> Agreement:
    """Compare greedy answers of up to `tokens` tokens, token by token, up to the first end."""
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=list(ends), pad_token_id=ends[0])
    same = 0
    for ids in prompts:
        given = torch.tensor([ids])
        written = network.generate(given, attention_mask=torch.ones_like(given), generation_config=config)
        expected = _until_end(written[0, len(ids) :].tolist(), ends)
        answer = server.post(
            "/completion",
            {
                "prompt": list(ids),
                "n_predict": tokens,
                "temperature": -1,
                "return_tokens": True,
                "cache_prompt": False,
            },
        )
        same += _until_end(answer["tokens"], ends) == expected
    return Agreement(same, len(prompts))


def _until_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    length = next((at for at, number in enumerate(ids) if number in ends), len(ids))
    return list(islice(ids, length))
