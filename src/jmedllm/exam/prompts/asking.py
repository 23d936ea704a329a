"""One way of putting questions, fixed once and used alike by stage 2 and by the exam."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from jmedllm.exam.benchmarks import own
from jmedllm.exam.prompts.pack import PromptPack, load_pack
from jmedllm.exam.prompts.render import (
    Instruction,
    Prompt,
    messages,
    prompt_hash,
    prompt_text,
    render,
    render_instruction,
)
from jmedllm.exam.prompts.template import AnswerForm
from jmedllm.exam.question import Language, Question
from jmedllm.settings import Settings

ChatText = Callable[[list[dict[str, str]]], str]
"""A model's chat template: turns in, the text that makes the model answer out."""


class Prompting(Settings):
    """How questions are put to the model."""

    pack: str = Field("instruction", description="built-in pack, folder of ja.j2 and en.j2, or published file")
    answer_as: AnswerForm = Field("text", description="text or letter of the choice")
    chat: bool = Field(False, description="go through the model's own chat template")
    shots: str | None = Field(None, description=".jsonl file of solved examples shown before each question")


@dataclass(frozen=True, slots=True)
class Asking:
    """A prompt pack with its settings.

    Attributes:
        shots: solved examples; each prompt shows those of its own language.
        chat: whether the prompt goes through the model's chat template.
    """

    pack: PromptPack
    answer_as: AnswerForm = "text"
    shots: tuple[Question, ...] = ()
    chat: bool = False

    def shots_in(self, language: Language) -> tuple[Question, ...]:
        """The solved examples shown to questions in `language`."""
        return tuple(shot for shot in self.shots if shot.language == language)

    def fingerprint(self, language: Language) -> str:
        """Hash of all that shapes prompts in `language` besides the question and the chat template."""
        chat = "chat" if self.chat else None
        return prompt_hash(self.pack, language, self.answer_as, self.shots_in(language), chat)


def ask(asking: Asking, question: Question, chat_text: ChatText) -> str:
    """The text that the model is given for `question`; `chat_text` is used only if `asking.chat`."""
    shots = asking.shots_in(question.language)
    return _text(asking, render(asking.pack, question, asking.answer_as, shots), chat_text)


def ask_instruction(asking: Asking, item: Instruction, chat_text: ChatText) -> str:
    """The text that the model is given for instruction data, by the same pack."""
    return _text(asking, render_instruction(asking.pack, item), chat_text)


def _text(asking: Asking, prompt: Prompt, chat_text: ChatText) -> str:
    return chat_text(messages(prompt)) if asking.chat else prompt_text(prompt)


def prepare(prompting: Prompting, data: Path) -> Asking:
    """Load the pack and the solved examples that the settings name.

    Raises:
        InputError: one of them is missing or broken.
    """
    shots: list[Question] = []
    if prompting.shots is not None:
        shots = own.read_all(Path(prompting.shots))
    return Asking(load_pack(prompting.pack, data), prompting.answer_as, tuple(shots), prompting.chat)
