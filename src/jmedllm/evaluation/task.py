"""Evaluation task: the questions of one benchmark in one language, with prompts and scorers."""

from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import Any, Literal

from jmedllm.evaluation.benchmarks import custom
from jmedllm.evaluation.decoding import GREEDY_CONFIG, DecodingConfig
from jmedllm.evaluation.order import PresentedQuestion, present
from jmedllm.evaluation.prompts.format import PromptFormat, ask
from jmedllm.evaluation.question import Picture, Question, label, question_hash
from jmedllm.files import hash_text
from jmedllm.models.chat import ChatText

MOST_REPLIES = 200
"""Largest number of texts that a reply is constrained to."""
MAX_NEW_TOKENS = {False: 256, True: 8192}
"""Default length of a response in tokens, of a model that answers at once and of one that thinks first."""


@dataclass(frozen=True, slots=True)
class EvalTask:
    """The questions of one benchmark in one language, with prompts and scorers.

    Attributes:
        questions: at least one question, all of one benchmark and language.
        selected: number of items in the selection; a limit may leave fewer.
        shuffle: seed of a random order of the choices; None for the printed order.
        rotations: number of rotations of the choices in which each question is presented.
        scorers: names from `SCORERS`.
        selection: name of the selection, which is applied before the limit.
        max_new_tokens: maximum length of a response; None for the default, see `MAX_NEW_TOKENS`.
        thinks: whether the model thinks before it answers.
        decoding: how tokens are chosen; with `recommended` until the model is known.
        samples: number of responses to each presentation.
        thinking_budget: maximum length of a thought in tokens; None for no limit of its own.
        thought_closing: text with which the chat template of the model closes a thought at the budget.
        answer_opening: text between the prompts of the model and an answer, which choices and labels follow.
        left_out: number of items that the selection left out, by reason; a limit does not count.
        notes: remarks for reports on how the questions were read.
        read_options: options for reading custom questions.
        skip_invalid: whether an item that the model cannot be asked counts as no answer instead of ending the
            evaluation.
        images: whether models that see pictures are shown those of the questions.
        constrain: whether the model may write nothing but choices, or their labels.
        image_marker: text that stands for a picture in the prompts of the model; None if it is shown none.
        source: origin of the questions as the user gave it: "data" and, for custom questions, "file"; and the
            "command" that asks the model again, without its output and scorers. `jmedllm score` needs them; they are
            not part of the settings. "released" is the day on which the model was released, if it was given.
    """

    questions: tuple[Question, ...]
    selected: int
    prompt_format: PromptFormat
    scorers: tuple[str, ...]
    selection: str
    split: str
    max_new_tokens: int | None = None
    thinks: bool = False
    decoding: DecodingConfig = GREEDY_CONFIG
    samples: int = 1
    thinking_budget: int | None = None
    thought_closing: str = ""
    answer_opening: str = ""
    shuffle: int | None = None
    rotations: int = 1
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    read_options: custom.ReadOptions = custom.DEFAULT_READ_OPTIONS
    skip_invalid: bool = False
    images: bool = True
    constrain: bool = False
    image_marker: str | None = None
    source: dict[str, str] = field(default_factory=dict)

    @property
    def by_label(self) -> bool:
        """Whether log-probabilities are those of the choices' labels, because the prompt asks for a letter."""
        return self.prompt_format.answer_as == "letter"

    @property
    def log_probs_of(self) -> Literal["texts", "labels"]:
        """Return "labels" or "texts", whose log-probabilities are asked for."""
        return "labels" if self.by_label else "texts"

    def presented(self) -> list[PresentedQuestion]:
        """Return all presentations of all questions, with all samples."""
        return [
            each
            for question in self.questions
            for each in present(question, self.shuffle, self.rotations, self.samples)
        ]

    @property
    def token_limit(self) -> int:
        """Maximum length of a response in tokens."""
        return self.max_new_tokens or MAX_NEW_TOKENS[self.thinks]

    @property
    def with_images(self) -> int:
        """Number of questions whose pictures are in the data."""
        return sum(bool(question.images) for question in self.questions)

    @property
    def _images(self) -> Literal["shown", "blind", "hidden"]:
        if self.image_marker is not None:
            return "shown"
        return "blind" if self.images else "hidden"

    def prompt(self, question: Question, chat_text: ChatText) -> str:
        """Return the prompt for one of the questions, in any order of its choices."""
        return ask(self.prompt_format, question, chat_text, self.image_marker)

    def shown(self, question: Question) -> tuple[Picture, ...]:
        """Return the pictures of a question that the model is shown."""
        return question.images if self.image_marker is not None else ()

    def allowed(self, question: Question) -> tuple[str, ...]:
        """Return the texts one of which the reply to a question must be; empty for any text.

        These are the choices, or their labels if the prompt asks for them; of a question that asks for several,
        all combinations, with commas between.
        """
        choices = tuple(map(label, range(len(question.choices)))) if self.by_label else question.choices
        if not self.constrain or not choices or comb(len(choices), question.select) > MOST_REPLIES:
            return ()
        return tuple(map(", ".join, combinations(choices, question.select)))

    @property
    def name(self) -> str:
        """Return the name in files and progress lines, such as "igakuqa.ja"."""
        return f"{self.questions[0].benchmark}.{self.questions[0].language}"

    def questions_hash(self) -> str:
        """Hash all questions with their gold."""
        return questions_hash(self.questions)

    def settings(self) -> dict[str, Any]:
        """Return everything that shapes a sample besides the model, and the scorers, as plain values."""
        language = self.questions[0].language
        return {
            "benchmark": self.questions[0].benchmark,
            "language": language,
            "selection": self.selection,
            "split": self.split,
            "scorers": list(self.scorers),
            "prompt_pack": self.prompt_format.pack.name,
            "prompt_pack_note": self.prompt_format.pack.note,
            "prompt_pack_hash": self.prompt_format.fingerprint(language),
            "answer_as": self.prompt_format.answer_as,
            "shots": len(self.prompt_format.shots_in(language)),
            "chat": self.prompt_format.chat,
            "max_new_tokens": self.token_limit,
            "shuffle": self.shuffle,
            "rotations": self.rotations,
            **({"samples": self.samples} if self.samples > 1 else {}),
            **self.decoding.settings(),
            **({"thinking_budget": self.thinking_budget} if self.thinking_budget is not None else {}),
            **({"answer_opening": self.answer_opening} if self.answer_opening else {}),
            **({"images": self._images} if self.with_images else {}),
            **({"constrain": True} if self.constrain else {}),
            **self.read_options.settings(),
        }


def questions_hash(questions: tuple[Question, ...]) -> str:
    """Hash questions with their gold."""
    return hash_text("".join(question_hash(question) for question in questions))
