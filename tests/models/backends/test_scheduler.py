"""Continuous batching: rows end, join, are interrupted and run out of memory, and every text stays its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_capabilities import ARCHITECTURES, build

from jmedllm.models.backends.base import Decoding, GenerationConfig, Request
from jmedllm.models.backends.transformers import batch as batches
from jmedllm.models.backends.transformers.batch import Batch
from jmedllm.models.backends.transformers.model import TransformersModel
from jmedllm.models.backends.transformers.reading import Reader
from jmedllm.models.backends.transformers.replies import Decoder, Reply
from jmedllm.models.memory import TokenBytes
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.progress import notice
from plain_generation import LIKE_PLAIN, REQUESTS, generated, score

NEW, ITEMS = 24, 16
CUT = "\ufffd"
"""What a character becomes whose bytes are cut off."""

NAMES = [
    "mistral window",
    *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("llama", "gemma3_text window", "bloom")),
]


def ends(_: Decoder, reply: Reply) -> bool:
    return reply.newest == 0 or len(reply.written) > 11 * len(reply.prompt) % 31


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[TransformersModel]:
    """A network whose replies end after a number of tokens that depends on the prompt."""
    built = build(request.param, ARCHITECTURES[request.param][1], torch.float32, load_tokenizer(tiny_model))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "_is_over", ends)
        yield built


@pytest.fixture(scope="module")
def expected(model: TransformersModel) -> dict[int, tuple[str, str | None]]:
    """Each reply alone."""
    return answers(replace(model, batch_size=1))


WORDS = ["欠乏", "vitamin C", "Q", "壊血病になるのは", "Scurvy?", "### 応答：\n", "iron, zinc", "a"]


def requests() -> list[Request]:
    """Prompts of different lengths, whose replies end after different numbers of tokens."""
    return [Request(f"116A{i}", WORDS[i % 8] * (1 + i % 5), f"116A{i}", generate=True, seed=i) for i in range(ITEMS)]


def answers(model: TransformersModel, **settings: object) -> dict[int, tuple[str, str | None]]:
    found = dict(model.answer(requests(), GenerationConfig(NEW, **settings)))
    return {index: (found[index].completion.text, found[index].completion.finish_reason) for index in range(ITEMS)}


def new_tokens(model: TransformersModel) -> list[int]:
    return [response.completion.new_tokens for _, response in model.answer(requests(), GenerationConfig(NEW))]


@pytest.fixture
def widths(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int, int]]]:
    """Rows, tokens of the longest row, and capacity of the cache, at each step; blocks are of 4 tokens."""
    monkeypatch.setattr(batches, "BLOCK", 4)
    step, found = Batch.step, []

    def watched(self: Batch) -> torch.Tensor:
        logits = step(self)
        found.append((len(self.replies), self.width, self.cache.layers[0].whole_keys.shape[2]))
        return logits

    monkeypatch.setattr(Batch, "step", watched)
    return found


def test_the_replies_are_of_many_lengths_and_those_of_transformers(model: TransformersModel, expected) -> None:
    reasons = [reason for _, reason in expected.values()]
    assert reasons.count("stop") >= 6 and reasons.count("length") >= 2
    assert len({len(text) for text, _ in expected.values()}) > 6
    for index, (text, _) in expected.items():
        assert generated(model, requests()[index].prompt, NEW).startswith(text.rstrip(CUT))


SAMPLED = {"decoding": Decoding(temperature=1.3, top_k=50)}


@pytest.mark.parametrize("rows", [2, 5, ITEMS])
def test_rows_that_end_make_room_for_others(model: TransformersModel, expected, widths, rows: int) -> None:
    assert answers(replace(model, batch_size=rows)) == expected
    assert max(each for each, _, _ in widths) == rows
    waiting = ITEMS - rows
    if waiting > rows:  # the batch stays full until few are left
        assert sum(each >= rows - 1 for each, _, _ in widths) > 0.7 * len(widths)


def test_samples_of_a_question_are_no_more_rows_than_others(
    model: TransformersModel, widths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them join while the others are written; if memory runs out, half of one question continues."""
    several = [replace(each, prompt=WORDS[0], group="116A1", seed=i) for i, each in enumerate(requests())]
    config = GenerationConfig(NEW, **SAMPLED)

    def texts(rows: int) -> list[str]:
        found = dict(replace(model, batch_size=rows).answer(several, config))
        return [found[index].completion.text for index in range(ITEMS)]

    together = texts(ITEMS)
    assert len({*together}) > ITEMS // 2 and widths[0][0] > 10
    widths.clear()
    assert texts(5) == together
    assert max(rows for rows, _, _ in widths) == 5
    assert sum(rows >= 4 for rows, _, _ in widths) > 0.6 * len(widths)
    read, calls = Reader.read, []

    def scarce(self: Reader, *arguments: object) -> object:
        calls.append(len(arguments[0][0]))
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return read(self, *arguments)

    monkeypatch.setattr(Reader, "read", scarce)
    assert texts(ITEMS) == together
    assert calls[:2] == [ITEMS, ITEMS // 2]


def test_sampled_replies_do_not_depend_on_the_rows_beside_them(model: TransformersModel, expected, widths) -> None:
    alone = answers(replace(model, batch_size=1), **SAMPLED)
    assert answers(replace(model, batch_size=5), **SAMPLED) == alone
    assert sum(alone[i] != expected[i] for i in alone) > ITEMS // 2


def test_the_cache_grows_in_blocks(model: TransformersModel, expected, widths) -> None:
    assert answers(replace(model, batch_size=5)) == expected
    assert all(width < capacity <= width + 5 for _, width, capacity in widths)


@pytest.mark.parametrize("tokens", [60, 110])
def test_the_cache_stays_within_the_memory(
    model: TransformersModel, expected, widths, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    """Rows are interrupted when the others grow, and continue later."""
    backend = "jmedllm.models.backends.transformers.model"
    monkeypatch.setattr(f"{backend}.token_bytes", lambda *_: TokenBytes(1, 1))
    monkeypatch.setattr(f"{backend}.free_memory", lambda _: 8 * tokens)
    assert answers(model) == expected
    assert all(rows * capacity <= tokens or rows == 1 for rows, _, capacity in widths)
    assert max(rows for rows, _, _ in widths) > 2


@pytest.mark.parametrize("failing", [1, 3, 20])
def test_memory_that_runs_out_while_replies_are_written(
    model: TransformersModel, expected, widths, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    step, rows = Batch.step, []

    def scarce(self: Batch) -> torch.Tensor:
        rows.append(len(self.replies))
        if len(rows) == failing:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(self)

    monkeypatch.setattr(Batch, "step", scarce)
    assert answers(replace(model, batch_size=8)) == expected
    assert max(rows[failing:]) <= rows[failing - 1] // 2


def test_memory_that_runs_out_while_others_are_read(
    model: TransformersModel, expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, sizes = Reader._forward, []

    def scarce(self: Reader, rows: list[object], *rest: object, **more: object) -> object:
        starts = forward(self, rows, *rest, **more)
        sizes.append(len(rows))
        if len(sizes) in (2, 3, 6):  # after tokens were added to replies that are read again
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return starts

    monkeypatch.setattr(Reader, "_forward", scarce)
    assert answers(replace(model, batch_size=8)) == expected


def test_scores_are_those_of_one_reading_if_memory_runs_out_in_between(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = score(model, REQUESTS)
    forward, calls = Reader._forward, []

    def scarce(self: Reader, rows: list[object], *rest: object, **more: object) -> object:
        calls.append(len(rows))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, rows, *rest, **more)

    monkeypatch.setattr(Reader, "_forward", scarce)
    monkeypatch.setattr("jmedllm.models.backends.transformers.model.TOKENS_PER_FORWARD", {"cpu": 60})
    for some, all_at_once in zip(score(model, REQUESTS), expected, strict=True):
        assert some == pytest.approx(all_at_once, **LIKE_PLAIN)
    assert len(calls) > 3


def test_a_reply_that_needs_all_memory_alone_ends_the_evaluation(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(_: Batch) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Batch, "step", scarce)
    with pytest.raises(torch.OutOfMemoryError):
        answers(model)


def test_tokens_are_reported_as_they_come(model: TransformersModel, expected) -> None:
    counts: list[int] = []
    assert answers(replace(model, batch_size=5), on_tokens=counts.append) == expected
    assert sum(counts) == sum(new_tokens(model)) and max(counts) == 5


@pytest.mark.parametrize("name", ["lfm2", pytest.param("rwkv", marks=pytest.mark.exhaustive)])
def test_networks_whose_caches_cannot_be_joined_say_so_and_draw_the_same(
    name: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notice.cache_clear()
    other = build(name, ARCHITECTURES[name][1], torch.float32, load_tokenizer(tiny_model))
    assert answers(replace(other, batch_size=5), **SAMPLED) == answers(replace(other, batch_size=1), **SAMPLED)
    how = "in batches that wait for the longest reply" if name == "lfm2" else "one at a time"
    assert f"{name}: replies are written {how}" in capsys.readouterr().err
