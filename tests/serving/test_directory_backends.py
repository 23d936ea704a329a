"""Every backend of model directories gives the answers and log-probabilities of an evaluation."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from scripted_vllm import scripted_vllm

from jmedllm.models.backends.base import GenerationConfig, Request
from jmedllm.models.backends.completion import Ends
from jmedllm.precision import choose_precision
from jmedllm.serving.backends import open_model, vllm
from jmedllm.serving.backends.child_server import ChildServer
from jmedllm.serving.backends.directory_text import DirectoryText
from jmedllm.serving.model import Piece, Sampling, ServedModel, ServeOptions, Unavailable

PROMPTS = (
    "ビタミンCの欠乏で",
    "A lack of vitamin C leads to",
    "質問: 発熱の原因は何か。\n答え:",
    "68歳の男性。3日前からの発熱と咳嗽を主訴に来院した。体温38.6℃、脈拍104/分。",
)


@pytest.fixture(scope="module")
def evaluated(tiny_model: Path) -> Any:
    from jmedllm.models.backends.transformers.model import load_model

    return load_model(tiny_model, choose_precision("float32", "cpu"))


@pytest.fixture(params=["transformers", "vllm"])
def opened(
    request: pytest.FixtureRequest, tiny_model: Path, evaluated: Any, tmp_path: Path, monkeypatch: Any
) -> Callable[[], Any]:
    """Opens the model with a backend; the second value counts the tokens that were computed."""

    @asynccontextmanager
    async def with_transformers() -> AsyncGenerator[tuple[ServedModel, Callable[[], int]], None]:
        model: Any = await open_model(tiny_model, ServeOptions(backend="transformers", slots=4, threads=1))
        steps, forward = [0], model.model.network.forward

        def counted(*arguments: Any, **values: Any) -> Any:
            steps[0] += 1
            return forward(*arguments, **values)

        model.model.network.forward = counted
        try:
            yield model, lambda: steps[0]
        finally:
            await model.close()

    @asynccontextmanager
    async def with_vllm() -> AsyncGenerator[tuple[ServedModel, Callable[[], int]], None]:
        monkeypatch.setattr(vllm, "find_spec", lambda _: True)
        with scripted_vllm(evaluated.network, tmp_path) as scripted:
            monkeypatch.setattr(vllm, "start", lambda *_: scripted)
            model = await open_model(tiny_model, ServeOptions(backend="vllm", slots=4, threads=1))
            try:
                yield model, lambda: scripted.steps
            finally:
                await model.close()

    return {"transformers": with_transformers, "vllm": with_vllm}[request.param]


async def written(model: ServedModel, prompt: str, sampling: Sampling) -> list[Piece]:
    ids = await model.tokenize(prompt, add_special=True)
    return [piece async for piece in model.generate(ids, sampling)]


def text_of(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_answers_and_scores_are_those_of_an_evaluation(opened: Callable[[], Any], evaluated: Any) -> None:
    requests = [Request(str(at), text, generate=True) for at, text in enumerate(PROMPTS)]
    expected = dict(evaluated.answer(requests, GenerationConfig(24)))
    scored = dict(evaluated.answer([Request("s", PROMPTS[0], choices=("壊血病", "a", "b"))], GenerationConfig(1)))

    async def test() -> None:
        async with opened() as (model, _):
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

    asyncio.run(test())


def test_a_seed_gives_the_same_answer_beside_others(opened: Callable[[], Any]) -> None:
    async def test() -> None:
        async with opened() as (model, _):
            sampling = Sampling(16, temperature=1.0, top_p=0.9, seed=7)
            alone = await written(model, PROMPTS[0], sampling)
            others = [written(model, prompt, Sampling(20, temperature=1.0)) for prompt in PROMPTS[:2]]
            beside, *_ = await asyncio.gather(written(model, PROMPTS[0], sampling), *others)
            assert text_of(beside) == text_of(alone)
            other = await written(model, PROMPTS[0], Sampling(16, temperature=1.0, seed=8))
            assert text_of(other) != text_of(alone)

    asyncio.run(test())


def test_an_answer_that_nobody_waits_for_ends(opened: Callable[[], Any]) -> None:
    async def test() -> None:
        async with opened() as (model, steps):
            answer = model.generate(await model.tokenize(PROMPTS[0]), Sampling(400))
            await anext(answer)
            await answer.aclose()
            await written(model, PROMPTS[1], Sampling(2))
            assert steps() < 60

    asyncio.run(test())


@pytest.mark.parametrize("opened", ["vllm"], indirect=True)
def test_a_text_that_ends_a_turn_ends_an_answer_of_vllm(opened: Callable[[], Any]) -> None:
    """Chat templates can end a turn with text that is no token."""

    async def test() -> None:
        async with opened() as (model, _):
            whole = text_of(await written(model, PROMPTS[0], Sampling(24)))
            end = next(each for each in whole[3:] if each.isprintable() and each != "\ufffd")
            model.text = DirectoryText(model.text.tokenizer, Ends(frozenset(), end))
            pieces = await written(model, PROMPTS[0], Sampling(24))
            assert text_of(pieces) == whole.partition(end)[0] and pieces[-1].finish_reason == "stop"

    asyncio.run(test())


def test_a_process_that_does_not_load_again_is_reported(
    evaluated: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test() -> None:
        with scripted_vllm(evaluated.network, tmp_path) as scripted:
            server = ChildServer("vLLM", lambda: scripted, print)
            await server.start()
            scripted.refused = "model: vLLM does not load it: too little memory"
            scripted.process.kill()
            await asyncio.wait_for(server.failed.wait(), 5)
            with pytest.raises(Unavailable, match="is being started again"):
                await server.post("/v1/completions", {})
            await server.close()

    asyncio.run(test())
    first, second = capsys.readouterr().out.splitlines()
    assert first == "vLLM ended by itself (signal 9); starting it again (1 of 3)" and "too little memory" in second
