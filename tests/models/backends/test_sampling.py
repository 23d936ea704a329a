"""Sampling as in transformers, with random numbers that depend on the seed of the request only."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig as TransformersConfig

from jmedllm.models.backends.base import Decoding, GenerationConfig
from jmedllm.models.backends.transformers.model import TransformersModel, load_model
from jmedllm.models.backends.transformers.sampling import draw, next_tokens, warped
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.precision import choose_precision
from plain_generation import REQUESTS

QWEN3 = Decoding(temperature=0.6, top_p=0.95, top_k=20)
DECODINGS = {
    "temperature": Decoding(temperature=0.7),
    "hot": Decoding(temperature=1.5),
    "Qwen3": QWEN3,
    "DeepSeek-R1": Decoding(temperature=0.6, top_p=0.95),
    "min_p": Decoding(temperature=1.0, min_p=0.1),
    "all": Decoding(temperature=0.8, top_p=0.9, top_k=50, min_p=0.02, repetition_penalty=1.3),
}


@pytest.fixture(scope="module")
def model(tiny_model) -> TransformersModel:
    return load_model(tiny_model, choose_precision("float32", "cpu"))


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
def test_kept_tokens_and_their_scores_are_those_of_transformers(model: TransformersModel, decoding: Decoding) -> None:
    settings = {name: getattr(decoding, name) for name in Decoding.__slots__}
    config = TransformersConfig(do_sample=True, **settings)
    model.network._prepare_special_tokens(config, device=torch.device("cpu"))
    theirs = model.network._get_logits_processor(config, input_ids_seq_length=5)
    torch.manual_seed(0)
    logits = torch.randn(64, 320) * 3
    rows = torch.randint(0, 320, (64, 5))
    penalized = theirs[0](rows, logits) if decoding.repetition_penalty != 1.0 else logits
    assert torch.equal(warped(decoding, penalized), theirs(rows, logits))
    kept = theirs(rows, logits) > -torch.inf
    for number in range(20):
        draws = [draw(row, number) for row in range(64)]
        tokens = next_tokens(decoding, logits, rows.tolist(), draws)
        assert kept[range(64), tokens].all()


def test_the_penalty_alone_changes_greedy_tokens_as_in_transformers(model: TransformersModel) -> None:
    decoding = Decoding(repetition_penalty=1.5)
    for request in REQUESTS[:2]:
        written = dict(
            model.answer([replace(request, choices=(), generate=True)], GenerationConfig(24, decoding=decoding))
        )
        [ids] = encode(model.tokenizer, [request.prompt])
        output = model.network.generate(
            torch.tensor([ids]),
            do_sample=False,
            repetition_penalty=1.5,
            max_new_tokens=24,
            pad_token_id=0,
            eos_token_id=0,
        )
        expected = model.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
        assert written[0].completion.text == expected


def test_tokens_are_drawn_by_their_probability() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = probabilities.log().expand(20_000, -1)
    tokens = next_tokens(Decoding(temperature=1.0), logits, [], [draw(seed, 7) for seed in range(20_000)])
    counts = Counter(tokens)
    for token, expected in enumerate(probabilities.tolist()):
        assert counts[token] / 20_000 == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("tied", [False, True])
def test_the_shortcut_for_top_k_draws_what_all_tokens_draw(tied: bool) -> None:
    """Also if tokens are as likely as the last one that is kept; which of these top_p keeps is left to the sorting."""
    torch.manual_seed(1)
    logits = torch.randint(0, 5, (32, 320)).float() if tied else torch.randn(32, 320) * 3
    top_p = 1.0 if tied else 0.95
    for decoding in (Decoding(0.6, top_p, 20), Decoding(0.6, top_p, 1000), Decoding(1.0, top_p, 20, 0.2)):
        every = warped(decoding, logits).double().softmax(-1).cumsum(-1)
        for number in range(10):
            draws = [draw(row, number) for row in range(32)]
            wanted = torch.tensor(draws, dtype=torch.float64)[:, None] * every[:, -1:]
            expected = torch.searchsorted(every, wanted, right=True)[:, 0].tolist()
            assert next_tokens(decoding, logits, [], draws) == expected


@pytest.mark.parametrize("drawn", [0.0, 0.25, 1 - 2**-53])
def test_a_token_without_probability_is_never_drawn(drawn: float) -> None:
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0, -torch.inf]])
    assert next_tokens(Decoding(temperature=1.0), logits, [], [drawn]) in ([1], [3])


def sampled(model: TransformersModel, order: list[int], batch_size: int | None) -> dict[int, str]:
    requests = [replace(REQUESTS[i % 4], id=str(i), group=str(i), choices=(), generate=True, seed=i) for i in range(9)]
    config = GenerationConfig(20, decoding=replace(QWEN3, temperature=1.2))
    given = [requests[i] for i in order]
    found = dict(replace(model, batch_size=batch_size).answer(given, config))
    return {number: found[place].completion.text for place, number in enumerate(order)}


def test_what_is_drawn_depends_on_the_seed_alone(model: TransformersModel) -> None:
    expected = sampled(model, [*range(9)], 32)
    assert sampled(model, [*range(9)], 1) == expected
    assert sampled(model, [*reversed(range(9))], 3) == expected
    assert sampled(model, [4, 2], None) == {number: expected[number] for number in (4, 2)}
    assert len(set(expected.values())) == 9


def test_one_kept_token_is_the_greedy_one(model: TransformersModel) -> None:
    requests = [replace(request, choices=(), generate=True) for request in REQUESTS]
    greedy, sure = (
        [
            response.completion
            for _, response in sorted(
                model.answer(requests, GenerationConfig(16, decoding=decoding)), key=lambda each: each[0]
            )
        ]
        for decoding in (Decoding(), Decoding(temperature=1.0, top_k=1))
    )
    assert greedy == sure
