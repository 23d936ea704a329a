"""From a question to what the model reads, as raw text or as chat turns, and to the answer it should give."""

from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.errors import InputError
from jmedllm.evaluation.prompts.pack import PromptPack
from jmedllm.evaluation.prompts.template import AnswerForm, fill, fill_instruction, reads
from jmedllm.evaluation.question import Language, Question, label, language_of
from jmedllm.files import hash_text, to_json


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is asked, before it takes the form of raw text or of a chat.

    Attributes:
        block: the question, ending where the answer begins.
        shots: solved examples that go before it, each its own block and its answer.
    """

    block: str
    shots: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Instruction:
    """A task in free form with its wanted output, for stage 2.

    Attributes:
        name: where it comes from, for messages.
        input: what to work on; may be empty.
    """

    name: str
    instruction: str
    input: str
    output: str

    @property
    def text(self) -> str:
        """All of it, as it would stand in a text."""
        return "\n".join([self.instruction, self.input, self.output])

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
    """Render `question` with `shots` as solved examples before it, each in its own language.

    Raises:
        InputError: the pack lacks the language or cannot ask for letters, a template fails, or a shot has no
            right answer or is the question itself.
    """
    if any((shot.benchmark, shot.id) == (question.benchmark, question.id) for shot in shots):
        raise InputError(f"question {question.id!r} is among its own solved examples; choose other examples")
    solved = tuple((_block(pack, shot, answer_as), answer_text(shot, answer_as)) for shot in shots)
    return Prompt(_block(pack, question, answer_as), solved)


def prompt_text(prompt: Prompt) -> str:
    """Raw text: each shot's block and answer, a blank line, at last the block to be answered."""
    return "".join(f"{block}{answer}\n\n" for block, answer in prompt.shots) + prompt.block


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """Chat turns for a tokenizer's `apply_chat_template`; the last one is the user's."""
    turns: list[dict[str, str]] = []
    for block, answer in prompt.shots:
        turns += [{"role": "user", "content": block}, {"role": "assistant", "content": answer}]
    return [*turns, {"role": "user", "content": prompt.block}]


def answer_text(question: Question, answer_as: AnswerForm = "text") -> str:
    """The right answer in the form the prompt asks for; several choices are joined by ",".

    Raises:
        InputError: the question has no right answer.
    """
    if question.number is not None:
        return question.number
    if not question.gold:
        raise InputError(f"question {question.id!r} has no right answer to show or train on; leave it out")
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
    """Hash of all that shapes a prompt besides the question: it changes when, and only when, they change.

    Args:
        chat_template: the tokenizer's template where the prompt goes out as a chat; None for raw text.
    """
    solved = [(_block(pack, shot, answer_as), answer_text(shot, answer_as)) for shot in shots]
    return hash_text(to_json([pack.template(language).source, answer_as, solved, chat_template]))


def _block(pack: PromptPack, question: Question, answer_as: AnswerForm) -> str:
    template = pack.template(question.language)
    if answer_as == "letter" and "answer_as" not in reads(template):
        raise InputError(f"{template.origin}: shows no letters; ask for answers as text or read answer_as there")
    return fill(template, question, answer_as)
