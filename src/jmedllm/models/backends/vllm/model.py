"""Models on the GPUs of this machine, run by vLLM with many prompts per call.

Written against vLLM 0.32, and main of 2026 (`vllm/sampling_params.py` at 00388f6).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, not_installed
from jmedllm.models.backends.base import (
    GREEDY,
    Completion,
    Decoding,
    GenerationConfig,
    Request,
    Response,
    does_not_fit,
    never,
)
from jmedllm.models.backends.completion import NOTHING, Ends, completion, ends_of
from jmedllm.models.backends.top_logprobs import from_listed
from jmedllm.models.loading import load_structure
from jmedllm.models.thoughts import Thought, ends_in_thought, leaves_thought_open, thoughts_of_template
from jmedllm.models.tokenizer.encoding import Spelled, Tokenizer, encode, encode_pairs, spell_labels
from jmedllm.models.tokenizer.load import load_tokenizer

TOP_LABELS = 20
"""Number of most likely next tokens to read labels from, which is the maximum of vLLM's default."""


CHUNK = 1000
"""Number of requests per call: enough to keep a GPU busy, few enough to lose little if the process is killed."""


@dataclass(frozen=True)
class VllmModel:
    """A model loaded by vLLM.

    Attributes:
        llm: `vllm.LLM`.
        sampling: `vllm.SamplingParams`.
        constraint: `vllm.sampling_params.StructuredOutputsParams`.
        context: maximum number of tokens of prompt and continuation.
        adapter: `vllm.lora.request.LoRARequest`, or None.
        ends: stop conditions besides those that vLLM reads from the model.
        thoughts: markers of thoughts that only this model's template has.
    """

    name: str
    llm: Any
    sampling: Any
    constraint: Any
    tokenizer: Tokenizer
    context: int
    adapter: Any = None
    ends: Ends = NOTHING
    thoughts: tuple[Thought, ...] = ()

    def answer(
        self, requests: Sequence[Request], generation_config: GenerationConfig
    ) -> Iterator[tuple[int, Response]]:
        """Yield responses with the index of their request, `CHUNK` at a time; see `InferenceModel`.

        Raises:
            InputError: the requests have choices, which vLLM could score only without its prefix cache; a label is
                not one token after its prompt; a constrained prompt opens a thought; or a request does not fit the
                context.
        """
        if any(request.choices for request in requests):
            raise InputError(
                "backend vllm returns no log-probabilities of whole choices; ask for letters (--answer-as letter), or "
                "use backend transformers"
            )
        if any(request.allowed and leaves_thought_open(request.text, self.thoughts) for request in requests):
            raise InputError("backend vllm constrains the thought, too; give --thinking off, or leave --constrain out")
        prompts = encode(self.tokenizer, [request.text for request in requests])
        too_long = {
            index: why
            for index, (request, prompt) in enumerate(zip(requests, prompts, strict=True))
            if (why := self._no_room(request, len(prompt), generation_config))
        }
        if too_long and not generation_config.skip_invalid:
            raise does_not_fit(too_long.values())
        asked = [(request.answer_prompt, request.labels) for request in requests]
        answers = encode(self.tokenizer, [prompt.rstrip(" ") for prompt, _ in asked])
        spelled = spell_labels(self.tokenizer, asked)
        spellings = [_tokens(request, each) for request, each in zip(requests, spelled, strict=True)]
        for index in too_long:
            yield index, Response(failure="too long")
        for start in range(0, len(requests), CHUNK):
            began = time.monotonic()
            part = [i for i in range(start, min(start + CHUNK, len(requests))) if i not in too_long]
            read = [i for i in part if requests[i].labels]
            found = self._labels([answers[i] for i in read], [spellings[i] for i in read])
            labels = dict(zip(read, found, strict=True))
            write = [i for i in part if requests[i].generate]
            texts = self._write([Reply(requests[i], prompts[i]) for i in write], generation_config)
            written = dict(zip(write, texts, strict=True))
            seconds = time.monotonic() - began
            for index in part:
                yield index, Response(written.get(index), labels.get(index), seconds=seconds)

    def _no_room(self, request: Request, prompt: int, generation_config: GenerationConfig) -> str:
        """Return why a request does not fit the context; empty if it does."""
        new = generation_config.max_new_tokens if request.generate else 1
        new += len(self._closing(generation_config)) if request.generate else 0
        if prompt + new <= self.context:
            return ""
        what = f"prompt and {new} new tokens" if request.generate else "the prompt and a label"
        limit = f"the context of {self.name} is {self.context}"
        return f"question {request.id}: {what} need {prompt + new} tokens, {limit}"

    def _generate(self, prompts: Sequence[list[int]], sampling: Any) -> list[Any]:
        """Return an output for each prompt.

        Args:
            sampling: `vllm.SamplingParams` for all prompts, or one for each.
        """
        # Prompts are passed as token ids, so that text is always encoded by `encode`.
        given = [{"prompt_token_ids": ids} for ids in prompts]
        replies = self.llm.generate(given, sampling, lora_request=self.adapter, use_tqdm=True) if given else []
        return [reply.outputs[0] for reply in replies]

    def _labels(
        self, prompts: Sequence[list[int]], spellings: Sequence[list[list[int]]]
    ) -> Iterator[tuple[float, ...] | None]:
        outputs = self._generate(prompts, self.sampling(temperature=0.0, max_tokens=1, logprobs=TOP_LABELS))
        for labels, output in zip(spellings, outputs, strict=True):
            top = {token: each.logprob for token, each in output.logprobs[0].items()}
            yield from_listed([[top[token] for token in tokens if token in top] for tokens in labels])

    def _write(self, asked: Sequence["Reply"], generation_config: GenerationConfig) -> list[Completion]:
        """Return completions. If the first line may be enough, they stop after it, and those that need more are
        generated again in full."""
        if generation_config.is_final is never or generation_config.thinking_budget is not None:
            return self._complete(asked, generation_config)
        done = self._complete(asked, generation_config, one_line=True)
        again = [
            i for i, first in enumerate(done) if first.text.endswith("\n") and not generation_config.is_final(first)
        ]
        whole = self._complete([asked[i] for i in again], generation_config)
        for i, written in zip(again, whole, strict=True):
            done[i] = written
        return done

    def _complete(
        self, asked: Sequence["Reply"], generation_config: GenerationConfig, *, one_line: bool = False
    ) -> list[Completion]:
        """Return completions that stop at an end, at the limit or, with `one_line`, after their first line.

        With a thinking budget the replies are first generated up to it. Those that have not ended are then continued;
        if their thought is still open, behind text that closes it.
        """
        limit, budget = generation_config.max_new_tokens, generation_config.thinking_budget
        first = limit if budget is None else min(budget, limit)
        replies = self._continue(asked, generation_config, [first] * len(asked), one_line=one_line)
        if budget is not None:
            closing = self._closing(generation_config)
            going = [
                i for i, reply in enumerate(replies) if reply.finish_reason == "length" and len(reply.written) < limit
            ]
            closed = [replace(replies[i], closing=closing) if self._thinks(replies[i]) else replies[i] for i in going]
            left = [limit - len(replies[i].written) for i in going]
            for i, reply in zip(going, self._continue(closed, generation_config, left), strict=True):
                replies[i] = reply
        return [self._completion(reply, one_line) for reply in replies]

    def _continue(
        self,
        replies: Sequence["Reply"],
        generation_config: GenerationConfig,
        limits: Sequence[int],
        *,
        one_line: bool = False,
    ) -> list["Reply"]:
        """Return replies with the tokens that the model adds to each."""
        stops = ["\n"] * one_line + [self.ends.text] * bool(self.ends.text)
        common = _decoding(generation_config.decoding) | {"stop_token_ids": sorted(self.ends.tokens)}
        common |= {"stop": stops} if stops else {}
        own = [
            {"max_tokens": limit} | self._own(reply.request, generation_config.decoding)
            for reply, limit in zip(replies, limits, strict=True)
        ]
        alike = all(settings == own[0] for settings in own)
        sampling = (
            self.sampling(**common, **own[0]) if own and alike else [self.sampling(**common, **each) for each in own]
        )
        outputs = self._generate([reply.tokens for reply in replies], sampling)
        return [
            replace(
                reply, written=[*reply.written, *reply.closing, *output.token_ids], finish_reason=output.finish_reason
            )
            for reply, output in zip(replies, outputs, strict=True)
        ]

    def _own(self, request: Request, decoding: Decoding) -> dict[str, Any]:
        """Return the settings of one request."""
        seed = {"seed": request.seed} if decoding.temperature > 0 else {}
        return seed | (
            {"structured_outputs": self.constraint(choice=list(request.allowed))} if request.allowed else {}
        )

    def _closing(self, generation_config: GenerationConfig) -> list[int]:
        """Return the tokens that close a thought at the budget."""
        text = generation_config.thought_closing if generation_config.thinking_budget is not None else ""
        # After a digit, which merges with nothing; alone, some tokenizers add a space.
        return encode_pairs(self.tokenizer, [("0", text)])[0][1] if text else []

    def _thinks(self, reply: "Reply") -> bool:
        opened = leaves_thought_open(reply.request.text, self.thoughts)
        return ends_in_thought(self._text(reply.written), self.thoughts, thought_open=opened)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    def _completion(self, reply: "Reply", one_line: bool) -> Completion:
        """Decode the ids as for a local model, because vLLM's text may omit or include the end."""
        cut = reply.finish_reason == "length"
        whole = completion(self.tokenizer, self.ends, reply.prompt, reply.written, truncated=cut)
        beyond = whole.text.partition("\n")[2] if one_line else ""  # the last token may be more than a line feed
        return replace(
            whole,
            text=whole.text.removesuffix(beyond),
            decoded=whole.decoded and whole.decoded.removesuffix(beyond),
            plain=whole.plain and whole.plain.removesuffix(beyond),
            new_tokens=len(reply.written) - len(reply.closing),
            thought_open=leaves_thought_open(reply.request.text, self.thoughts),
            thoughts=self.thoughts,
            forced=bool(reply.closing),
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that is being written.

    Attributes:
        prompt: tokens of the prompt.
        written: tokens of the reply so far, with those of `closing`.
        closing: tokens that close the thought, if it has reached the budget.
        finish_reason: why the model has stopped.
    """

    request: Request
    prompt: list[int]
    written: list[int] = field(default_factory=list)
    closing: list[int] = field(default_factory=list)
    finish_reason: str | None = None

    @property
    def tokens(self) -> list[int]:
        """Tokens for the model to continue."""
        return [*self.prompt, *self.written, *self.closing]


def _decoding(decoding: Decoding) -> dict[str, Any]:
    """Return vLLM's settings of how tokens are chosen; it has no use for those that are the defaults."""
    return {"temperature": decoding.temperature} | {
        name: value
        for name in ("top_p", "top_k", "min_p", "repetition_penalty")
        if (value := getattr(decoding, name)) != getattr(GREEDY, name)
    }


def _tokens(request: Request, spelled: Spelled) -> list[list[int]]:
    """Return the tokens that spell each label after the prompt."""
    if not spelled.is_next_token:
        raise InputError(
            f"question {request.id}: a label is not one token after this prompt, and backend vllm reads one "
            "position only; end the prompt with a line feed, or use backend transformers"
        )
    return [[ids[0] for ids in each] for each in spelled.labels]


def load_model(folder: Path, dtype: str, *, adapter: Path | None = None, name: str | None = None) -> VllmModel:
    """Load a model directory into vLLM, over all GPUs of this machine.

    Raises:
        InputError: vLLM is not installed.
    """
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import StructuredOutputsParams
    except ImportError:
        raise not_installed("backend vllm", "vllm") from None
    import torch

    load_structure(folder)  # vLLM does not check that all tensors are there
    llm = LLM(
        model=str(folder),
        dtype=dtype,
        tensor_parallel_size=max(1, torch.cuda.device_count()),
        enable_prefix_caching=True,
        enable_lora=adapter is not None,
        max_logprobs=TOP_LABELS,
        trust_remote_code=False,
    )
    request = None if adapter is None else LoRARequest("adapter", 1, str(adapter))
    context = int(llm.llm_engine.model_config.max_model_len)
    tokenizer = load_tokenizer(folder, adapter)
    return VllmModel(
        name or folder.name, llm, SamplingParams, StructuredOutputsParams, tokenizer, context, request,
        ends_of(tokenizer), thoughts_of_template(tokenizer.chat_template),
    )  # fmt: skip
