"""A model on this machine's GPUs by vLLM, an optional extra: all prompts in one call."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.models import Completion, Request, Response, Writing
from jmedllm.models.encoding import Tokenizer, chat_text, encode_prompts, label_tokens
from jmedllm.models.labels import from_listed
from jmedllm.models.loading import load_tokenizer

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
"""vLLM reports its use to its makers unless it is told not to."""

TOP_LABELS = 20
"""Most likely next tokens that are read for labels, which is all that vLLM gives by default."""


@dataclass(frozen=True)
class VllmModel:
    """A model in vLLM's engine.

    Attributes:
        engine: `vllm.LLM`.
        sampling: `vllm.SamplingParams`.
        adapter: `vllm.lora.request.LoRARequest`; None without one.
    """

    name: str
    engine: Any
    sampling: Any
    tokenizer: Tokenizer
    adapter: Any = None

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        """The text that makes this model answer `messages`, by its own chat template."""
        return chat_text(self.tokenizer, messages)

    def answer(self, requests: Sequence[Request], writing: Writing) -> Iterator[tuple[int, Response]]:
        """Responses with the index of their request; see `Model`.

        Raises:
            InputError: choices' texts are to be scored: vLLM could do that only without its prefix cache.
        """
        if any(request.choices for request in requests):
            raise InputError(
                "vLLM gives no likelihood of whole choices; ask for letters (--answer-as letter), or leave "
                "--engine out"
            )
        prompts = encode_prompts(self.tokenizer, [request.prompt for request in requests])
        read = [i for i, request in enumerate(requests) if request.labels]
        labels = dict(
            zip(read, self._labels([requests[i] for i in read], [prompts[i] for i in read]), strict=True)
        )
        write = [i for i, request in enumerate(requests) if request.write]
        texts = [requests[i].prompt for i in write]
        written = dict(zip(write, self._write(texts, [prompts[i] for i in write], writing), strict=True))
        for index in range(len(requests)):
            yield index, Response(written.get(index), labels.get(index))

    def _generate(self, prompts: Sequence[list[int]], **settings: Any) -> list[Any]:
        # As token ids: the one way from text to ids is ours.
        given = [{"prompt_token_ids": ids} for ids in prompts]
        sampling = self.sampling(temperature=0.0, **settings)
        replies = self.engine.generate(given, sampling, lora_request=self.adapter, use_tqdm=True) if given else []
        return [reply.outputs[0] for reply in replies]

    def _labels(
        self, requests: Sequence[Request], prompts: Sequence[list[int]]
    ) -> Iterator[tuple[float, ...] | None]:
        for request, output in zip(
            requests, self._generate(prompts, max_tokens=1, logprobs=TOP_LABELS), strict=True
        ):
            top = {token: each.logprob for token, each in output.logprobs[0].items()}
            spelled = [label_tokens(self.tokenizer, label) for label in request.labels]
            yield from_listed([[top[token] for token in tokens if token in top] for tokens in spelled])

    def _write(self, texts: Sequence[str], prompts: Sequence[list[int]], writing: Writing) -> list[Completion]:
        """Completions; where the first line may be all that is needed, they are stopped behind it, and those of
        which more is needed are written again in full."""
        first = self._generate(
            prompts, max_tokens=writing.max_new_tokens, stop=["\n"], include_stop_str_in_output=True
        )
        done = [_completion(text, output) for text, output in zip(texts, first, strict=True)]
        again = [
            i
            for i, completion in enumerate(done)
            if completion.text.endswith("\n") and not writing.is_final(completion)
        ]
        whole = self._generate([prompts[i] for i in again], max_tokens=writing.max_new_tokens)
        for i, output in zip(again, whole, strict=True):
            done[i] = _completion(texts[i], output)
        return done


def _completion(prompt: str, output: Any) -> Completion:
    return Completion(output.text, prompt + output.text, truncated=output.finish_reason == "length")


def open_vllm(folder: Path, dtype: str, *, adapter: Path | None = None, name: str | None = None) -> VllmModel:
    """Load a model directory into vLLM, over all GPUs of this machine.

    Raises:
        InputError: vLLM is not installed.
    """
    os.environ.update(QUIET)
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
    except ImportError:
        raise InputError("--engine vllm needs vLLM; install it with: pip install 'jmedllm[vllm]'") from None
    import torch

    engine = LLM(
        model=str(folder),
        dtype=dtype,
        tensor_parallel_size=max(1, torch.cuda.device_count()),
        enable_prefix_caching=True,
        enable_lora=adapter is not None,
        max_logprobs=TOP_LABELS,
        trust_remote_code=False,
    )
    request = None if adapter is None else LoRARequest("adapter", 1, str(adapter))
    return VllmModel(name or folder.name, engine, SamplingParams, load_tokenizer(folder), request)
