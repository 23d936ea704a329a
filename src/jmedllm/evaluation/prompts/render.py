"""Render questions as prompts, raw or as chat messages, and their right answers as text."""

from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.errors import InputError
from jmedllm.evaluation.prompts.pack import PromptPack
from jmedllm.evaluation.prompts.template import AnswerForm, fill, fill_instruction, reads
from jmedllm.evaluation.question import Language, Question, label, language_of
from jmedllm.files import hash_text, to_json
from jmedllm.models.chat import Message, with_pictures


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered question, before it becomes raw text or a chat.

    Attributes:
        block: the question, ending where the answer begins.
        shots: solved examples shown before it, each a block and its answer.
        images: number of pictures that the question shows.
    """

    block: str
    shots: tuple[tuple[str, str], ...] = ()
    images: int = 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction with its target output, for stage 2.

    Attributes:
        name: file and line, for error messages.
        input: input of the instruction; may be empty.
        thought: thought before the output, if it is given apart; else empty.
    """

    name: str
    instruction: str
    input: str
    output: str
    thought: str = ""

    @property
    def text(self) -> str:
        """Instruction, input, thought and output as one text."""
        return "\n".join([self.instruction, self.input, *filter(None, [self.thought]), self.output])

    @property
    def language(self) -> Language:
        """Japanese if kana or kanji occur in the instruction, else English."""
        return language_of(self.instruction)


def render_instruction(pack: PromptPack, item: Instruction) -> Prompt:
    """Render instruction data through the same pack as questions.

    Raises:
        InputError: the pack lacks the language or has no place for instructions.
    """
    return Prompt(fill_instruction(pack.template(item.language), item.instruction, item.input))


def render(
    pack: PromptPack, question: Question, answer_as: AnswerForm = "text", shots: Sequence[Question] = ()
) -> Prompt:
    """Render `question` after the solved examples `shots`, each in its own language.

    Raises:
        InputError: the pack lacks the language or cannot ask for letters, a template fails, or a shot has no
            right answer or is the question itself.
    """
    if any((shot.benchmark, shot.id) == (question.benchmark, question.id) for shot in shots):
        raise InputError(f"question {question.id!r} is one of its own solved examples; choose other examples")
    solved = tuple((_block(pack, shot, answer_as), answer_text(shot, answer_as)) for shot in shots)
    return Prompt(_block(pack, question, answer_as), solved, len(question.images))


def prompt_text(prompt: Prompt, image_marker: str | None = None) -> str:
    """Return the prompt as raw text: each shot's block and answer followed by an empty line, then the question's
    block.

    Args:
        image_marker: text that stands for a picture, written in front of the question's block; None to show none.
    """
    markers = image_marker * prompt.images + "\n" if image_marker and prompt.images else ""
    return "".join(f"{block}{answer}\n\n" for block, answer in prompt.shots) + markers + prompt.block


def messages(prompt: Prompt, image_marker: str | None = None) -> list[Message]:
    """Return the prompt as chat messages for a tokenizer's `apply_chat_template`; the last one is from the user.

    Args:
        image_marker: None to show no pictures; otherwise a question with pictures has its content in parts, pictures
            first, in which the template writes the marker itself.
    """
    turns: list[Message] = []
    for block, answer in prompt.shots:
        turns += [{"role": "user", "content": block}, {"role": "assistant", "content": answer}]
    if image_marker is None or not prompt.images:
        return [*turns, {"role": "user", "content": prompt.block}]
    return [*turns, {"role": "user", "content": with_pictures(prompt.block, prompt.images)}]


def answer_text(question: Question, answer_as: AnswerForm = "text") -> str:
    """Return the right answer in the form that the prompt asks for; several choices are joined by ",".

    Raises:
        InputError: the question has no right answer.
    """
    if question.number is not None:
        return question.number
    if question.is_free_text and question.reference is not None:
        return question.reference
    if not question.gold:
        raise InputError(f"question {question.id!r} has no right answer to show or to train on; leave it out")
    if answer_as == "letter":
        return ",".join(label(index) for index in sorted(question.gold))
    return ",".join(question.gold_choices)


def prompt_hash(
    pack: PromptPack,
    language: Language,
    answer_as: AnswerForm = "text",
    shots: Sequence[Question] = (),
    chat_template: str | None = None,
) -> str:
    """Hash everything that shapes a prompt besides the question: template, answer form, shots, chat template.

    Args:
        chat_template: the tokenizer's template if the prompt is sent as a chat; None for raw text.
    """
    solved = [(_block(pack, shot, answer_as), answer_text(shot, answer_as)) for shot in shots]
    return hash_text(to_json([pack.template(language).source, answer_as, solved, chat_template]))


def _block(pack: PromptPack, question: Question, answer_as: AnswerForm) -> str:
    template = pack.template(question.language)
    if question.instruction is not None and not question.choices:
        return fill_instruction(template, question.instruction, question.stem)
    if answer_as == "letter" and "answer_as" not in reads(template):
        raise InputError(f"{template.origin}: shows no letters; ask for the text, or use `answer_as` in it")
    return fill(template, question, answer_as)
