"""Judge model: replies to the prompts of scorers that grade with one. Its replies are stored like samples."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jmedllm.errors import InputError
from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.records import JudgeReply, Sample, append_judge_replies, read_judge_replies
from jmedllm.evaluation.resume import files_of
from jmedllm.evaluation.score import Evaluation, output_of
from jmedllm.evaluation.scorers import SCORERS, scorers_named
from jmedllm.files import hash_text, to_json
from jmedllm.models.backends import open_model, require_backend, requirements_of
from jmedllm.models.backends.base import GenerationConfig, InferenceModel, ModelSpec, Request
from jmedllm.models.chat import ChatTemplate, ChatText, plain_text
from jmedllm.models.folder import fingerprint, has_chat_template, require_model
from jmedllm.progress import notice, progress

if TYPE_CHECKING:
    from jmedllm.precision import Precision

MAX_NEW_TOKENS = 512
"""Maximum length of a judge's reply."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge model that has been checked but not loaded.

    Attributes:
        name: name in reports.
        fingerprint: identifies the judge; replies of another judge are not used.
        open: loads the model.
        chat_text: formats chat messages as a prompt.
    """

    name: str
    fingerprint: str
    open: Callable[[], InferenceModel]
    chat_text: ChatText


def prepare_judge(text: str, precision: "Precision | None") -> Judge:
    """Check a judge model: a model directory, or URL#NAME for a model on a server.

    Raises:
        InputError: there is no such model, or its backend cannot be used.
    """
    if "://" in text:
        server, _, name = text.partition("#")
        if not name:
            raise InputError(f"--judge {text}: which model of the server? write {text}#NAME")
        spec = ModelSpec(name, name, "openai", server=server, chat=True)
        require_backend(spec.backend, requirements_of(spec))
        return Judge(name, f"served {name}", lambda: open_model(spec), to_json)
    folder = Path(text)
    require_model(folder)
    spec = ModelSpec(text, folder.name, precision=precision)
    return Judge(folder.name, fingerprint(folder), lambda: open_model(spec), _chat_text(folder))


def _chat_text(folder: Path) -> ChatText:
    if not has_chat_template(folder):
        return plain_text
    from jmedllm.models.tokenizer.load import load_tokenizer

    return ChatTemplate(load_tokenizer(folder)).prompt


def require_judge(scorers: Iterable[str], judge: Judge | None, names: Iterable[str], output: Path) -> None:
    """Check that scorers that grade with a judge have one, or stored replies, before any model is asked.

    Args:
        names: names of the tasks.
        output: directory of the evaluation.

    Raises:
        InputError: a judge is missing.
    """
    judged = [name for name, scorer in scorers_named(scorers).items() if scorer.judge_prompt]
    if judged and judge is None and not all(files_of(name, output).judge.exists() for name in names):
        raise InputError(f"scorer {', '.join(judged)} needs a judge model; give --judge MODEL_DIR or --judge URL#NAME")


@dataclass(frozen=True, slots=True)
class _JudgePrompt:
    scorer: str
    sample: Sample
    prompt: str


def _prompts(evaluation: Evaluation, scorers: Iterable[str]) -> Iterator[_JudgePrompt]:
    """Yield the prompts to a judge about the responses of an evaluation."""
    pairs: Sequence[tuple[PresentedQuestion, Sample]] = list(
        zip(evaluation.presented(), evaluation.samples.values(), strict=True)
    )
    for name in scorers:
        scorer = SCORERS[name]
        if scorer.judge_prompt is None:
            continue
        for presented, sample in pairs:
            if sample.response is not None and scorer.applies(presented.question):
                output = output_of(presented, sample, evaluation.settings["answer_as"])
                yield _JudgePrompt(name, sample, scorer.judge_prompt(output))


def current_replies(
    evaluation: Evaluation, scorers: Iterable[str], stored: Mapping[tuple[str, str], JudgeReply]
) -> dict[tuple[str, str], JudgeReply]:
    """Return the stored replies whose prompts are the scorers' current ones."""
    found = {}
    for asked in _prompts(evaluation, scorers):
        reply = stored.get((asked.scorer, asked.sample.id))
        if reply is not None and reply.prompt_hash == hash_text(asked.prompt):
            found[asked.scorer, asked.sample.id] = reply
    return found


def collect_replies(
    evaluation: Evaluation, judge: Judge | None, file: Path | None
) -> dict[tuple[str, str], JudgeReply]:
    """Collect all replies that the scorers of an evaluation need; the judge is loaded only if some are missing.

    Args:
        file: file of stored replies, to which new ones are added; None if they are not stored.

    Raises:
        InputError: replies are missing and there is no judge.
    """
    scorers = evaluation.settings["scorers"]
    stored = read_judge_replies(file, repair=True) if file is not None else {}
    if judge is not None:
        stored = {key: reply for key, reply in stored.items() if reply.judge == judge.fingerprint}
    found = current_replies(evaluation, scorers, stored)
    missing = [asked for asked in _prompts(evaluation, scorers) if (asked.scorer, asked.sample.id) not in found]
    if not missing:
        return found
    if judge is None:
        place = f"{file}: " if file is not None else ""
        raise InputError(f"{place}{len(missing):,} replies of a judge are missing; give --judge")
    model, generation = judge.open(), GenerationConfig(MAX_NEW_TOKENS, skip_invalid=True)
    requests = [
        Request(
            each.sample.id, judge.chat_text([{"role": "user", "content": each.prompt}]), each.sample.id, generate=True
        )
        for each in missing
    ]
    with progress(f"judge {judge.name}", len(missing), 0) as advance:
        for index, response in model.answer(requests, generation):
            asked, completion = missing[index], response.completion
            reply = JudgeReply(
                scorer=asked.scorer,
                id=asked.sample.id,
                judge=judge.fingerprint,
                prompt_hash=hash_text(asked.prompt),
                prompt=asked.prompt,
                response=completion.text if completion else "",
                finish_reason=completion.finish_reason if completion else None,
                new_tokens=completion.new_tokens if completion else None,
                seconds=None if response.seconds is None else round(response.seconds, 4),
                failure=response.failure,
            )
            if file is not None:
                append_judge_replies(file, [reply])
            found[asked.scorer, asked.sample.id] = reply
            advance(1, "")
    if failed := sum(reply.failure is not None for reply in found.values()):
        notice(f"judge {judge.name} could not answer {failed:,} of {len(found):,} prompts (too long or refused)")
    return found
