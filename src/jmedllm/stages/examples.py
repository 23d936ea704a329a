"""The examples of stage mpeft: questions, instructions and conversations, as text and as token ids."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from jmedllm.errors import InputError, named, unknown
from jmedllm.evaluation.prompts.format import PromptFormat, ask, ask_instruction, prepare
from jmedllm.evaluation.prompts.render import Instruction, answer_text
from jmedllm.evaluation.question import Language
from jmedllm.files import to_json
from jmedllm.models.chat import ChatText, no_template
from jmedllm.models.thoughts import Thought
from jmedllm.models.tokenizer.encoding import Tokenizer, most_tokens
from jmedllm.recipe import MpeftConfig
from jmedllm.stages.canary import instruction_file
from jmedllm.stages.questions import left_out_of_training, training_questions
from jmedllm.stages.stage import Run, model_before
from jmedllm.training.examples import LengthLimits, conversation_samples, example_samples, filter_by_length
from jmedllm.training.instructions import Conversation, read_instructions
from jmedllm.training.mixing import repetitions
from jmedllm.training.packing import TrainingSample
from jmedllm.training.thoughts import read_thought, split_thought, with_thought_apart
from jmedllm.training.turns import TrainingChat, chat_turn, training_chat


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and the answer that the model learns to give, with the thought before it if there is one."""

    name: str
    prompt: str
    answer: str
    thought: str = ""

    @property
    def has_thoughts(self) -> bool:
        """Whether there is a thought."""
        return bool(self.thought)


@dataclass(frozen=True, slots=True)
class Example:
    """A training example as text.

    Attributes:
        source: benchmark or file in the recipe.
    """

    source: str
    language: Language
    content: Pair | Conversation


def examples(run: Run, settings: MpeftConfig, chat_text: ChatText) -> list[Example]:
    """Build all examples: questions, then instructions through the prompt pack, and unchanged conversations.

    Raises:
        InputError: questions, instructions or the pack are missing or invalid.
    """
    prompt_format = prepare(run.prompt_config, run.data)
    found: list[Example] = []
    for source, question in training_questions(run):
        name, prompt = f"{source} {question.id}", ask(prompt_format, question, chat_text)
        pair = Pair(name, prompt, answer_text(question, prompt_format.answer_as))
        found.append(Example(source, question.language, pair))
    for file in settings.instructions:
        for item in read_instructions(instruction_file(run, file), settings.read_options):
            found.append(Example(file, item.language, _content(prompt_format, item, chat_text)))
    return found


def _content(
    prompt_format: PromptFormat, item: Instruction | Conversation, chat_text: ChatText
) -> Pair | Conversation:
    if isinstance(item, Conversation):
        return item
    prompt = ask_instruction(prompt_format, item, chat_text)
    if prompt_format.chat:
        with named(f"{item.name}: field 'output'"):
            thought, answer = read_thought(item.thought, item.output)
        return Pair(item.name, prompt, answer, thought)
    if item.thought:
        raise InputError(
            f"{item.name}: a thought (reasoning_content) needs the chat template; set prompt.chat: true, or remove it"
        )
    return Pair(item.name, prompt, item.output)  # without a template, a thought in the output is text like any other


def weighted(found: Sequence[Example], weights: Mapping[str, float]) -> list[Example]:
    """Repeat each example by the weight of its source times that of its language, as in `training.mixing`.

    The example's hash decides the fractional part.

    Raises:
        InputError: a weight names a source or language that no example has, or no example is left.
    """
    known = {name for example in found for name in (example.source, example.language)}
    for name in weights:
        if name not in known:
            raise unknown("source or language in weights", name, known)
    kept = [
        example
        for example in found
        for _ in range(
            repetitions(_text(example), weights.get(example.source, 1.0) * weights.get(example.language, 1.0))
        )
    ]
    if not kept:
        raise InputError("mpeft.weights: leave no example to train on; raise them")
    return kept


def _text(example: Example) -> str:
    content = example.content
    if isinstance(content, Conversation):
        return to_json(content.messages)
    return to_json([content.prompt, *filter(None, [content.thought]), content.answer])


