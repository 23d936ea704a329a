"""What a server says of itself: its kind and its chat template, and how to set the template."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jmedllm.errors import InputError
from jmedllm.http_client import RefusedReplyError
from jmedllm.models.backends.base import ServerSettings
from jmedllm.models.backends.openai.kinds import KINDS, LLAMA_CPP, OPENAI, TRANSFORMERS, UNKNOWN, Fields, ServerKind
from jmedllm.models.backends.openai.throttle import UNREADABLE
from jmedllm.models.chat import ChatTemplate, Message
from jmedllm.models.chat_format import chat_format, with_thinking
from jmedllm.models.thoughts import Thought, leaves_thought_open, thoughts_of_template
from jmedllm.models.tokenizer.encoding import Tokenizer


@dataclass(frozen=True)
class Contact:
    """A server and how to set its chat template.

    Attributes:
        template: the server's chat template with the settings; None if it does not show it, or prompts are no chats.
        fields: fields of each request that set the template.
        thinks: whether the model may think before it answers.
    """

    kind: ServerKind = UNKNOWN
    template: ChatTemplate | None = None
    fields: Fields = field(default_factory=dict)
    thinks: bool = False

    @property
    def system(self) -> str:
        """The line of the system message that the settings need."""
        return self.template.system if self.template else ""

    @cached_property
    def thoughts(self) -> tuple[Thought, ...]:
        """Markers of thoughts that only this template has."""
        return thoughts_of_template(self.template.source) if self.template else ()

    def opens_thought(self, messages: list[Message]) -> bool | None:
        """Return whether the template opens a thought for these messages; None if unknown."""
        if self.template is None:
            return None
        try:
            prompt = self.template.prompt(messages)
        except InputError:
            return None  # it needs variables that only the server has
        return leaves_thought_open(prompt, self.thoughts)


def contact(client: Any, settings: ServerSettings, *, chat: bool) -> Contact:
    """Ask a server what it is, and prepare its chat template.

    Args:
        client: `openai.OpenAI` without retries and with a short time limit.
        chat: whether prompts are chats.

    Raises:
        InputError: the template that the server shows cannot be set so.
    """
    kind, properties = _identify(client)
    if not chat:
        return Contact(kind)
    source = properties.get("chat_template")
    if not isinstance(source, str):
        return Contact(kind, fields=_unseen_fields(settings, kind), thinks=settings.thinking == "on")
    template = ChatTemplate(_tokenizer(source, properties), dict(settings.template_args))
    if settings.template_args:
        template.require_variables()
    set_template = with_thinking(template, settings.thinking, settings.effort)
    if set_template.closing:
        raise InputError(
            f"prompt.thinking: {settings.thinking}: the server's chat template has no switch for it; leave it out, or "
            "evaluate the model with another backend, which can close the thought in the prompt"
        )
    kwargs = {"chat_template_kwargs": dict(set_template.variables)} if set_template.variables else {}
    found = chat_format(set_template)
    return Contact(kind, set_template, kwargs, found.thought is not None and found.prompt_thought != "closed")


def _unseen_fields(settings: ServerSettings, kind: ServerKind) -> Fields:
    """Return the fields that set a template that the server does not show: the variables that templates commonly
    read."""
    variables: dict[str, Any] = {}
    fields: Fields = {}
    if settings.thinking != "default":
        variables |= dict.fromkeys(("enable_thinking", "thinking"), settings.thinking == "on")
    if settings.effort is not None:
        (fields if kind.effort else variables)["reasoning_effort"] = settings.effort
    variables |= settings.template_args
    return fields | ({"chat_template_kwargs": variables} if variables else {})


def _identify(client: Any) -> tuple[ServerKind, Mapping[str, Any]]:
    """Return the kind of a server, and the properties that llama.cpp and our server show."""
    if str(client.base_url.host).endswith(("api.openai.com", ".openai.azure.com")):
        return OPENAI, {}
    root = str(client.base_url).rstrip("/").removesuffix("/v1")
    models = _get(client, f"{str(client.base_url).rstrip('/')}/models").get("data")
    models = [each for each in models if isinstance(each, dict)] if isinstance(models, list) else []
    owners = [each.get("owned_by") for each in models]
    # Our server shows the template with the model.
    properties = next((each for each in models if "chat_template" in each), None) or _get(client, f"{root}/props")
    kind = next((KINDS[owner] for owner in owners if owner in KINDS), None)
    if kind is None and "default_generation_settings" in properties:
        kind = LLAMA_CPP
    if kind is None and "/load_model" in _get(client, f"{root}/openapi.json").get("paths", {}):
        kind = TRANSFORMERS
    return kind or UNKNOWN, properties


def _get(client: Any, url: str) -> Mapping[str, Any]:
    """Return the JSON object at an address; an empty one if there is none."""
    from openai import OpenAIError

    try:
        found = client.get(url, cast_to=object)
    except (OpenAIError, RefusedReplyError, *UNREADABLE):
        return {}
    return found if isinstance(found, dict) else {}


def _tokenizer(source: str, properties: Mapping[str, Any]) -> Tokenizer:
    """Return a tokenizer without a vocabulary, which only renders the template."""
    from tokenizers import Tokenizer as Vocabulary
    from tokenizers import models
    from transformers import PreTrainedTokenizerFast

    special = {name: properties[name] for name in ("bos_token", "eos_token") if properties.get(name)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Vocabulary(models.BPE()), name_or_path="of the server", **special
    )
    tokenizer.chat_template = source
    return tokenizer
