"""The prompt format: configured once and shared by stage 2 and evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import custom
from jmedllm.evaluation.prompts.pack import PromptPack, load_pack
from jmedllm.evaluation.prompts.render import (
    Instruction,
    Prompt,
    messages,
    prompt_hash,
    prompt_text,
    render,
    render_instruction,
)
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Language, Question
from jmedllm.files import to_json
from jmedllm.models.chat import ChatTemplate, ChatText
from jmedllm.models.chat_format import Effort, Thinking, chat_format, with_thinking
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.settings import Settings


class PromptConfig(Settings):
    """How questions are presented to the model."""

    pack: str = Field("instruction", description="built-in pack, folder with ja.j2 and en.j2, or published file")
    answer_as: AnswerForm = Field("text", description="ask for the text or the letter of the choice")
    chat: bool = Field(False, description="apply the model's chat template")
    thinking: Thinking = Field("default", description="whether the model thinks: on, off, default (its template's)")
    effort: Effort | None = Field(None, description="effort of the thought, where the template has one")
    system: str = Field("", description="system message")
    template_args: dict[str, Any] = Field({}, description="further variables for the chat template")
    date: str | None = Field(
        None, description="date that chat templates use as today, YYYY-MM-DD [the day the run began]"
    )
    shots: str | None = Field(None, description=".jsonl file of solved examples to show before each question")

    @field_validator("template_args")
    @classmethod
    def _plain(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            to_json(values)
        except TypeError:
            raise ValueError("a value is not JSON; put dates in quotes") from None
        return values

    @field_validator("thinking", mode="before")
    @classmethod
    def _word(cls, value: object) -> object:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value  # as YAML reads on and off

    @field_validator("date", mode="before")
    @classmethod
    def _day(cls, value: object) -> object:
        if isinstance(value, date):  # as YAML reads it
            value = value.isoformat()
        if isinstance(value, str):
            try:
                return date.fromisoformat(value).isoformat()
            except ValueError:
                raise ValueError(f"{value} is not a date; write it as YYYY-MM-DD") from None
        return value

    @property
    def shaping_the_template(self) -> dict[str, Any]:
        """The settings that differ from their defaults and shape the chat template."""
        return self.model_dump(include={*_TEMPLATE_SETTINGS}, exclude_defaults=True)


_TEMPLATE_SETTINGS = ("thinking", "effort", "system", "template_args", "date")


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """A prompt pack with its settings.

    Attributes:
        shots: solved examples; each prompt shows those in its own language.
        chat: whether the model's chat template is applied.
        template_args: values for variables of the chat template.
        thinking: whether the model thinks before it answers.
        effort: effort of its thought; None for the template's default.
        system: text of the system message.
        date: date that the chat template uses as today, YYYY-MM-DD; None for the day of the run.
    """

    pack: PromptPack
    answer_as: AnswerForm = "text"
    shots: tuple[Question, ...] = ()
    chat: bool = False
    template_args: Mapping[str, Any] = field(default_factory=dict)
    thinking: Thinking = "default"
    effort: Effort | None = None
    system: str = ""
    date: str | None = None

    def template(self, tokenizer: Tokenizer) -> ChatTemplate:
        """Return the tokenizer's chat template with the settings of this format.

        Raises:
            InputError: the tokenizer has none, it does not read one of the variables, or it cannot be set so.
        """
        template = ChatTemplate(tokenizer, self.template_args, self.date, self.system)
        if self.template_args:
            template.require_variables()
        template = with_thinking(template, self.thinking, self.effort)
        if self.system and not chat_format(template).takes_system:
            raise InputError("prompt.system: the model's chat template takes no system message; leave it out")
        return template

    def shots_in(self, language: Language) -> tuple[Question, ...]:
        """Return the solved examples for questions in `language`."""
        return tuple(shot for shot in self.shots if shot.language == language)

    def fingerprint(self, language: Language) -> str:
        """Hash everything that shapes prompts in `language` besides the question and the chat template."""
        chat = "chat" if self.chat else None
        return prompt_hash(self.pack, language, self.answer_as, self.shots_in(language), chat)


def ask(prompt_format: PromptFormat, question: Question, chat_text: ChatText, image_marker: str | None = None) -> str:
    """Return the prompt for `question`.

    Args:
        chat_text: used only if `prompt_format.chat`.
        image_marker: text that stands for a picture; None for a model that does not see the pictures.
    """
    shots = prompt_format.shots_in(question.language)
    prompt = render(prompt_format.pack, question, prompt_format.answer_as, shots)
    return _text(prompt_format, prompt, chat_text, image_marker)


def ask_instruction(prompt_format: PromptFormat, item: Instruction, chat_text: ChatText) -> str:
    """Return the prompt for instruction data, rendered with the same pack."""
    return _text(prompt_format, render_instruction(prompt_format.pack, item), chat_text)


def _text(prompt_format: PromptFormat, prompt: Prompt, chat_text: ChatText, image_marker: str | None = None) -> str:
    return chat_text(messages(prompt, image_marker)) if prompt_format.chat else prompt_text(prompt, image_marker)


def prepare(prompt_config: PromptConfig, data: Path) -> PromptFormat:
    """Load the pack and the solved examples that the config names.

    Raises:
        InputError: the pack or the examples are missing or broken.
    """
    shots: list[Question] = []
    if prompt_config.shots is not None:
        shots = custom.read_all(Path(prompt_config.shots))
        if not shots:
            raise InputError(f"shots {prompt_config.shots}: no solved example in this file; leave shots out")
        for shot in shots:
            if shot.images:
                raise InputError(f"{shot.images[0].place}: a solved example shows a picture; leave it out")
    return PromptFormat(
        load_pack(prompt_config.pack, data),
        prompt_config.answer_as,
        tuple(shots),
        prompt_config.chat,
        prompt_config.template_args,
        prompt_config.thinking,
        prompt_config.effort,
        prompt_config.system,
        prompt_config.date,
    )
