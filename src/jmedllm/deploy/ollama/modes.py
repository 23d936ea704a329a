"""What Ollama gives a template: its values for each way of thinking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.deploy.ollama.go_template import render
from jmedllm.models.chat import ChatTemplate, Message
from jmedllm.models.chat_format import ChatFormat, with_thinking


@dataclass(frozen=True, slots=True)
class Mode:
    """A way of thinking that a request to Ollama can ask for.

    Attributes:
        condition: the condition in Go; empty for requests that ask for none.
        values: what Ollama sets then.
        template: the chat template with its settings for it.
    """

    condition: str
    values: Mapping[str, Any]
    template: ChatTemplate


def modes(template: ChatTemplate, found: ChatFormat) -> list[Mode]:
    """Return the ways of thinking, in the order in which the Go template tries them; the default comes last."""
    is_set: dict[str, Any] = {"IsThinkSet": True}
    listed = list[Mode]()
    for effort in found.efforts:
        values = {"Think": True, "ThinkLevel": effort} | is_set
        listed.append(Mode(f'eq $.ThinkLevel "{effort}"', values, with_thinking(template, "default", effort)))
    if "off" in found.settings and not found.answer_opening.strip():  # else Ollama needs the header of the answer
        values = {"Think": False, "ThinkLevel": ""} | is_set
        listed.append(Mode("and $.IsThinkSet (not $.Think)", values, with_thinking(template, "off")))
    if "on" in found.settings:
        level = "" if "medium" in found.efforts else "medium"  # Ollama's level for think: true
        values = {"Think": True, "ThinkLevel": level} | is_set
        listed.append(Mode("$.Think", values, with_thinking(template, "on")))
    return [*listed, Mode("", {"Think": False, "ThinkLevel": "", "IsThinkSet": False}, template)]


def ollama_prompt(text: str, mode: Mode, messages: Sequence[Message]) -> str:
    """Render messages as Ollama does.

    Raises:
        InputError: the template refuses them.
    """
    return render(text, ollama_values(mode, messages), {"currentDate": mode.template.date or ""})


def ollama_values(mode: Mode, messages: Sequence[Message]) -> dict[str, Any]:
    """Return the values that Ollama gives a template."""
    return {
        "System": "\n\n".join(each["content"] for each in messages if each["role"] == "system"),
        "Tools": (),
        "Messages": [
            {"Role": each["role"], "Content": each["content"], "Thinking": each.get("thinking", ""), "ToolCalls": ()}
            for each in messages
        ],
        **mode.values,
    }
