"""Generate the samples of a task. The model is asked only for what no stored sample has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.prompts.format import ask
from jmedllm.evaluation.prompts.numbering import shows_numbers
from jmedllm.evaluation.question import content_hash, label
from jmedllm.evaluation.records import Sample, append_samples, read_samples, split_sample, write_samples
from jmedllm.evaluation.resume import EvalFiles, begin
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.scorers.base import Scorer
from jmedllm.evaluation.task import EvalTask
from jmedllm.files import hash_text
from jmedllm.models.backends.base import (
    EARLY_STOP,
    Completion,
    GenerationConfig,
    InferenceModel,
    Request,
    Response,
    answer_all,
    never,
)
from jmedllm.models.chat import ChatText, no_template, plain_text
from jmedllm.models.thoughts import split_reply
from jmedllm.progress import progress


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request with the sample that it completes."""

    request: Request
    sample: Sample


def generation_config(task: EvalTask) -> GenerationConfig:
    """Return the generation settings of a task.

    Generation stops early if every scorer that reads responses can decide when it has enough.
    """
    readers = _readers(task)
    if not readers or any(scorer.is_final is None for scorer in readers):
        is_final = never
    else:
        is_final = partial(_is_enough, task)
    return GenerationConfig(
        task.token_limit,
        is_final,
        skip_invalid=task.skip_invalid,
        decoding=task.decoding.values,
        thinking_budget=task.thinking_budget,
        thought_closing=task.thought_closing,
    )


def seed_of(task: EvalTask, key: str) -> int:
    """Return the seed of one sample from that of the evaluation and the id of the sample.

    It depends on nothing else, so that batches, order, processes and interruptions change no sample.
    """
    return int(hash_text(f"{task.decoding.seed or 0} {key}")[:8], 16) % 2**31 if task.decoding.temperature else 0


def collect_samples(
    task: EvalTask,
    settings: dict[str, Any],
    load: Callable[[], InferenceModel],
    files: EvalFiles,
    chat_text: ChatText = no_template,
) -> dict[str, Sample]:
    """Complete and return all samples of a task by id, in the order of its questions.

    The model is loaded only if samples are missing. New samples are appended immediately, so that a killed evaluation
    can resume. Samples of an earlier, longer evaluation stay at the end of the file.

    Raises:
        InputError: the model cannot be asked an item, or the files cannot be written.
    """
    presented = task.presented()
    prompts = {each.key: task.prompt(each.permuted, chat_text) for each in presented}
    stored = read_samples(files.samples, repair=True)
    samples = stored | {each.key: _current(task, each, prompts[each.key], stored) for each in presented}
    asked = [
        found
        for each in presented
        if (found := _missing(task, each, prompts[each.key], samples[each.key])) is not None
    ]
    if asked:
        model = load()
        backend = settings.get("backend", type(model).__name__)
        for number, sample in enumerate(_generate(task, asked, len(presented), model, backend)):
            if number == 0:  # only once there is something to store
                begin(files.summary, settings, len(task.questions), task.source)
            append_samples(files.samples, [sample])
            samples[sample.id] = sample
    ordered = {each.key: samples[each.key] for each in presented}
    everything = ordered | {name: sample for name, sample in samples.items() if name not in ordered}
    if asked or list(everything.values()) != list(stored.values()):
        write_samples(files.samples, everything.values())
    return ordered


def requests_of(task: EvalTask, chat_text: ChatText = no_template) -> list[Request]:
    """Return all requests of a task, as if no sample were stored."""
    asked = []
    for each in task.presented():
        prompt = task.prompt(each.permuted, chat_text)
        if (found := _missing(task, each, prompt, _current(task, each, prompt, {}))) is not None:
            asked.append(found.request)
    return asked


def incomplete_questions(task: EvalTask, files: EvalFiles) -> list[str]:
    """Return the ids of the questions with incomplete samples; prompts are not compared."""
    stored = read_samples(files.samples)
    return list(
        dict.fromkeys(
            each.question.id
            for each in task.presented()
            if (sample := stored.get(each.key)) is None or any(_wants(task, each, sample))
        )
    )


def _current(task: EvalTask, presented: PresentedQuestion, prompt: str, stored: Mapping[str, Sample]) -> Sample:
    """Return the stored sample with the current prompt; an empty sample if there is none."""
    shown = tuple(picture.hash for picture in task.shown(presented.question))
    hashes = hash_text(prompt + "".join(shown)), content_hash(presented.question)
    sample = stored.get(presented.key)
    if sample is not None and (sample.prompt_hash, sample.content_hash) == hashes:
        return sample
    question = presented.permuted
    numbered = shows_numbers(ask(task.prompt_format, question, plain_text), question.choices)
    return Sample(
        presented.key,
        *hashes,
        order=presented.order,
        numbered=numbered,
        images=shown,
        sample_number=presented.sample_number,
    )


