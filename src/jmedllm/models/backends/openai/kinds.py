"""Kinds of OpenAI-compatible servers: how each one names what OpenAI's own API does not have.

The names are those of vLLM (main of 2026), llama.cpp (b11549), SGLang (0.5), `transformers serve` (5.23) and Ollama.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jmedllm.errors import InputError
from jmedllm.models.backends.base import GREEDY, Decoding

Fields = dict[str, Any]
"""Fields of the JSON body of a request."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """How to make a server write nothing but one of several texts.

    Attributes:
        fields: returns the fields of a request for the allowed texts.
        read: returns the text in a reply.
        chat_only: whether only chats can be constrained.
    """

    fields: Callable[[Sequence[str]], Fields]
    read: Callable[[str], str] = str.strip
    chat_only: bool = False


@dataclass(frozen=True, slots=True)
class ServerKind:
    """What a kind of server takes.

    Attributes:
        title: its name in messages.
        names: its fields for attributes of `Decoding`; it has none for those that are missing.
        has_defaults: whether it takes settings that a request leaves out from the model's files or its command line,
            so that all of them must be sent.
        all_tokens: its `top_k` for all tokens.
        thinking_budget: returns the fields that limit a thought to a number of tokens; None if it cannot.
        budget_needs: how it must be started to take a thinking budget.
        constraint: how a reply is constrained; None if it cannot be.
        constraint_after_thought: the same for a model that thinks, if that is different.
        raw_thought: fields with which it leaves a thought in the text, with its markers. A thought that a server
            separates and that is empty cannot be distinguished from one that it has not separated.
        max_tokens: its field for the maximum number of new tokens.
        effort: whether `reasoning_effort` is a field of a request; otherwise it is a variable of the chat template.
        packed: returns decoding fields in the server's own form.
    """

    title: str
    names: Mapping[str, str] = field(default_factory=dict)
    has_defaults: bool = False
    all_tokens: int = 0
    thinking_budget: Callable[[int], Fields] | None = None
    budget_needs: str = ""
    constraint: Constraint | None = None
    constraint_after_thought: Constraint | None = None
    raw_thought: Fields = field(default_factory=dict)
    max_tokens: str = "max_tokens"
    effort: bool = True
    packed: Callable[[Fields], Fields] = dict

    def decoding(self, decoding: Decoding, seed: int) -> Fields:
        """Return the fields for how tokens are chosen.

        Args:
            seed: seed of a completion; not sent if nothing is random.

        Raises:
            InputError: the server takes no such setting.
        """
        samples = decoding.temperature > 0
        fields: Fields = {"temperature": decoding.temperature}
        if samples:
            fields |= {"top_p": decoding.top_p, "seed": seed}
        for name in ("top_k", "min_p", "repetition_penalty"):
            value = getattr(decoding, name)
            is_set = value != getattr(GREEDY, name)
            if is_set and name not in self.names:
                raise InputError(f"{self.title} takes no {name}; leave it out of the decoding settings")
            matters = samples or name == "repetition_penalty"
            if is_set or (self.has_defaults and matters and name in self.names):
                fields[self.names[name]] = self.all_tokens if (name, value) == ("top_k", 0) else value
        return self.packed(fields)


def _grammar(texts: Sequence[str]) -> str:
    """Write a grammar (GBNF, which is also EBNF) of these texts."""
    return "root ::= " + " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)


def _schema(texts: Sequence[str]) -> Fields:
    answer = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(texts)}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": answer}}}


def _answer_in(reply: str) -> str:
    """Return the answer in a JSON object; the reply itself if it is none."""
    try:
        return str(json.loads(reply)["answer"])
    except (ValueError, LookupError, TypeError):
        return reply


def _generation_config(fields: Fields) -> Fields:
    """Pack settings for `transformers serve`, which samples only if its `generation_config` says so."""
    samples = fields["temperature"] > 0
    config = {name: value for name, value in fields.items() if name != "seed" and (samples or name != "temperature")}
    sent = {name: value for name, value in fields.items() if name in ("temperature", "seed")}
    return {**sent, "generation_config": json.dumps({"do_sample": samples, **config})}


_NAMES = {name: name for name in ("top_k", "min_p", "repetition_penalty")}
_CHOICE = Constraint(lambda texts: {"structured_outputs": {"choice": list(texts)}})
_SCHEMA = Constraint(_schema, _answer_in, chat_only=True)

UNKNOWN = ServerKind("the server", _NAMES, constraint=_SCHEMA)
"""A server that does not say what it is. Settings that OpenAI's API does not have are sent only if they are set."""

OPENAI = ServerKind("OpenAI", constraint=_SCHEMA, max_tokens="max_completion_tokens")

LLAMA_CPP = ServerKind(
    "llama.cpp",
    _NAMES | {"repetition_penalty": "repeat_penalty"},
    has_defaults=True,
    thinking_budget=lambda tokens: {"thinking_budget_tokens": tokens},
    budget_needs="a build of 2026 without --reasoning-budget",
    constraint=Constraint(lambda texts: {"grammar": _grammar(texts)}),
    constraint_after_thought=_SCHEMA,  # a grammar constrains the thought, too
    raw_thought={"reasoning_format": "none"},
    effort=False,
)

TRANSFORMERS = ServerKind("transformers serve", _NAMES, has_defaults=True, effort=False, packed=_generation_config)

KINDS: dict[str, ServerKind] = {
    "vllm": ServerKind(
        "vLLM",
        _NAMES,
        has_defaults=True,
        thinking_budget=lambda tokens: {"thinking_token_budget": tokens},
        budget_needs="--reasoning-parser or --reasoning-config (vLLM 0.20 or later)",
        constraint=_CHOICE,
    ),
    "sglang": ServerKind(
        "SGLang",
        _NAMES,
        has_defaults=True,
        all_tokens=-1,
        thinking_budget=lambda tokens: {"custom_params": {"thinking_budget": tokens}},
        budget_needs="--enable-strict-thinking and --reasoning-parser",
        constraint=Constraint(lambda texts: {"ebnf": _grammar(texts)}),
    ),
    "llamacpp": LLAMA_CPP,
    "library": ServerKind("Ollama", constraint=_SCHEMA),
    "jmedllm": ServerKind("jmedllm deploy serve", _NAMES, constraint=_CHOICE, effort=False),
}
"""Kinds of servers by the `owned_by` of their models."""
