"""Judge model: replies to the prompts of scorers that grade with one. Its replies are stored like samples."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jmedllm.errors import InputError
from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.records import JudgeReply, ReplyKey, Sample, append_judge_replies, read_judge_replies
from jmedllm.evaluation.score import Evaluation, output_of
from jmedllm.evaluation.scorers import SCORERS, scorers_named
from jmedllm.files import hash_text, to_json
from jmedllm.models.backends import open_model, require_backend, requirements_of
from jmedllm.models.backends.base import Completion, GenerationConfig, InferenceModel, ModelSpec, Request, answer_all
from jmedllm.models.chat import ChatTemplate, ChatText, plain_text
from jmedllm.models.folder import fingerprint, has_chat_template, require_model
from jmedllm.models.thoughts import split_reply
from jmedllm.named_server import ClientOptions, parse_server
from jmedllm.progress import progress

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
        backend: name of its inference backend.
        open: loads the model.
        chat_text: formats chat messages as a prompt.
    """

    name: str
    fingerprint: str
    backend: str
    open: Callable[[], InferenceModel]
    chat_text: ChatText

    def settings(self) -> dict[str, str]:
        """Return what the settings of an evaluation record of the judge."""
        return {"model": self.name, "fingerprint": self.fingerprint}


def prepare_judge(text: str, precision: "Precision | None", client: ClientOptions | None = None) -> Judge:
    """Check a judge model: a model directory, or URL#NAME for a model on a server.

    Args:
        client: key of the server and limits of each request.

    Raises:
        InputError: there is no such model, its backend cannot be used, or no key is set for the server.
    """
    if not text.strip():
        raise InputError("judge: the name is empty; give a model directory, or URL#NAME of a model on a server")
    if "://" in text:
        server, _, name = text.partition("#")
        server = parse_server(server, "--judge")
        if not name:
            raise InputError(f"--judge {text}: which model of the server? write {text}#NAME")
        spec = ModelSpec(name, name, "openai", server=server, client=client or ClientOptions(), chat=True)
        require_backend(spec.backend, requirements_of(spec))
        model = open_model(spec)  # reads the key; no request is sent
        return Judge(name, f"served {name} at {server}", spec.backend, lambda: model, to_json)
    folder = Path(text)
    require_model(folder)
    spec = ModelSpec(text, folder.name, precision=precision)
    return Judge(folder.name, fingerprint(folder), spec.backend, lambda: open_model(spec), _chat_text(folder))


def _chat_text(folder: Path) -> ChatText:
    if not has_chat_template(folder):
        return plain_text
    from jmedllm.models.tokenizer.load import load_tokenizer

    return ChatTemplate(load_tokenizer(folder)).prompt


def require_judge(scorers: Iterable[str], judge: Judge | None, stored: Collection[Path] = ()) -> None:
    """Check that scorers that grade with a judge have one, or stored replies, before any model is asked.

    Args:
        stored: files of stored replies, one for each task.

    Raises:
        InputError: a judge is missing, or no scorer asks the one that is given.
    """
    named = scorers_named(scorers)
    judged = [name for name, scorer in named.items() if scorer.judge_prompt]
    if judge is not None and not judged:
        raise InputError(
            f"judge {judge.name}: scorer {', '.join(named)} asks no judge; leave it out, or add a scorer that does"
        )
    if judged and judge is None and not (stored and all(file.exists() for file in stored)):
        raise InputError(
            f"scorer {', '.join(judged)} needs a judge model; give --judge MODEL_DIR or --judge URL#NAME, in a recipe "
            "eval.judge"
        )


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
    evaluation: Evaluation, scorers: Iterable[str], stored: Mapping[ReplyKey, JudgeReply]
) -> dict[tuple[str, str], JudgeReply]:
    """Return the stored replies of the evaluation's judge whose prompts are the scorers' current ones.

    The judge is the one that the settings record; without one there are no replies.
    """
    judge = evaluation.settings.get("judge")
    if judge is None:
        return {}
    found = {}
    for asked in _prompts(evaluation, scorers):
        reply = stored.get((asked.scorer, asked.sample.id, judge["fingerprint"]))
        if reply is not None and reply.prompt_hash == hash_text(asked.prompt):
            found[asked.scorer, asked.sample.id] = reply
    return found