def template_settings(run: Run, found: Sequence[Example]) -> dict[str, Any]:
    """Return the settings of the chat template of the examples; empty if none of them uses it."""
    from jmedllm.models.tokenizer.load import load_tokenizer

    if not (run.prompt_config.chat or any(isinstance(each.content, Conversation) for each in found)):
        return {}
    tokenizer = load_tokenizer(model_before(run, "mpeft"))
    return {"template": prepare(run.prompt_config, run.data).template(tokenizer).settings()}


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The weighted examples of a run, ready to be encoded.

    Attributes:
        contents: the pairs with replies as the template wants them, and the conversations.
        chat: None if no example needs the chat template.
        closing: text after the answer to a prompt.
    """

    tokenizer: Tokenizer
    examples: Sequence[Example]
    contents: Sequence[Pair | Conversation]
    chat: TrainingChat | None
    closing: str

    def encoded(self, contents: Sequence[Pair | Conversation]) -> Iterator[TrainingSample]:
        """Yield the samples of each example, in order."""
        pairs = ((each.name, each.prompt, each.answer) for each in contents if isinstance(each, Pair))
        samples = example_samples(self.tokenizer, pairs, self.closing)
        for each in contents:
            if isinstance(each, Pair):
                yield next(samples)
            elif self.chat:
                yield from conversation_samples(self.chat, each.name, each.messages)


def _rendered(run: Run, settings: MpeftConfig, tokenizer: Tokenizer) -> _Rendered:
    """Render the examples of a run.

    Raises:
        InputError: the model has no chat template for them, or the template has no place for a thought, or needs one.
    """
    template = prepare(run.prompt_config, run.data).template(tokenizer)
    by_chat = run.prompt_config.chat
    found = weighted(examples(run, settings, template.prompt if by_chat else no_template), settings.weights)
    talk = next((each.content for each in found if isinstance(each.content, Conversation)), None)
    if talk and not tokenizer.chat_template:
        raise InputError(
            f"{talk.name}: a conversation, but the model's tokenizer has no chat template; give instruction and output"
        )
    shaping = next(iter(run.recipe.prompt.shaping_the_template), None)
    if shaping and not talk and not by_chat:
        raise InputError(
            f"prompt.{shaping} shapes the chat template, which no example uses; set prompt.chat: true, or leave it out"
        )
    chat = training_chat(template, settings.reasoning) if talk or by_chat else None
    if chat:
        found = [replace(each, content=_apart(each.content, chat.format.markers, by_chat=by_chat)) for each in found]
    contents = [_by_chat(each.content, chat) if chat and by_chat else each.content for each in found]
    return _Rendered(tokenizer, found, contents, chat, chat.closing if chat and by_chat else "")


def _apart(content: Pair | Conversation, markers: Sequence[Thought], *, by_chat: bool) -> Pair | Conversation:
    """Return an example with those thoughts apart that are between markers of the model's own template."""
    if not markers or content.has_thoughts:
        return content
    with named(content.name):
        if isinstance(content, Pair):
            thought, answer = split_thought(content.answer, markers) if by_chat else ("", content.answer)
            return replace(content, thought=thought, answer=answer)
        return replace(content, messages=tuple(with_thought_apart(each, markers) for each in content.messages))


def _by_chat(content: Pair | Conversation, chat: TrainingChat) -> Pair | Conversation:
    """Return a pair with its reply as the model is to write it; conversations are rendered when they are encoded."""
    if isinstance(content, Conversation):
        return content
    with named(content.name):
        return Pair(content.name, *chat_turn(chat, content.prompt, content.answer, content.thought))


def fitting(run: Run, settings: MpeftConfig, tokenizer: Tokenizer) -> tuple[list[TrainingSample], dict[str, Any]]:
    """Return the examples within the limits as token ids, and outputs about them."""
    rendered = _rendered(run, settings, tokenizer)
    encoded = list(rendered.encoded(rendered.contents))
    kept = list(filter_by_length(encoded, _limits(settings), settings.excess_length_strategy))
    is_dropping = settings.excess_length_strategy == "drop"
    counts = {
        "with_thoughts": sum(each.content.has_thoughts for each in rendered.examples),
        "separate_turns": len(encoded) - len(rendered.examples),
        "left_out": left_out_of_training(run),
    }
    return kept, {
        "mixture": dict(Counter(f"{each.source} {each.language}" for each in rendered.examples)),
        **({"dropped": len(encoded) - len(kept)} if is_dropping else {}),
        **{name: count for name, count in counts.items() if count},
    }


def require_fitting(run: Run, settings: MpeftConfig, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Check the limits like `fitting`, but faster: it encodes only examples that may exceed them.

    All conversations are encoded, because the template may refuse one.

    Returns:
        Notes on what is trained.
    """
    rendered, limits = _rendered(run, settings, tokenizer), _limits(settings)
    conversations = [each for each in rendered.contents if isinstance(each, Conversation)]
    long = [each for each in rendered.contents if isinstance(each, Pair) and _may_exceed(rendered, limits, each)]
    encoded = list(rendered.encoded(conversations))
    if settings.excess_length_strategy == "raise":
        list(filter_by_length(chain(encoded, rendered.encoded(long)), limits, "raise"))
    elif len(long) + len(conversations) == len(rendered.contents):  # then one that is within the limits is enough
        next(filter_by_length(chain(encoded, rendered.encoded(long)), limits, "drop"), None)
    thoughts = sum(each.content.has_thoughts for each in rendered.examples)
    opening = rendered.chat.format.answer_opening if rendered.chat and thoughts < len(rendered.examples) else ""
    return (
        *(
            [f"The model learns to write {opening!r} before an answer, because no prompt contains it"]
            if opening.strip()
            else ()
        ),
        *notes_on_examples(settings, thoughts, len(encoded) - len(conversations)),
    )


def notes_on_examples(settings: MpeftConfig, with_thoughts: int, separate_turns: int) -> tuple[str, ...]:
    """Describe the thoughts in the data, and the turns that are further examples; empty without any."""
    done = {"train": "trained", "mask": "context only: the answer is trained"}[settings.reasoning]
    thoughts = f"Examples with thoughts: {with_thoughts:,}; the thoughts are {done} (mpeft.reasoning)"
    turns = (
        f"Turns that are examples of their own, because the chat template writes them differently once others "
        f"follow: {separate_turns:,}"
    )
    return (*([thoughts] if with_thoughts else ()), *([turns] if separate_turns else ()))


def _may_exceed(rendered: _Rendered, limits: LengthLimits, pair: Pair) -> bool:
    most = most_tokens(rendered.tokenizer, pair.prompt + pair.answer + rendered.closing)
    return most is None or most + 1 > limits.least  # one for EOS


def _limits(settings: MpeftConfig) -> LengthLimits:
    return LengthLimits(settings.max_prompt_tokens, settings.max_completion_tokens, settings.block_size)
