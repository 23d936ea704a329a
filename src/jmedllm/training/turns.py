"""The assistant's turns of a conversation, each as the prompt of an evaluation and the reply that is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jmedllm.errors import InputError, named
from jmedllm.models.chat import ChatTemplate, Message, with_thought
from jmedllm.models.chat_format import ChatFormat, chat_format
from jmedllm.training.thoughts import THOUGHT

Reasoning = Literal["train", "mask"]
"""What happens to thoughts: they are trained, or they are context of the answer."""

Messages = Sequence[Mapping[str, str]]

_PLACEHOLDER = "\ue000"
"""A private character, which no template contains."""


Turn = tuple[str, str]
"""Text before a reply, as in an evaluation (with the thought, if that is masked), and the reply without its end."""


@dataclass(frozen=True, slots=True)
class TrainingChat:
    """A chat template with all that training needs to know about it."""

    template: ChatTemplate
    format: ChatFormat
    reasoning: Reasoning = "train"

    @property
    def closing(self) -> str:
        """Text after a reply."""
        return self.format.turn_end.text


def training_chat(template: ChatTemplate, reasoning: Reasoning = "train") -> TrainingChat:
    """Derive the behavior of a template.

    Raises:
        InputError: there is no template, or it is broken.
    """
    return TrainingChat(template, chat_format(template), reasoning)


def conversation_turns(chat: TrainingChat, name: str, messages: Messages) -> list[Turn]:
    """Return the turns of the assistant in a conversation, in order.

    A turn follows the prompt that the template writes for the messages before it. Earlier messages are given to the
    template with their thoughts, so that it keeps or drops them as in an evaluation.

    Raises:
        InputError: the template refuses the messages, rewrites the assistant's words, or has no place for a thought
            or needs one; the message contains `name`.
    """
    key = chat.format.thought.key if chat.format.thought else None
    turns: list[Turn] = []
    given: list[Message] = []
    for number, message in enumerate(messages, 1):
        said: Message = {"role": message["role"], "content": message["content"]}
        thought = message.get(THOUGHT, "")
        if message["role"] == "assistant":
            with named(f"{name}: message {number}"):
                turns.append(_turn(chat, given, said["content"], thought))
        given.append(with_thought(said, thought, key) if thought and key else said)
    return turns


def chat_turn(chat: TrainingChat, prompt: str, answer: str, thought: str = "") -> Turn:
    """Return the turn that answers a prompt that the template has rendered.

    Raises:
        InputError: the template has no place for the thought, or needs one.
    """
    reply = chat.format.reply(answer, thought)
    if reply == answer:
        return prompt, reply
    asked = prompt.rstrip(" ")  # the opening of the reply has the spaces
    if thought and chat.reasoning == "mask":
        return asked + reply.removesuffix(answer), answer
    return asked, reply


def _turn(chat: TrainingChat, given: Sequence[Message], answer: str, thought: str) -> Turn:
    """Return `chat_turn` of a message, with the white space around its words that the template writes.

    A message of the assistant before any of the user follows no prompt, only the text of the conversation before it.
    """
    template = chat.template
    before = template.conversation([*given, _assistant(_PLACEHOLDER)]).partition(_PLACEHOLDER)[0]
    rest = template.conversation([*given, _assistant(answer)]).removeprefix(before)
    if answer.strip() not in rest:
        raise InputError(
            "the model's chat template rewrites the assistant's words; give them as instruction and output, or use "
            "another template"
        )
    if not rest.startswith(answer + chat.closing):
        answer = answer.strip()
    if all(message["role"] != "user" for message in given):
        if thought:
            raise InputError("a thought before the first message of the user; remove it")
        return before, answer
    prompt = template.prompt(given)
    asked, reply = chat_turn(chat, prompt, answer, thought)
    space = before.removeprefix(prompt.rstrip(" "))
    is_bare = not thought and not chat.format.answer_opening.strip()
    if is_bare and before.startswith(prompt.rstrip(" ")) and not space.strip():
        return prompt.rstrip(" "), space + answer
    return asked, reply


def _assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}
