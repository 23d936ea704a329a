"""Evaluate a model on benchmarks: settings, tasks and the evaluation itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks import BENCHMARKS, custom, load
from jmedllm.evaluation.benchmarks.columns import require_fields
from jmedllm.evaluation.benchmarks.file_formats import is_custom_file, kinds
from jmedllm.evaluation.benchmarks.rows import MissingFileError
from jmedllm.evaluation.decoding import GREEDY_CONFIG, DecodingConfig, named
from jmedllm.evaluation.evaluate_task import PreparedModel, evaluate_task
from jmedllm.evaluation.judge import Judge, require_judge
from jmedllm.evaluation.model import as_shown, prepare_model
from jmedllm.evaluation.order import SAMPLE_MARK
from jmedllm.evaluation.prompts.format import PromptConfig, PromptFormat, prepare
from jmedllm.evaluation.question import LANGUAGE_NAMES, LANGUAGES, Language, Question
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.resume import files_of
from jmedllm.evaluation.scorable import cannot_score, scorable
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.selection import SELECTIONS, WRONG, default_selection, select_counted
from jmedllm.evaluation.sharding import evaluate_shares, join_shares, remove_empty_shares
from jmedllm.evaluation.task import EvalTask
from jmedllm.locks import locked
from jmedllm.models.backends import backend_named, require_backend
from jmedllm.models.backends.base import DEFAULT_BACKEND, ModelSpec, Requirement
from jmedllm.processes import process_group, rank
from jmedllm.progress import notice
from jmedllm.settings import Settings


class EvalConfig(Settings):
    """Settings of the eval stage: the benchmarks, and how they are scored."""

    benchmarks: list[str] = Field(
        min_length=1, description="benchmarks or your own files; NAME:ja for one language of it"
    )
    map: dict[str, str] = Field({}, description="our fields → columns of your own files, see docs/custom-questions.md")
    skip_invalid: bool = Field(
        False, description="skip invalid rows of your own files, and count items that cannot be asked as no answer"
    )
    languages: list[Literal["ja", "en"]] = Field(["ja", "en"], min_length=1)
    scorers: list[str] = Field(["answer", "likelihood"], min_length=1)
    selection: str | None = Field(
        None, description="which items: all, graded (the default for your own files), legacy (for benchmarks)"
    )
    split: str = "test"
    limit: int | None = Field(None, ge=1, description="only the first N items of each benchmark and language")
    max_new_tokens: int | None = Field(
        None, ge=1, description="most tokens of a response [256, or 8192 if the model thinks first]"
    )
    thinking_budget: int | None = Field(
        None, ge=1, description="maximum length of a thought in tokens; then it is closed and the answer written"
    )
    decoding: DecodingConfig = Field(
        GREEDY_CONFIG,
        description="greedy, recommended (by the model's makers), or {temperature, top_p, top_k, min_p, "
        "repetition_penalty, seed, samples}",
    )
    shuffle: int | None = Field(None, ge=0, description="seed of a random order of the choices")
    rotations: int = Field(1, ge=1, description="in how many rotations of its choices each question is asked")
    judge: str | None = Field(
        None, description="judge model of scorers that grade with one: model directory, or URL#NAME on a server"
    )
    images: bool = Field(True, description="show the pictures of your own files to models that see them")
    repeat: int = Field(
        1, ge=1, description="ask a server each item this often with greedy decoding, to measure its own variance"
    )
    constrain: bool = Field(False, description="let the model write nothing but choices, where its backend can")
    batch_size: int | None = Field(None, ge=1, description="most items answered together; changes speed, not answers")
    backend: str = Field(DEFAULT_BACKEND, description="inference backend of the models")

    @field_validator("decoding", mode="before")
    @classmethod
    def _named_decoding(cls, value: object) -> object:
        return named(value)

    @field_validator("repeat")
    @classmethod
    def _greedily(cls, repeat: int, others: ValidationInfo) -> int:
        decoding = others.data.get("decoding", GREEDY_CONFIG)
        if repeat > 1 and (decoding.recommended or decoding.temperature):
            raise ValueError("measures the variance of greedy decoding; ask for samples instead")
        return repeat

    @property
    def samples(self) -> int:
        """Number of responses to each presentation of an item."""
        return max(self.decoding.samples, self.repeat)

    @field_validator("scorers")
    @classmethod
    def _in_one_order(cls, scorers: list[str]) -> list[str]:
        # The same scorers in another order, or one named twice, are the same evaluation.
        return sorted(set(scorers), key=lambda name: ([*SCORERS, name].index(name), name))

    @property
    def read_options(self) -> custom.ReadOptions:
        """Options for reading custom questions."""
        return custom.ReadOptions(tuple(self.map.items()), self.skip_invalid)


def require_benchmark(name: str) -> None:
    """Check that `name` is a registered benchmark or the path of a file of custom questions."""
    if is_custom_file(name):
        if Path(name).stem in BENCHMARKS:
            raise InputError(f"{name}: has the same name as the benchmark {Path(name).stem}; rename your file")
    elif Path(name).suffix and Path(name).exists():
        raise InputError(f"{name}: your own questions are read from {kinds()}; save it as one of these")
    elif name not in BENCHMARKS:
        known, colon, language = name.rpartition(":")
        if colon and (known in BENCHMARKS or is_custom_file(known)):
            if language in LANGUAGES:
                raise InputError(f"{known}: write one language after the name ({name}), or {known} for both")
            raise InputError(f"{name}: unknown language {language!r}; the languages are {', '.join(LANGUAGES)}")
        raise unknown("benchmark", name, BENCHMARKS)


def require_known(settings: EvalConfig) -> None:
    """Check names of benchmarks, scorers, backend and selection.

    Raises:
        InputError: one is unknown; the message suggests the nearest names.
    """
    for benchmark in settings.benchmarks:
        require_benchmark(split_language(benchmark)[0])
    for name in settings.scorers:
        if name not in SCORERS:
            raise unknown("scorer", name, SCORERS)
    require_fields(settings.map, custom.MAP_FIELDS)
    if settings.map and not any(is_custom_file(split_language(name)[0]) for name in settings.benchmarks):
        raise InputError("map applies only to your own files, but only benchmarks are given; leave it out")
    backend_named(settings.backend)
    if settings.selection is not None and settings.selection not in SELECTIONS:
        raise unknown("selection", settings.selection, SELECTIONS)


def tasks(settings: EvalConfig, prompt_config: PromptConfig, data: Path) -> list[EvalTask]:
    """Load and select the questions of every benchmark in every language it has.

    Raises:
        InputError: a name is unknown, files are missing or invalid, or no item is left to evaluate.
    """
    require_known(settings)
    prompt_format = prepare(prompt_config, data)
    found = [
        _task(settings, prompt_format, name, language, data)
        for name, own_languages in map(split_language, settings.benchmarks)
        for language in _languages(name, own_languages or settings.languages, settings.read_options)
    ]
    names = [task.name for task in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name} is asked for twice; name each benchmark once, and each file its own")
    return found


def split_language(benchmark: str) -> tuple[str, tuple[Language, ...]]:
    """Split NAME:LANGUAGE into name and languages; without a language there are none."""
    name, _, suffix = benchmark.rpartition(":")
    languages = tuple(language for language in LANGUAGES if language == suffix)
    return (name, languages) if languages else (benchmark, ())


def _languages(name: str, wanted: Sequence[Language], read_options: custom.ReadOptions) -> list[Language]:
    """Return the requested languages of a benchmark; it is an error if the benchmark has none of them."""
    spoken = (
        custom.read_file(Path(name), read_options).languages if is_custom_file(name) else BENCHMARKS[name].languages
    )
    languages = [language for language in wanted if language in spoken]
    if not languages:
        has = f"it has {', '.join(spoken)}" if spoken else "it has no question"
        raise InputError(f"benchmark {name} is not in {', '.join(wanted)}; {has}")
    return languages


def _task(settings: EvalConfig, prompt_format: PromptFormat, name: str, language: Language, data: Path) -> EvalTask:
    selection = settings.selection or default_selection(name)
    read_options = settings.read_options if is_custom_file(name) else custom.DEFAULT_READ_OPTIONS
    loaded = _load(settings, name, language, data)
    selected = select_counted(loaded, selection)
    custom_file = custom.read_file(Path(name), read_options) if is_custom_file(name) else None
    judged = scorable(selected.questions, settings.scorers)
    left_out = selected.left_out | judged.left_out
    if custom_file and custom_file.skipped and len(custom_file.languages) == 1:  # otherwise their language is unknown
        left_out[WRONG] = len(custom_file.skipped)
    if selected.questions and not judged.questions:
        raise InputError(
            f"benchmark {name} in {language}: {cannot_score(', '.join(settings.scorers), selected.questions)}"
        )
    if not judged.questions:
        raise InputError(
            f"benchmark {name} in {language}: selection {selection} leaves no item that "
            f"{', '.join(settings.scorers)} can score; choose another selection"
        )
    require_sampled(judged.questions, settings)
    return EvalTask(
        questions=judged.questions[: settings.limit],
        selected=len(judged.questions),
        prompt_format=prompt_format,
        scorers=tuple(settings.scorers),
        selection=selection,
        split=settings.split,
        max_new_tokens=settings.max_new_tokens,
        thinks=prompt_format.chat and prompt_format.thinking == "on",
        decoding=settings.decoding,
        samples=settings.samples,
        thinking_budget=settings.thinking_budget,
        shuffle=settings.shuffle,
        rotations=settings.rotations,
        left_out=left_out,
        notes=custom_file.notes if custom_file else _notes(settings.split, name, language, len(loaded)),
        read_options=read_options,
        skip_invalid=settings.skip_invalid,
        images=settings.images,
        constrain=settings.constrain,
        source={"data": str(data)} | ({"file": name} if is_custom_file(name) else {}),
    )


def require_sampled(questions: Sequence[Question], settings: EvalConfig) -> None:
    """Check that several samples of each item can be taken.

    Raises:
        InputError: no scorer reads a response, or the id of a question ends like that of a sample.
    """
    samples = settings.samples
    if samples == 1:
        return
    if not any(SCORERS[name].needs == "response" for name in settings.scorers):
        raise InputError(
            f"{samples} samples of each item: scorer {', '.join(settings.scorers)} reads no responses; leave it out, "
            "or add a scorer that does"
        )
    for question in questions:
        if question.id.rpartition(SAMPLE_MARK)[2].isdecimal() and SAMPLE_MARK in question.id:
            raise InputError(
                f"question {question.id}: {SAMPLE_MARK} and a number at the end of an id mark samples; rename it, or "
                "ask for 1 sample"
            )


def _load(settings: EvalConfig, name: str, language: Language, data: Path) -> list[Question]:
    """Load all questions; if their file is missing, the error names the languages that do not need it."""
    read_options = settings.read_options if is_custom_file(name) else custom.DEFAULT_READ_OPTIONS
    try:
        return load(name, language, data, settings.split, read_options)
    except MissingFileError as error:
        sources = BENCHMARKS[name].sources
        others = [
            each
            for each in BENCHMARKS[name].languages
            if each != language
            and each in settings.languages
            and (sources[each] != sources[language] or _is_present(name, each, data, settings.split))
        ]
        alone = "".join(f"; for {LANGUAGE_NAMES[each]} alone write {name}:{each}" for each in others)
        raise InputError(f"{name} in {LANGUAGE_NAMES[language]}: {error}{alone}") from None


def _is_present(name: str, language: Language, data: Path, split: str) -> bool:
    try:
        return bool(load(name, language, data, split))
    except InputError:
        return False


def _notes(split: str, name: str, language: Language, found: int) -> tuple[str, ...]:
    """Return the notes of a benchmark, with one if it has another number of questions than it declares."""
    benchmark = BENCHMARKS[name]
    expected = benchmark.expected_counts.get((language, split))
    if expected in (None, found):
        return benchmark.notes
    return (*benchmark.notes, f"{name} {language}: {found:,} questions found, {expected:,} expected; check the files.")


def evaluate_model(
    spec: ModelSpec, tasks: Sequence[EvalTask], output: Path, judge: Judge | None = None
) -> list[EvalResult]:
    """Evaluate a model on the tasks; results go to `output`.

    The model is loaded at most once, and not at all if the results are complete. Each of several processes evaluates
    a share of the items, and only the first process returns results.

    Raises:
        InputError: see `prepare_model` and `evaluate_task`.
    """
    here = rank()
    if here.world_size > 1:
        processes = Requirement("several processes (launch)", lambda can: can.distributed, "start one process")
        require_backend(spec.backend, [processes])
    require_judge(tasks[0].scorers, judge, [files_of(task.name, output).judge for task in tasks])
    with process_group():
        model = prepare_model(spec, tasks, output)
        tasks = [as_shown(task, model) for task in tasks]
        for line in model.responses.notes if model.responses else ():
            notice(line)
        if here.world_size > 1:
            return evaluate_shares(tasks, model, output, here, judge)
        return evaluate_tasks(tasks, model, output, judge)


def evaluate_tasks(
    tasks: Sequence[EvalTask], model: PreparedModel, output: Path, judge: Judge | None = None
) -> list[EvalResult]:
    """Evaluate a model on the tasks in one process; results go to `output`.

    Raises:
        InputError: see `evaluate_task`.
    """
    with locked(output):
        for task in tasks:
            join_shares(task, model.settings, output)
        remove_empty_shares(output)
        return [evaluate_task(task, model, output, judge) for task in tasks]
