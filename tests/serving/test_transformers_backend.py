"""A model directory is served with the answers that it gives in an evaluation."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.models.backends.base import GenerationConfig, Request
from jmedllm.models.tokenizer.stream import TextStream, token_bytes
from jmedllm.precision import choose_precision
from jmedllm.serving.backends import open_model
from jmedllm.serving.backends.transformers import TransformersServed
from jmedllm.serving.model import Piece, Sampling, ServeOptions, Unavailable

PROMPTS = (
    "ビタミンCの欠乏で",
    "A lack of vitamin C leads to",
    "質問: 発熱の原因は何か。\n答え:",
    "68歳の男性。3日前からの発熱と咳嗽を主訴に来院した。体温38.6℃、脈拍104/分。",
)


async def served_by(folder: Path, test: Callable[[TransformersServed], Awaitable[Any]], slots: int = 4) -> Any:
    model = await open_model(folder, ServeOptions(slots=slots, threads=1))
    assert isinstance(model, TransformersServed)
    try:
        return await test(model)
    finally:
        await model.close()


async def written(model: TransformersServed, prompt: str, sampling: Sampling) -> list[Piece]:
    ids = await model.tokenize(prompt, add_special=True)
    return [piece async for piece in model.generate(ids, sampling)]


def text_of(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_answers_and_scores_are_those_of_an_evaluation(tiny_model: Path) -> None:
    from jmedllm.models.backends.transformers.model import load_model

    evaluated = load_model(tiny_model, choose_precision("float32", "cpu"))
    requests = [Request(str(at), text, generate=True) for at, text in enumerate(PROMPTS)]
    expected = dict(evaluated.answer(requests, GenerationConfig(24)))
    scored = dict(evaluated.answer([Request("s", PROMPTS[0], choices=("壊血病", "a", "b"))], GenerationConfig(1)))

    async def test(model: TransformersServed) -> None:
        sampling = Sampling(24, top_logprobs=3)
        found = await asyncio.gather(*(written(model, prompt, sampling) for prompt in PROMPTS))
        for at, pieces in enumerate(found):
            completion = expected[at].completion
            assert completion is not None
            assert text_of(pieces) == (completion.text if completion.plain is None else completion.plain)
            assert sum(piece.tokens for piece in pieces) == completion.new_tokens
            assert [piece.finish_reason for piece in pieces][-1] == completion.finish_reason
            for listed in (each for piece in pieces for each in piece.listed):
                assert len(listed.top) == 3 and listed.token == listed.top[0] and listed.token.logprob < 0
        ids = await model.tokenize(PROMPTS[0], add_special=True)
        whole = [await model.tokenize(PROMPTS[0] + text, add_special=True) for text in ("壊血病", "a", "b")]
        scores = await model.score(ids, [each[len(ids) :] for each in whole])
        assert scores == pytest.approx(scored[0].log_probs, abs=1e-4)

    asyncio.run(served_by(tiny_model, test))


def test_a_seed_gives_the_same_answer_beside_others(tiny_model: Path) -> None:
    async def test(model: TransformersServed) -> None:
        sampling = Sampling(16, temperature=1.0, top_p=0.9, seed=7)
        alone = await written(model, PROMPTS[0], sampling)
        others = [written(model, prompt, Sampling(30, temperature=1.0)) for prompt in PROMPTS]
        beside, *_ = await asyncio.gather(written(model, PROMPTS[0], sampling), *others)
        assert text_of(beside) == text_of(alone)
        assert text_of(await written(model, PROMPTS[0], Sampling(16, temperature=1.0, seed=8))) != text_of(alone)

    asyncio.run(served_by(tiny_model, test))


def test_an_answer_that_nobody_waits_for_ends(tiny_model: Path) -> None:
    async def test(model: TransformersServed) -> None:
        steps = 0
        forward = model.model.network.forward

        def counted(*arguments: Any, **values: Any) -> Any:
            nonlocal steps
            steps += 1
            return forward(*arguments, **values)

        model.model.network.forward = counted
        answer = model.generate(await model.tokenize(PROMPTS[0]), Sampling(400))
        await anext(answer)
        await answer.aclose()
        await written(model, PROMPTS[1], Sampling(2))
        assert steps < 60

    asyncio.run(served_by(tiny_model, test))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failure_reaches_everybody_who_waits(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def test(model: TransformersServed) -> None:
        def broken(*_: Any, **__: Any) -> Any:
            raise ValueError("broken")

        model.model.network.forward = broken
        work = [written(model, prompt, Sampling(5)) for prompt in PROMPTS]
        for found in await asyncio.gather(*work, return_exceptions=True):
            assert isinstance(found, Unavailable)
        await asyncio.wait_for(model.failed.wait(), 5)
        with pytest.raises(Unavailable, match="start the server again"):
            await model.score([1], [[2]])

    asyncio.run(served_by(tiny_model, test))
    assert "transformers failed: ValueError: broken" in capsys.readouterr().out


def test_too_little_memory_loses_one_answer(tiny_model: Path) -> None:
    async def test(model: TransformersServed) -> None:
        forward = model.model.network.forward

        def small(*arguments: Any, **values: Any) -> Any:
            if values["input_ids"].shape[1] > 20:
                raise MemoryError
            return forward(*arguments, **values)

        model.model.network.forward = small
        assert text_of(await written(model, "a", Sampling(3))) is not None
        with pytest.raises(Unavailable, match="no memory is left for this answer"):
            await written(model, PROMPTS[3], Sampling(3))
        assert await written(model, "a", Sampling(3))

    asyncio.run(served_by(tiny_model, test))


@pytest.mark.parametrize("name", ["JambaForCausalLM"])
def test_an_architecture_without_joined_caches_is_refused(name: str, model_of: Callable[[str], Path]) -> None:
    async def test(_: Any) -> None:
        raise AssertionError

    with pytest.raises(InputError, match="install vLLM, or export the model with jmedllm deploy gguf"):
        asyncio.run(served_by(model_of(name), test))


@pytest.mark.parametrize("name", [pytest.param("qwen2", marks=pytest.mark.exhaustive), "llm-jp-v2.2"])
def test_the_parts_of_a_text_are_the_text(name: str, shared: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    special = next(token for token in tokenizer.added_tokens_encoder)
    for text in ("  髙橋さん\n👩‍⚕️🩺 a  b", "ガギグ é\u0301 　x", f"a{special}b", "don't　𠮷田"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        stream = TextStream(tokenizer, set())
        assert "".join(map(stream.feed, ids)) + stream.finish() == tokenizer.decode(ids)
        joined = b"".join(token_bytes(tokenizer, each) for each in ids).decode()
        assert joined.strip() == tokenizer.decode(ids).strip()
    cut = TextStream(tokenizer, {ids[0]})
    assert cut.feed(ids[0]) == "" == cut.finish()
