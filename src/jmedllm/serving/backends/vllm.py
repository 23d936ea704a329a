"""Serves a model directory with vLLM, as token ids in and out (seen with vLLM 0.32)."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import not_installed
from jmedllm.models.backends.completion import Ends, ends_of
from jmedllm.models.backends.transformers.capabilities import context_length
from jmedllm.models.folder import require_model, require_unambiguous
from jmedllm.models.loading import load_structure, read_config
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.models.tokenizer.stream import token_bytes
from jmedllm.precision import choose_precision
from jmedllm.serving.backends.child_server import ChildServer
from jmedllm.serving.backends.directory_text import DirectoryText
from jmedllm.serving.backends.vllm_process import MODEL, start
from jmedllm.serving.fields import MOST_LOGPROBS
from jmedllm.serving.model import (
    FinishReason,
    Format,
    Listed,
    Piece,
    Sampling,
    ServeOptions,
    TokenLogprob,
    context_of,
)
from jmedllm.serving.threads import usable_cores

_FINISH: Mapping[str | None, FinishReason | None] = {None: None, "stop": "stop", "length": "length"}


def suits_device() -> bool:
    """Return whether vLLM is installed and runs on a device of this machine."""
    if find_spec("vllm") is None:
        return False
    try:
        return torch.cuda.is_available() or "cpu" in version("vllm")
    except PackageNotFoundError:  # a build under another name, whose server does not start
        return False


@dataclass
class VllmServed:
    """A model directory in a process of vLLM.

    Attributes:
        server: the process.
        text: the model's texts.
        name, context, slots, format, backend, failed: see `ServedModel`.
    """

    server: ChildServer
    text: DirectoryText
    name: str
    context: int
    slots: int
    format: Format
    backend: str = "vLLM"

    @property
    def failed(self) -> asyncio.Event:
        """Set when the process has ended and is not started again."""
        return self.server.failed

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """See `ServedModel`."""
        return await self.text.tokenize(text, add_special=add_special)

    async def generate(self, ids: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """See `ServedModel`."""
        text, written = self.text.answer(sampling), list[int]()
        body = {"prompt": list(ids), "stream": True, **self._fields(sampling)}
        async with aclosing(self.server.events("/v1/completions", body)) as events:
            async for event in events:
                for choice in event["choices"]:
                    tokens = choice["token_ids"] or []
                    listed = self._listed(choice, sampling.top_logprobs)
                    for place, token in enumerate(tokens):
                        written.append(token)
                        finish = self._finish(choice, written, is_last=place == len(tokens) - 1)
                        part = text.feed(token, is_last=finish is not None)
                        yield Piece(part, 1, listed[place : place + 1], finish)
                        if finish is not None:
                            return
                    if not tokens and choice["finish_reason"] in ("stop", "length"):
                        yield Piece(text.rest(), 0, (), _FINISH[choice["finish_reason"]])
                        return
        raise self.server.lost()

    def _finish(self, choice: Mapping[str, Any], written: Sequence[int], *, is_last: bool) -> FinishReason | None:
        if self.text.ends.reached(self.text.tokenizer, written):
            return "stop"
        return _FINISH.get(choice["finish_reason"]) if is_last else None

    async def score(self, ids: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
        """See `ServedModel`."""
        wanted = sorted({tuple(each[: place + 1]) for each in continuations for place in range(len(each))})
        found = dict(zip(wanted, await asyncio.gather(*(self._logprob(ids, each) for each in wanted)), strict=True))
        return [sum(found[(*each[: place + 1],)] for place in range(len(each))) for each in continuations]

    async def _logprob(self, ids: Sequence[int], continuation: tuple[int, ...]) -> float:
        """Return the log-probability of the last token of a continuation, which vLLM reports before the mask that
        forces it."""
        *before, token = continuation
        body = {"prompt": [*ids, *before], "allowed_token_ids": [token], **self._fields(Sampling(1, top_logprobs=0))}
        [choice] = (await self.server.post("/v1/completions", body))["choices"]
        [logprob] = choice["logprobs"]["token_logprobs"]
        return float(logprob)

    def _listed(self, choice: Mapping[str, Any], count: int | None) -> tuple[Listed, ...]:
        found = choice.get("logprobs")
        if count is None or not found:
            return ()
        positions = zip(choice["token_ids"], found["token_logprobs"], found["top_logprobs"], strict=True)
        return tuple(
            Listed(
                self._token(token, logprob),
                tuple(
                    self._token(int(name.removeprefix("token_id:")), value)
                    for name, value in sorted(top.items(), key=lambda pair: -pair[1])[:count]
                ),
            )
            for token, logprob, top in positions
        )

    def _token(self, token: int, logprob: float) -> TokenLogprob:
        return TokenLogprob(token, token_bytes(self.text.tokenizer, token), logprob)

    def _fields(self, sampling: Sampling) -> dict[str, Any]:
        """Return vLLM's fields: every one, or it takes what the model's generation_config.json says."""
        return {
            "model": MODEL,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "seed": sampling.seed,
            "logprobs": sampling.top_logprobs,
            "stop_token_ids": sorted(self.text.ends.tokens),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }

    async def close(self) -> None:
        """See `ServedModel`."""
        await self.server.close()


def _ends(folder: Path, config: Any, tokenizer: Tokenizer) -> Ends:
    """Return the ends of an answer, which transformers reads with the network."""
    from transformers import GenerationConfig

    has_own = (folder / "generation_config.json").is_file()
    settings = GenerationConfig.from_pretrained(folder) if has_own else GenerationConfig.from_model_config(config)
    own = settings.eos_token_id
    return ends_of(tokenizer, own if isinstance(own, list) else [own])


async def open_vllm(folder: Path, options: ServeOptions) -> VllmServed:
    """Load a model directory.

    Raises:
        InputError: vLLM is not installed, the model is incomplete, vLLM does not load it, or its context is shorter.
    """
    if find_spec("vllm") is None:
        raise not_installed("--backend vllm", "vllm")
    folder = folder.resolve()
    require_model(folder)
    require_unambiguous(folder)
    await asyncio.to_thread(load_structure, folder)  # vLLM does not check that all tensors are there
    config, tokenizer = read_config(folder), load_tokenizer(folder)
    context = context_of(options, context_length(config), folder)
    precision = choose_precision()
    settings = {
        "--dtype": precision.name,
        "--max-model-len": context,
        "--max-num-seqs": options.slots,
        "--max-logprobs": MOST_LOGPROBS,
        "--generation-config": "vllm",
        "--tensor-parallel-size": max(1, torch.cuda.device_count()),
    }
    given = [str(part) for pair in settings.items() for part in pair]
    given += ["--disable-log-stats", "--disable-uvicorn-access-log"]
    environment: dict[str, str] = {}
    if precision.device.type == "cpu":
        threads = options.threads or usable_cores()
        environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
    text = DirectoryText(tokenizer, _ends(folder, config, tokenizer))
    begin = partial(start, folder, given, environment, options.report)
    server = ChildServer("vLLM", begin, options.report)
    await server.start()
    name = options.name or folder.name
    return VllmServed(server, text, name, context, options.slots, text.format)