def _wants(task: EvalTask, presented: PresentedQuestion, sample: Sample) -> tuple[bool, bool]:
    """Return whether a response is missing, and whether log-probabilities are, which only a first sample has."""
    needs = {scorer.needs for scorer in _scorers(task) if scorer.applies(presented.question)}
    if sample.failure is not None:
        return False, False
    unread = sample.response is None or (sample.stopped_early and not _suffices(task, sample))
    unknown = sample.log_probs_of != task.log_probs_of and not presented.sample_number
    return "response" in needs and unread, "log_probs" in needs and unknown


def _missing(task: EvalTask, presented: PresentedQuestion, prompt: str, sample: Sample) -> _Asked | None:
    """Build the request for what a sample lacks; None if it is complete."""
    response, log_probs = _wants(task, presented, sample)
    if not (response or log_probs):
        return None
    question = presented.permuted
    request = Request(
        id=presented.key,
        prompt=prompt,
        group=question.id,
        choices=question.choices if log_probs and not task.by_label else (),
        labels=tuple(map(label, range(len(question.choices)))) if log_probs and task.by_label else (),
        generate=response,
        allowed=task.allowed(question) if response else (),
        images=tuple(picture.path for picture in task.shown(question)),
        seed=seed_of(task, presented.key),
        answer_opening=task.answer_opening if log_probs else "",
    )
    return _Asked(request, sample)


def _scorers(task: EvalTask) -> list[Scorer]:
    return [SCORERS[name] for name in task.scorers]


def _readers(task: EvalTask) -> list[Scorer]:
    return [scorer for scorer in _scorers(task) if scorer.needs == "response"]


def _readable(task: EvalTask, completion: Completion) -> Completion:
    """Return a completion as scorers read it; with the prompt only for the published protocol, raw and zero-shot."""
    asked = task.prompt_format
    is_published = asked.pack.published and not asked.chat and not asked.shots
    return completion if is_published else replace(completion, decoded=None)


def _is_enough(task: EvalTask, completion: Completion) -> bool:
    readable = _readable(task, completion)
    if readable.decoded is None:
        split = split_reply(readable.text, thought_open=readable.thought_open, thoughts=readable.thoughts)
        if split.cut:
            return False
        if split.answer != readable.text:
            readable = replace(readable, text=split.answer.lstrip(), plain=None)
    return all(scorer.is_final is not None and scorer.is_final(readable) for scorer in _readers(task))


def _suffices(task: EvalTask, sample: Sample) -> bool:
    """Return whether these scorers need no more of a response that stopped early."""
    return _is_enough(task, Completion(sample.response or "", sample.decoded, plain=sample.plain))


def _generate(
    task: EvalTask, asked: Sequence[_Asked], presented: int, model: InferenceModel, backend: str
) -> Iterator[Sample]:
    """Yield completed samples in the order in which the model answers."""
    generation = generation_config(task)
    generated = finished = 0
    with progress(f"{model.name} {task.name}", presented, presented - len(asked)) as advance:

        def on_tokens(n: int) -> None:
            nonlocal generated
            generated += n
            advance(0, f"{generated:,} tokens")

        watched = replace(generation, on_tokens=on_tokens)
        for index, response in answer_all(model, backend, [each.request for each in asked], watched):
            yield _completed(task, asked[index], response, generation)
            finished += (response.completion and response.completion.new_tokens) or 0
            tokens = max(generated, finished)  # a backend that sees only whole completions has no `generated`
            advance(1, f"{tokens:,} tokens" if tokens else "")


def _completed(task: EvalTask, asked: _Asked, response: Response, generation: GenerationConfig) -> Sample:
    """Add the model's response to a sample."""
    sample, request = asked.sample, asked.request
    spent = [each for each in (sample.seconds, response.seconds) if each is not None]
    sample = replace(sample, seconds=_rounded(sum(spent)) if spent else None, failure=response.failure)
    if response.completion is not None:
        completion = _readable(task, response.completion)
        stopped = generation.is_final is not never and generation.is_final(completion)
        sample = split_sample(
            replace(
                sample,
                response=completion.text,
                plain=completion.plain,
                decoded=completion.decoded,
                finish_reason=EARLY_STOP if stopped else completion.finish_reason,
                new_tokens=completion.new_tokens,
                thought_open=completion.thought_open,
                thoughts=completion.thoughts,
                reasoning=completion.reasoning,
                reasoning_tokens=completion.reasoning_tokens,
                reasoning_seconds=_rounded(completion.reasoning_seconds),
                forced=completion.forced,
            )
        )
    if (request.choices or request.labels) and response.failure is None:
        log_probs = _as_printed(sample.order, response.log_probs)
        sample = replace(sample, log_probs=log_probs, log_probs_of=task.log_probs_of)
    return sample


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _as_printed(order: Sequence[int], values: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    by_choice = dict(zip(order, values, strict=True))
    return tuple(by_choice[choice] for choice in sorted(by_choice))