def collect_replies(
    evaluation: Evaluation, judge: Judge | None, file: Path | None, *, skip_invalid: bool = False
) -> dict[tuple[str, str], JudgeReply]:
    """Collect all replies that the scorers of an evaluation need; the judge is loaded only if some are missing.

    Args:
        evaluation: its settings record the judge.
        judge: None if all replies are stored.
        file: file of stored replies, to which new ones are added; None if they are not stored.
        skip_invalid: whether a prompt that the judge cannot answer is a reply with a `failure` instead of an error. A
            judge that is given is asked such prompts again.

    Raises:
        InputError: replies are missing and there is no judge, or the judge cannot answer a prompt.
    """
    scorers = evaluation.settings["scorers"]
    stored = read_judge_replies(file, repair=True) if file is not None else {}
    found = {
        key: reply
        for key, reply in current_replies(evaluation, scorers, stored).items()
        if reply.failure is None or (judge is None and skip_invalid)
    }
    prompts = {(asked.scorer, asked.sample.id): asked for asked in _prompts(evaluation, scorers)}
    missing = [asked for key, asked in prompts.items() if key not in found]
    if not missing:
        return found
    if judge is None:
        place = f"{file}: " if file is not None else ""
        name = evaluation.settings.get("judge", {}).get("model", "a judge")
        raise InputError(f"{place}{len(missing):,} replies of {name} are missing; give --judge")
    failures: Counter[str] = Counter()
    for reply in _ask(judge, missing, GenerationConfig(MAX_NEW_TOKENS, skip_invalid=skip_invalid)):
        if reply.failure is not None:
            failures[reply.failure] += 1
        if file is not None and (reply.failure is None or skip_invalid):
            append_judge_replies(file, [reply])
        found[reply.scorer, reply.id] = reply
    if failures and not skip_invalid:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in failures.items())
        raise InputError(
            f"judge {judge.name} cannot answer {failures.total():,} of {len(missing):,} prompts ({reasons}); "
            "use another judge, or count such items as no answer with --skip-invalid"
        )
    return {key: found[key] for key in prompts}  # a server answers in any order


def _ask(judge: Judge, missing: Sequence[_JudgePrompt], generation: GenerationConfig) -> Iterator[JudgeReply]:
    """Yield the judge's replies in the order in which it answers."""
    requests = [
        Request(
            each.sample.id, judge.chat_text([{"role": "user", "content": each.prompt}]), each.sample.id, generate=True
        )
        for each in missing
    ]
    try:
        with progress(f"judge {judge.name}", len(missing), 0) as advance:
            for index, response in answer_all(judge.open(), judge.backend, requests, generation):
                asked, completion = missing[index], response.completion
                text, reasoning = _split(completion) if completion else ("", None)
                yield JudgeReply(
                    scorer=asked.scorer,
                    id=asked.sample.id,
                    judge=judge.fingerprint,
                    prompt_hash=hash_text(asked.prompt),
                    prompt=asked.prompt,
                    response=text,
                    finish_reason=completion.finish_reason if completion else None,
                    new_tokens=completion.new_tokens if completion else None,
                    seconds=None if response.seconds is None else round(response.seconds, 4),
                    failure=response.failure,
                    reasoning=reasoning,
                )
                advance(1, "")
    except InputError as error:
        raise InputError(f"judge {judge.name}: {error}") from error


def _split(completion: Completion) -> tuple[str, str | None]:
    """Split a judge's completion into reply and thought, which is not read as a grade."""
    split = split_reply(completion.text, thought_open=completion.thought_open, thoughts=completion.thoughts)
    return split.answer, "\n\n".join(filter(None, (completion.reasoning, split.thought))) or None


def judge_settings(judge: Judge | None, begun: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the judge for the settings of an evaluation: the given one, or the one that is stored."""
    if judge is not None:
        return {"judge": judge.settings()}
    return {"judge": begun["judge"]} if begun and "judge" in begun else {}
