"""Anything that completes or scores text, behind one small Protocol."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from jmedllm.errors import InputError
from jmedllm.models.thoughts import Thought


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt put to a model, with what is wanted of it.

    Attributes:
        id: names the item in messages.
        group: requests of one group begin alike; a model may compute what they share once.
        choices: texts whose likelihood after the prompt is wanted.
        labels: short labels whose likelihood as the very next token is wanted; not together with `choices`.
        generate: whether a completion is wanted.
    """

    id: str
    prompt: str
    group: str = ""
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    generate: bool = False

    @property
    def text(self) -> str:
        """What every engine is given to go on from: the prompt without the spaces it ends with.

        Tokenizers put a space at the head of the next word: behind a lone space no word was ever trained.
        """
        return self.prompt.rstrip(" ")


@dataclass(frozen=True, slots=True)
class Completion:
    """Greedy continuation of one prompt.

    Attributes:
        text: the new tokens, decoded up to the end of the turn, with the borders of thoughts and channels.
        decoded: prompt and new tokens decoded together without special tokens, which is what the published
            protocol reads.
        finish_reason: why it ended, as the backend says: "stop", "length" and others; None where it does not say.
        new_tokens: how many tokens the model generated, the one that ended it included; None where unknown.
        plain: `text` without special tokens, if that is another.
        thought_open: whether the prompt had opened a thought; None where a server does not tell.
        thoughts: markers of thoughts that only this model's template has.
        reasoning: the thought, where a server gives it apart from the text.
    """

    text: str
    decoded: str
    finish_reason: str | None = "stop"
    new_tokens: int | None = None
    plain: str | None = None
    thought_open: bool | None = False
    thoughts: tuple[Thought, ...] = ()
    reasoning: str | None = None

    @property
    def truncated(self) -> bool:
        """Whether it ended before it was complete."""
        return is_truncated(self.finish_reason)


COMPLETE = {
    "stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "tool_calls", "tool_use", "function_call"
}  # fmt: skip
CUT = {
    "length", "max_tokens", "max_new_tokens", "max_output_tokens", "model_length", "content_filter", "safety",
    "abort",
}  # fmt: skip
"""Finish reasons of backends and servers: the response is complete, or it was cut off."""


def is_truncated(finish_reason: str | None) -> bool:
    """Whether a response ended before it was complete; False where no finish reason is given."""
    return finish_reason is not None and finish_reason.lower() not in COMPLETE


def never(_: Completion) -> bool:
    """Whether a part of a completion is enough, where only the whole is."""
    return False


Failure = Literal["too long", "rejected"]
"""Why an engine gave no response to one prompt: it does not fit the context, or a server refuses it."""


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """How completions end.

    Attributes:
        max_new_tokens: longest completion.
        is_final: whether what was written so far is all that is needed; asked at line ends only. An engine that
            cannot be asked on the way stops at the first line end and begins anew, unless it is `never`.
        skip_invalid: whether a prompt that cannot be answered is a `Failure` instead of an error.
    """

    max_new_tokens: int
    is_final: Callable[[Completion], bool] = never
    skip_invalid: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """What a model gave for one request; None where it was not asked for.

    Attributes:
        log_probs: natural log-probability of each choice (sum over its tokens) or of each label, see `labels` for
            those that an engine does not tell; None also if it tells none.
        failure: why there is neither.
        seconds: from the start of the request's batch to its end; None where the backend does not measure it.
    """

    completion: Completion | None = None
    log_probs: tuple[float, ...] | None = None
    failure: Failure | None = None
    seconds: float | None = None


def does_not_fit(reasons: Collection[str]) -> InputError:
    """Build the error for prompts that do not fit the context, from what is said of each."""
    more = f" ({len(reasons) - 1} more do not fit either)" if len(reasons) > 1 else ""
    return InputError(
        f"{next(iter(reasons))}{more}; use fewer shots, a shorter prompt pack or fewer new tokens, or count such "
        "items as no answer with --skip-invalid"
    )


class InferenceModel(Protocol):
    """What the exam needs of a model."""

    @property
    def name(self) -> str:
        """Short name for reports."""
        ...

    def answer(
        self, requests: Sequence[Request], generation_config: GenerationConfig
    ) -> Iterator[tuple[int, Response]]:
        """Responses with the index of their request, in any order, as they come."""
        ...
