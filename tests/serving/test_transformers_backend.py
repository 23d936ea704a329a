"""What only the backend of transformers does; `test_directory_backends` has what all do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.models.tokenizer.stream import TextStream, token_bytes
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
