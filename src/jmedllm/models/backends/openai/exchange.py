"""One request to a server and its reply."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jmedllm.errors import InputError
from jmedllm.models.backends.base import Completion, GenerationConfig, Request, ServerSettings
from jmedllm.models.backends.openai.contact import Contact
from jmedllm.models.backends.openai.kinds import Constraint, Fields
from jmedllm.models.backends.openai.replies import (
    choice_of,
    finish_reason_of,
    new_tokens_of,
    reason_of,
    reasoning_of,
    reasoning_tokens_of,
    said_by,
    text_of,
    top_tokens,
)
from jmedllm.models.backends.top_logprobs import from_listed
from jmedllm.models.chat import IMAGE, Message, with_system
from jmedllm.models.pictures import data_url
from jmedllm.models.thoughts import leaves_thought_open, split_reply

TIMEOUT_S, SLOWEST_TOKEN_S = 120.0, 0.2
"""Default time limit of one attempt, and what each new token adds, so that a long thought on a busy server fits."""

TOP_CHAT, TOP_TEXT = 20, 5
"""Number of most likely tokens to request; some servers refuse more."""

REFUSALS = (400, 413, 422)
"""Status codes with which a server refuses one invalid request and no others."""

SLACK = 64
"""Tokens by which a server may exceed the thinking budget: it may close the thought at the end of a line."""

_OF_THE_ITEM = ("model", "messages", "prompt", "max_tokens", "max_completion_tokens", "stream")
"""Fields whose refusal may concern a single item: its text or its length."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """How a server is asked.

    Attributes:
        model: name of the model on the server.
        client: `openai.OpenAI` without retries.
        server: what is known of the server.
        settings: settings of every request.
        chat: whether prompts are chat messages, to which the server applies the model's template.
        timeout_s: time limit of one attempt, in seconds; None for the default.
    """

    model: str
    client: Any
    server: Contact
    settings: ServerSettings
    chat: bool
    timeout_s: float | None

    def require(self, requests: Sequence[Request], generation_config: GenerationConfig) -> None:
        """Check that the server takes these settings, before anything is asked."""
        title = self.server.kind.title
        self.server.kind.decoding(generation_config.decoding, 0)
        if generation_config.thinking_budget is not None and self.server.kind.thinking_budget is None:
            raise InputError(
                f"{title} takes no thinking budget; leave --thinking-budget out, or send the server's own field with "
                "--extra-body"
            )
        if not any(request.allowed for request in requests):
            return
        if self._constraint is None or (self._constraint.chat_only and not self.chat):
            raise InputError(f"{title} cannot constrain {'a reply' if self.chat else 'text'}; leave --constrain out")

    @property
    def _constraint(self) -> Constraint | None:
        kind = self.server.kind
        return (kind.constraint_after_thought if self.server.thinks else None) or kind.constraint

    def write(self, request: Request, generation_config: GenerationConfig) -> Completion:
        """Ask for a completion."""
        kind = self.server.kind
        fields = kind.decoding(generation_config.decoding, request.seed)
        if generation_config.thinking_budget is not None and kind.thinking_budget is not None:
            fields |= kind.thinking_budget(generation_config.thinking_budget)
        if self.server.thinks:
            fields |= kind.raw_thought
        if request.allowed and self._constraint is not None:
            # The text must be the allowed one alone.
            fields = dict(fields.items() - kind.raw_thought.items()) | self._constraint.fields(request.allowed)
        reply = self._send(request, fields, generation_config.max_new_tokens)
        choice, new_tokens = choice_of(reply, chat=self.chat), new_tokens_of(reply)
        completion = self._read_chat(request, choice) if self.chat else self._read_text(request, choice)
        thought = reasoning_tokens_of(reply)
        budget = generation_config.thinking_budget
        return replace(
            completion,
            finish_reason=finish_reason_of(choice, new_tokens, generation_config.max_new_tokens),
            new_tokens=new_tokens,
            reasoning_tokens=thought,
            forced=budget is not None and thought is not None and thought >= budget,
        )

    def _read_text(self, request: Request, choice: Any) -> Completion:
        text = self._allowed(request, str(choice.text), choice.finish_reason)
        return Completion(text, request.text + text, thought_open=leaves_thought_open(request.text))

    def _read_chat(self, request: Request, choice: Any) -> Completion:
        message = choice.message.to_dict(warnings=False)
        text, reasoning = self._allowed(request, text_of(message), choice.finish_reason), reasoning_of(message)
        return Completion(
            text,
            request.prompt + text,
            # A thought that the server returns separately is not in the text, whoever opened it.
            thought_open=False if reasoning or text in request.allowed else self._opens_thought(request),
            thoughts=self.server.thoughts,
            reasoning=reasoning,
        )

    def _opens_thought(self, request: Request) -> bool | None:
        return self.server.opens_thought(json.loads(request.prompt))

    def ignored(self, completion: Completion | None, generation_config: GenerationConfig) -> Iterator[str]:
        """Yield the settings that the server has demonstrably ignored in this completion."""
        if completion is None:
            return
        split = split_reply(completion.text, thought_open=completion.thought_open, thoughts=completion.thoughts)
        written = completion.reasoning or (split.thought if split.marked else "")
        if self.settings.thinking == "off" and (written or completion.reasoning_tokens):
            yield "contain a thought although thinking is off"
        # A reply without an answer is nothing but a thought.
        alone = completion.new_tokens if written and (split.cut or not split.answer.strip()) else None
        thought, budget = completion.reasoning_tokens or alone or 0, generation_config.thinking_budget
        if budget is not None and thought > budget + SLACK:
            yield f"have a thought longer than the thinking budget of {budget:,} tokens"

    def read_labels(self, request: Request) -> tuple[float, ...] | None:
        """Ask for the log-probabilities of labels as the next token; None if none of them is listed."""
        top = self._top_tokens(request)
        if not top:
            raise InputError(
                f"server {self.client.base_url} returns no probabilities; use another scorer than likelihood"
            )
        # The spellings of `encoding.label_tokens`, so that a served model and a local one are scored alike.
        return from_listed([[value for token, value in top if token in (name, f" {name}")] for name in request.labels])

    def _top_tokens(self, request: Request) -> list[tuple[str, float]]:
        listed: Fields = {"logprobs": True, "top_logprobs": TOP_CHAT} if self.chat else {"logprobs": TOP_TEXT}
        reply = self._send(request, {"temperature": 0.0, **listed}, 1)
        return top_tokens(choice_of(reply, chat=self.chat).to_dict(warnings=False), reply.to_dict(warnings=False))

    def _send(self, request: Request, fields: Fields, new_tokens: int) -> Any:
        """Send a request with these fields and those of all requests."""
        kind = self.server.kind
        body = {kind.max_tokens: new_tokens, **fields, **(self.server.fields if self.chat else {})}
        body = _merged(body, self.settings.extra_body)
        limit = TIMEOUT_S + SLOWEST_TOKEN_S * new_tokens if self.timeout_s is None else self.timeout_s
        client = self.client.with_options(timeout=limit)
        if self.chat:
            messages = with_system(_messages(request), self.server.system)
            return client.chat.completions.create(model=self.model, messages=messages, extra_body=body)
        return client.completions.create(model=self.model, prompt=request.text, extra_body=body)

    def _allowed(self, request: Request, text: str, finish_reason: str | None) -> str:
        """Return the text in a constrained reply.

        Raises:
            InputError: the reply is not the beginning of an allowed text, so that the server has ignored them.
        """
        if not request.allowed or self._constraint is None:
            return text
        found = self._constraint.read(text)
        is_cut = finish_reason != "stop"
        begins = any(each.startswith(found) for each in request.allowed) or text.lstrip().startswith("{")
        if found not in request.allowed and text.strip() and not (is_cut and begins):
            raise InputError(
                f"question {request.id}: {self.server.kind.title} ignores the constraint and replies "
                f"{text.strip()[:60]!r}; leave --constrain out"
            )
        return found

    def require_known_fields(self, error: Any) -> None:
        """Check that the server has not refused a field of the request, which concerns every item.

        Raises:
            InputError: it has; the message names the field.
        """
        sent = json.loads(error.request.content) if error.status_code in REFUSALS else {}
        fields = (name for name in sent if name not in _OF_THE_ITEM)
        if (refused := next((name for name in fields if _names(said_by(error), name)), None)) is not None:
            raise InputError(
                f"server {self.client.base_url}: refuses the field {refused} ({error.status_code}: "
                f"{reason_of(error)}); leave its setting out, or remove the field with "
                f"--extra-body '{{\"{refused}\": null}}'"
            ) from error


def _names(message: str, field: str) -> bool:
    """Return whether a message is about a field of the request. The text of a question may contain the same word."""
    name = re.escape(field)
    quoted = rf"['\"`]{name}['\"`]"
    introduced = rf"(?i:argument|parameter|param|field|propert)\w*\W+(?:\w+\W+){{0,3}}{name}\b"
    subject = rf"(?<![\w.]){name} (?:is|does|must|should|cannot|can)\b"
    located = rf"\bbody(?:\.|\s*->\s*|['\"],\s*['\"]){name}\b"  # its place in the request, as vLLM writes it
    return re.search(f"{quoted}|{introduced}|{subject}|{located}", message) is not None


def _merged(fields: Fields, extra: Mapping[str, Any]) -> Fields:
    """Add the user's fields, which win. Objects in both are joined; None removes a field."""
    joined = {
        name: {**fields[name], **value} if isinstance(value, Mapping) and isinstance(fields.get(name), dict) else value
        for name, value in extra.items()
    }
    return {name: value for name, value in {**fields, **joined}.items() if value is not None}


def _messages(request: Request) -> list[Message]:
    """Return the messages of a prompt, with each picture as a data URL."""
    messages: list[Message] = json.loads(request.prompt)
    pictures = iter(request.images)
    for message in messages:
        if isinstance(message["content"], list):
            message["content"] = [
                {"type": "image_url", "image_url": {"url": data_url(next(pictures))}}
                if part["type"] == IMAGE
                else part
                for part in message["content"]
            ]
    return messages
