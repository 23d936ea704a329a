"""Compare the predictions of a served model with those of the model directory in transformers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Any

import numpy as np
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

_MEASURABLE = 0.01
"""Smallest probability of all tokens that a server does not list at which it is compared. It is the difference of the
listed ones from 1, and their sum has the rounding error of a float32 sum over the vocabulary."""

_ID, _LOG_PROB = re.compile(rb'"id":(\d+)'), re.compile(rb'"logprob":([^,}\]]+)')  # quotes inside texts are escaped


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


@dataclass(frozen=True, slots=True)
class Listed:
    """The tokens that a server lists as the most likely ones.

    Attributes:
        ids: [N] their ids, the most likely first.
        log_probs: [N] their log-probabilities, in double precision.
    """

    ids: torch.Tensor
    log_probs: torch.Tensor


def log_probs(
    server: LlamaServer, ids: Sequence[int], rows: int, forced: int, top_tokens: int | None = None
) -> Listed:
    """Return the log-probabilities of the tokens that may follow `ids`.

    Args:
        server: a server of llama.cpp.
        ids: the prompt.
        rows: size of the vocabulary.
        forced: token to sample, a whole character.
        top_tokens: number of tokens, the most likely ones; None for the whole vocabulary.

    Raises:
        InputError: the server does not return that many.
    """
    wanted = rows if top_tokens is None else min(rows, top_tokens)
    answer = server.send(
        "/completion",
        {
            "prompt": list(ids), "n_predict": 1, "n_probs": wanted, "temperature": -1, "post_sampling_probs": False,
            "logit_bias": [[forced, _FORCED]], "cache_prompt": True, "response_fields": ["completion_probabilities"],
        },
    )  # fmt: skip
    # Objects for a vocabulary of 150,000 tokens take longer than the network; the first entry is the sampled token.
    numbers, values = _ID.findall(answer)[1:], _LOG_PROB.findall(answer)[1:]
    if not len(numbers) == len(values) == wanted or len(set(numbers)) != wanted or b"null" in values:
        raise InputError(
            f"server {server.url}: returned {len(values)} of {wanted} log-probabilities, or some that are not finite; "
            "check its model"
        )
    order = torch.from_numpy(np.array(numbers).astype(np.int64))
    return Listed(order, torch.from_numpy(np.array(values).astype(np.float64)))


def kl_divergence(expected: torch.Tensor, listed: Listed) -> float:
    """Return KL(expected || listed) in nats; tokens that are not listed count together as one.

    With them the value is a lower bound of the divergence over the whole vocabulary, by the chain rule: that of the
    listed tokens among themselves, and that of listed against other tokens where it can be measured.

    Args:
        expected: [V] log-probabilities of the whole vocabulary, in double precision.
        listed: the other model's.
    """
    ours, theirs = expected[listed.ids], listed.log_probs
    total, their_total = ours.logsumexp(-1), theirs.logsumexp(-1)
    # Relative to their sum, because the server rounds to float32.
    among = float((ours.exp() * ((ours - total) - (theirs - their_total))).sum())
    rest, their_rest = 1 - float(total.exp()), 1 - float(their_total.exp())
    if len(theirs) == len(expected) or min(rest, their_rest) < _MEASURABLE:
        return among
    return among + float(total.exp() * (total - their_total)) + rest * log(rest / their_rest)


@torch.no_grad()
def parity(
    server: LlamaServer,
    network: Any,
    texts: Mapping[str, Sequence[Sequence[int]]],
    forced: int,
    *,
    positions: int = POSITIONS,
    top_tokens: int | None = None,
) -> dict[str, Parity]:
    """Compare predictions at the last positions of texts.

    Args:
        server: the served model.
        network: the model in transformers, in float32.
        texts: token ids of texts, by language.
        forced: see `log_probs`.
        positions: number of positions in each text.
        top_tokens: see `log_probs`.

    Raises:
        InputError: see `log_probs`.
    """
    found = {}
    for language, sequences in texts.items():
        divergences: list[float] = []
        same = 0
        for ids in (list(each[:_LENGTH]) for each in sequences):
            first = max(0, len(ids) - positions)
            logits = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, first:]
            for place, row in enumerate(logits, first):
                expected = row.double().log_softmax(-1)
                listed = log_probs(server, ids[: place + 1], len(expected), forced, top_tokens)
                divergences.append(kl_divergence(expected, listed))
                same += int(expected.argmax() == listed.ids[listed.log_probs.argmax()])
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
    """Compare greedy answers of up to `tokens` tokens, token by token, up to the first end.

    The model reads each served answer once: it would have written the same if each token is its most likely one.

    Raises:
        InputError: the server writes on after a token that ends an answer.
    """
    same = 0
    for prompt in map(list, prompts):
        written = greedy_answer(server, prompt, tokens)
        length = next((at for at, number in enumerate(written) if number in ends), len(written))
        if written[length + 1 :]:
            raise InputError(
                f"server {server.url}: writes on after token {written[length]}, which ends an answer of the model; "
                "export the model again"
            )
        answer = written[:length]
        read = torch.tensor([prompt + answer])
        own = network(input_ids=read, use_cache=False).logits[0, len(prompt) - 1 :].argmax(-1).tolist()
        has_ended = length < tokens
        same += own[:length] == answer and (not has_ended or own[length] in ends)
    return Agreement(same, len(prompts))


def require_ends(server: LlamaServer, prompt: Sequence[int], ends: Sequence[int], what: str) -> None:
    """Check that each token that ends an answer of the model ends one of the server.

    Raises:
        InputError: the server writes on after one.
    """
    for end in ends:
        body = {"prompt": list(prompt), "n_predict": 2, "temperature": -1, "logit_bias": [[end, _FORCED]]}
        if server.post("/completion", body)["tokens_predicted"] > 1:
            raise InputError(f"{what}: does not stop at token {end}, which ends an answer; export the model again")


def greedy_answer(server: LlamaServer, prompt: Sequence[int], tokens: int) -> list[int]:
    """Return the ids of a greedy answer, up to the token that ends it for the server."""
    body = {"prompt": list(prompt), "n_predict": tokens, "temperature": -1, "return_tokens": True}
    return [int(number) for number in server.post("/completion", body | {"cache_prompt": False})["tokens"]]


@dataclass(frozen=True, slots=True)
class BenchmarkAgreement:
    """Responses and scores of the model and its file on the same items.

    Attributes:
        n: number of items.
        same: number of items with the same response, letter by letter.
        trained: score of the model in transformers, from 0 to 1.
        trained_interval: its 95 % interval.
        served: score of the file.
        served_interval: its 95 % interval.
        only_trained: items on which the model has the higher score.
        only_served: items on which the file has it.
        p: two-sided p-value of the difference: McNemar's exact test, for graded scores a permutation test.
        task: settings of the questions and prompts, and `questions_hash`.
    """

    benchmark: str
    language: str
    scorer: str
    n: int
    same: int
    trained: float
    trained_interval: tuple[float, float]
    served: float
    served_interval: tuple[float, float]
    only_trained: int
    only_served: int
    p: float
    task: Mapping[str, Any] = field(default_factory=dict)
