"""What shapes the responses of one model besides its prompts: decoding, thoughts, and where an answer begins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jmedllm.errors import InputError
from jmedllm.evaluation.decoding import DecodingConfig, recommended_for
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.task import MAX_NEW_TOKENS, EvalTask
from jmedllm.models.backends import BACKENDS
from jmedllm.models.backends.base import ModelSpec
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.chat_format import ChatFormat, chat_format


@dataclass(frozen=True, slots=True)
class ResponseConfig:
    """What shapes the responses of one model besides its prompts.

    Attributes:
        decoding: without `recommended`.
        thinks: whether the model thinks before it answers, so that its responses are long.
        thought_closing: text with which its chat template closes a thought, if there is a thinking budget.
        answer_opening: text between its prompts and an answer, see `ChatFormat.opening_of_an_answer`.
        notes: remarks for reports on values that were not given.
    """

    decoding: DecodingConfig
    thinks: bool = False
    thought_closing: str = ""
    answer_opening: str = ""
    notes: tuple[str, ...] = ()


def _thinking_notes(name: str, limit: int | None, by_log_probs: Sequence[str]) -> list[str]:
    """Return notes on a model that thinks before it answers.

    Args:
        limit: number of tokens of a response, if it was not given.
        by_log_probs: scorers that read log-probabilities.
    """
    notes = []
    if limit is not None:
        notes.append(
            f"{name} thinks before it answers, so a response may have {limit:,} tokens; --max-new-tokens changes it."
        )
    if by_log_probs:
        notes.append(
            f"Scorer {', '.join(by_log_probs)}: {name} thinks before it answers, but log-probabilities are those of "
            "an answer without a thought; --thinking off asks for such an answer."
        )
    return notes


def response_config(tasks: Sequence[EvalTask], spec: ModelSpec, template: ChatTemplate | None) -> ResponseConfig:
    """Return what shapes a model's responses: its recommended decoding, if asked for, and whether it thinks first.

    Args:
        tasks: at least one task, all with the same decoding and prompt format.
        spec: the model.
        template: its chat template as the tasks use it; None if they use none, or if a server has it.

    Raises:
        InputError: the recommended decoding is asked for, and the model has none or is on a server; or a thinking
            budget is given, and its replies have no thoughts or no room for the answer.
    """
    task, notes = tasks[0], []
    decoding = task.decoding
    if decoding.recommended:
        if not BACKENDS[spec.backend].capabilities.local:
            raise InputError(
                "decoding: recommended: a server does not show the model's generation_config.json; give its values "
                "(--decoding temperature=0.6,top_p=0.95)"
            )
        decoding, note = recommended_for(decoding, spec.folder, spec.name)
        notes.append(note)
    found = chat_format(template) if template else None
    thinks = found.thinks if found else task.thinks
    if thinks:
        limit = MAX_NEW_TOKENS[True] if task.max_new_tokens is None else None
        by_log_probs = [name for name in task.scorers if SCORERS[name].needs == "log_probs"]
        notes += _thinking_notes(spec.name, limit, by_log_probs)
    _require_room(replace(task, thinks=thinks))
    closing = _thought_closing(task, found)
    if closing and found and found.thought is None:
        notes.append(
            f"The chat template of {spec.name} has no thoughts; the thinking budget applies to responses that begin "
            "with <think>."
        )
    opening = found.opening_of_an_answer if found else ""
    return ResponseConfig(decoding, thinks, closing, opening, tuple(notes))


def with_responses(task: EvalTask, responses: ResponseConfig) -> EvalTask:
    """Return a task with what shapes the responses of one model."""
    return replace(
        task,
        decoding=responses.decoding,
        thinks=responses.thinks,
        thought_closing=responses.thought_closing,
        answer_opening=responses.answer_opening,
    )


_UNSEEN_CLOSING = "\n</think>\n\n"
"""Closes a thought if the chat template shows none: models that were tuned to think afterwards write these tags."""


def _thought_closing(task: EvalTask, found: ChatFormat | None) -> str:
    """Return the text that closes a thought at the budget; empty if the task has none, or if a server closes it.

    Raises:
        InputError: there is no thought whose length could be limited.
    """
    if task.thinking_budget is None:
        return ""
    if not task.prompt_format.chat:
        raise InputError("thinking_budget: only replies to chat messages have thoughts; use chat, or leave it out")
    if found is None:
        return ""
    if found.prompt_thought == "closed":
        raise InputError("thinking_budget: the prompts close the thought; set prompt.thinking: on, or leave it out")
    return found.thought.closing if found.thought else _UNSEEN_CLOSING


def _require_room(task: EvalTask) -> None:
    """Check that a thinking budget leaves tokens for the answer.

    Raises:
        InputError: it leaves none.
    """
    if task.thinking_budget is not None and task.thinking_budget >= task.token_limit:
        raise InputError(
            f"thinking_budget: {task.thinking_budget:,} of {task.token_limit:,} max_new_tokens leave none for the "
            "answer; raise max_new_tokens"
        )
