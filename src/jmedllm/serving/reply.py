"""The JSON of OpenAI-compatible answers, whole and in chunks."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jmedllm.serving.answer import Choice, Delta, Usage
from jmedllm.serving.fields import GenerationRequest
from jmedllm.serving.model import TokenLogprob
from jmedllm.serving.thought import MessageField


class Reply(ABC):
    """An answer in the form of a route.

    Attributes:
        id: identifier of the request.
        model: name of the model.
        request: the request.
        usage: number of tokens, which is counted while the answer is written.
    """

    kind: str
    chunk_kind: str

    def __init__(self, id: str, model: str, request: GenerationRequest, usage: Usage) -> None:
        self.id, self.model, self.request, self.usage = id, model, request, usage
        self.created = int(time.time())
        self._texts: dict[MessageField, list[str]] = {"reasoning_content": [], "content": []}
        self._logprobs: list[dict[str, Any]] = []

    def add(self, delta: Delta) -> None:
        """Add a part to the whole answer."""
        self._texts[delta.part].append(delta.text)
        self._logprobs += logprobs_of(delta)

    def text(self, part: MessageField) -> str:
        """Return the whole text of a kind."""
        return "".join(self._texts[part])

    def record(self) -> dict[str, Any]:
        """Return request and answer with their texts, for the log of prompts."""
        asked = {"messages": self.request.messages} if self.request.messages else {"prompt": self.request.prompt}
        usage = self._usage() | {"finish_reason": self.usage.finish_reason}
        return {"id": self.id, "created": self.created, **asked, **{k: self.text(k) for k in self._texts}, **usage}

    def whole(self) -> dict[str, Any]:
        """Return the whole answer."""
        logprobs = None if self.request.logprobs is None else self._shown(self._logprobs)
        choice = {**self._whole(), "logprobs": logprobs, "finish_reason": self.usage.finish_reason}
        return self._body(self.kind, choice) | {"usage": self._usage()}

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """Return a part as a chunk."""
        logprobs = None if self.request.logprobs is None else self._shown(logprobs_of(delta))
        return self._body(self.chunk_kind, {**self._part(delta), "logprobs": logprobs, "finish_reason": None})

    def last_chunks(self) -> Iterator[dict[str, Any]]:
        """Yield the chunks after the last part."""
        end = {**self._part(None), "logprobs": None, "finish_reason": self.usage.finish_reason}
        yield self._body(self.chunk_kind, end)
        if self.request.include_usage:
            yield self._body(self.chunk_kind) | {"usage": self._usage()}

    def first_chunks(self) -> Iterator[dict[str, Any]]:
        """Yield the chunks before the first part."""
        yield from ()

    def _body(self, kind: str, *choices: Mapping[str, Any]) -> dict[str, Any]:
        numbered = [{"index": 0, **choice} for choice in choices]
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": numbered}

    def _usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.usage.prompt,
            "completion_tokens": self.usage.completion,
            "total_tokens": self.usage.prompt + self.usage.completion,
            "completion_tokens_details": {"reasoning_tokens": self.usage.reasoning},
        }

    @abstractmethod
    def _whole(self) -> dict[str, Any]:
        """Return the text fields of the whole answer."""

    @abstractmethod
    def _part(self, delta: Delta | None) -> dict[str, Any]:
        """Return the text fields of a part; None for the end."""

    @abstractmethod
    def _shown(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        """Return log-probabilities in the form of this route."""


class ChatReply(Reply):
    """An answer of /v1/chat/completions."""

    kind, chunk_kind = "chat.completion", "chat.completion.chunk"

    def first_chunks(self) -> Iterator[dict[str, Any]]:
        """Yield the role of the answer."""
        yield self._body(self.chunk_kind, {"delta": {"role": "assistant", "content": ""}, "finish_reason": None})

    def _whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text("content")}
        thought = self.text("reasoning_content")
        return {"message": message | ({"reasoning_content": thought} if thought else {})}

    def _part(self, delta: Delta | None) -> dict[str, Any]:
        return {"delta": {} if delta is None else {delta.part: delta.text}}

    def _shown(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        return {"content": entries}


class CompletionReply(Reply):
    """An answer of /v1/completions."""

    kind = chunk_kind = "text_completion"

    def _whole(self) -> dict[str, Any]:
        return {"text": self.text("content")}

    def _part(self, delta: Delta | None) -> dict[str, Any]:
        return {"text": "" if delta is None else delta.text}

    def _shown(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "tokens": [each["token"] for each in entries],
            "token_logprobs": [each["logprob"] for each in entries],
            "top_logprobs": [{top["token"]: top["logprob"] for top in each["top_logprobs"]} for each in entries],
            "text_offset": _offsets([each["bytes"] for each in entries]),
            "content": entries,  # as in chats, with ids and bytes
        }


def logprobs_of(delta: Delta) -> list[dict[str, Any]]:
    """Return the log-probabilities of a part: one entry for each token, or one for the choice."""
    if delta.choices:
        chosen = next(each for each in delta.choices if each.text == delta.text)
        return [{**_choice(chosen), "top_logprobs": [_choice(each) for each in delta.choices]}]
    return [{**_token(each.token), "top_logprobs": [_token(token) for token in each.top]} for each in delta.listed]


def _choice(choice: Choice) -> dict[str, Any]:
    return {"token": choice.text, "bytes": list(choice.text.encode()), "logprob": choice.logprob}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": _text(token.bytes), "id": token.id, "bytes": list(token.bytes), "logprob": token.logprob}


def _text(raw: bytes) -> str:
    """Return the text of a token; parts of characters as OpenAI writes them, such as `bytes:\\xe3\\x81`."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _offsets(tokens: Sequence[Sequence[int]]) -> list[int]:
    found, before = [], b""
    for each in tokens:
        found.append(len(before.decode(errors="ignore")))
        before += bytes(each)
    return found
