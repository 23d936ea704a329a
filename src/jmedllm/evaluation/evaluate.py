"""An exam: benchmarks in languages, sat by one model directory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks import BENCHMARKS, custom, load
from jmedllm.evaluation.benchmarks.columns import require_fields
from jmedllm.evaluation.benchmarks.file_formats import is_table, kinds
from jmedllm.evaluation.prompts.format import PromptConfig, PromptFormat, prepare
from jmedllm.evaluation.question import LANGUAGES, Language
from jmedllm.evaluation.resume import date_begun
from jmedllm.evaluation.scorable import judgeable
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.selection import SELECTIONS, WRONG, default_selection, select_counted
from jmedllm.evaluation.sharding import evaluate_shares, join_shares, remove_empty_shares, shares
from jmedllm.evaluation.task import EvalResult, EvalTask, evaluate_task
from jmedllm.files import locked
from jmedllm.models.adapters import quantization_of, require_adapter
from jmedllm.models.backends.base import InferenceModel
from jmedllm.models.chat import ChatTemplate, ChatText, no_template
from jmedllm.models.folder import (
    Quantization,
    adapter_fingerprint,
    fingerprint,
    has_chat_template,
    require_model,
    require_unambiguous,
)
from jmedllm.precision import Precision
from jmedllm.processes import broadcast_from_rank0, process_group, rank
from jmedllm.settings import Settings

Engine = Literal["transformers", "vllm"]


class EvalConfig(Settings):
    """What is sat and how it is judged."""

    benchmarks: list[str] = Field(
        min_length=1, description="benchmarks or files of your own; NAME:ja for one language of it"
    )
    map: dict[str, str] = Field({}, description="our fields → columns of your own files, see docs/questions.md")
    skip_invalid: bool = Field(
        False, description="leave wrong rows of your own files out, count items that cannot be asked as no answer"
    )
    languages: list[Literal["ja", "en"]] = Field(["ja", "en"], min_length=1)
    scorers: list[str] = Field(["answer", "likelihood"], min_length=1)
    selection: str | None = Field(
        None, description="which items: all, graded (the default for your own files), legacy (for benchmarks)"
    )
    split: str = "test"
    limit: int | None = Field(None, ge=1, description="only the first N items of each paper")
    max_new_tokens: int = Field(256, ge=1)
    shuffle: int | None = Field(None, ge=0, description="seed of a random order of the choices")
    rotations: int = Field(1, ge=1, description="turns of the choices that each question is shown in")
    batch_size: int | None = Field(None, ge=1, description="most items answered together; changes speed, not answers")

    @field_validator("scorers")
    @classmethod
    def _in_one_order(cls, scorers: list[str]) -> list[str]:
        # The same tracks in another order, or one named twice, are the same exam.
        return sorted(set(scorers), key=lambda name: ([*SCORERS, name].index(name), name))

    @property
    def read_options(self) -> custom.ReadOptions:
        """How files of the user's own are read."""
        return custom.ReadOptions(tuple(self.map.items()), self.skip_invalid)


def require_benchmark(name: str) -> None:
    """Check that `name` is a registered benchmark or the path of a user's own questions; else name the nearest."""
    if is_table(name):
        if Path(name).stem in BENCHMARKS:
            raise InputError(f"{name}: is named like the benchmark {Path(name).stem}; rename your file")
    elif Path(name).suffix and Path(name).exists():
        raise InputError(f"{name}: questions of your own are read from {kinds()}; save it as one of these")
    elif name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)


def require_known(settings: EvalConfig) -> None:
    """Check names of benchmarks, tracks and selection.

    Raises:
        InputError: one is unknown; the nearest are named.
    """
    for benchmark in settings.benchmarks:
        require_benchmark(split_language(benchmark)[0])
    for name in settings.scorers:
        if name not in SCORERS:
            raise unknown("scorer", name, SCORERS)
    require_fields(settings.map, custom.MAP_FIELDS)
    if settings.map and not any(is_table(split_language(name)[0]) for name in settings.benchmarks):
        raise InputError("map names columns of a file of your own, and only benchmarks are named; leave it out")
    if settings.selection is not None and settings.selection not in SELECTIONS:
        raise unknown("selection", settings.selection, SELECTIONS)


def tasks(settings: EvalConfig, prompt_config: PromptConfig, data: Path) -> list[EvalTask]:
    """Load and select the questions of every benchmark in every language it has.

    Raises:
        InputError: a name is unknown, files are missing or wrong, or nothing is left to sit.
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
            raise InputError(f"paper {name} is asked for twice; name each benchmark once, and each file its own")
    return found


def split_language(benchmark: str) -> tuple[str, tuple[Language, ...]]:
    """A benchmark's name and, where the user wrote NAME:LANGUAGE, that language."""
    name, _, suffix = benchmark.rpartition(":")
    languages = tuple(language for language in LANGUAGES if language == suffix)
    return (name, languages) if languages else (benchmark, ())


def _languages(name: str, wanted: Sequence[Language], read_options: custom.ReadOptions) -> list[Language]:
    """Languages of one benchmark that are wanted; asking for none it has is an error."""
    spoken = custom.read_exam(Path(name), read_options).languages if is_table(name) else BENCHMARKS[name].languages
    languages = [language for language in wanted if language in spoken]
    if not languages:
        has = f"it has {', '.join(spoken)}" if spoken else "it has no question"
        raise InputError(f"benchmark {name} is not in {', '.join(wanted)}; {has}")
    return languages


def _task(settings: EvalConfig, prompt_format: PromptFormat, name: str, language: Language, data: Path) -> EvalTask:
    selection = settings.selection or default_selection(name)
    read_options = settings.read_options if is_table(name) else custom.DEFAULT_READ_OPTIONS
    selected = select_counted(load(name, language, data, settings.split, read_options), selection)
    exam = custom.read_exam(Path(name), read_options) if is_table(name) else None
    judged = judgeable(selected.questions, settings.scorers)
    left_out = selected.left_out | judged.left_out
    if exam and exam.skipped and len(exam.languages) == 1:  # else nobody knows of which language they are
        left_out[WRONG] = len(exam.skipped)
    if not judged.questions:
        raise InputError(
            f"benchmark {name} in {language}: selection {selection} leaves no item that "
            f"{', '.join(settings.scorers)} can judge; choose another selection"
        )
    return EvalTask(
        judged.questions[: settings.limit],
        len(judged.questions),
        prompt_format,
        tuple(settings.scorers),
        selection,
        settings.split,
        settings.max_new_tokens,
        settings.shuffle,
        settings.rotations,
        left_out,
        exam.notes if exam else (),
        read_options,
        skip_invalid=settings.skip_invalid,
    )


def model_settings(
    folder: Path,
    precision: Precision,
    *,
    name: str,
    adapter: Path | None = None,
    ignore_adapter: bool = False,
    quantization: Quantization = "none",
) -> dict[str, Any]:
    """All of a model that shapes its answers: name, content, precision.

    Raises:
        InputError: model and adapter are unusable, or an adapter lies beside the model and nothing is said of it.
    """
    from jmedllm.models.tokenizer.load import adapter_tokenizer_differences

    require_model(folder)
    require_unambiguous(folder, adapter=adapter, ignore_adapter=ignore_adapter)
    settings = {"model": name, "fingerprint": fingerprint(folder), "precision": precision.name}
    if quantization != "none":
        settings["quantization"] = quantization
    if adapter is not None:
        require_adapter(adapter, folder)
        settings["adapter_fingerprint"] = adapter_fingerprint(adapter)
        if differing := adapter_tokenizer_differences(adapter, folder):
            settings["adapter_tokenizer"] = ", ".join(differing)
    return settings


def chat_template(
    tasks: Sequence[EvalTask], folder: Path, output: Path, adapter: Path | None = None
) -> ChatTemplate | None:
    """The chat template of a model directory, or of the adapter on it, as the papers use it; None if they do not.

    A template that reads the date takes the one that the papers name, else that of the records in `output`, else
    today's: all prompts of an exam hold the same. Of several processes, which must be together, the first decides.

    Raises:
        InputError: there is no template, or it does not read a variable that the papers set.
    """
    from jmedllm.models.tokenizer.load import load_tokenizer

    prompt_format = tasks[0].prompt_format
    if not prompt_format.chat:
        return None
    template = prompt_format.template(load_tokenizer(folder, adapter))
    if template.date is None and template.reads_date:
        names = [task.name for task in tasks]
        begun = broadcast_from_rank0(lambda: date_begun(names, [output, *shares(output)]) or template.today())
        template = replace(template, date=begun)
    return template


def unused_template(tasks: Sequence[EvalTask], folder: Path, name: str, adapter: Path | None = None) -> str | None:
    """What must be said of a model with a chat template that is asked without it; None where nothing must.

    Args:
        adapter: on the model; it may bring the template.
    """
    if tasks[0].prompt_format.chat or not any(has_chat_template(each) for each in (folder, adapter) if each):
        return None
    return f"{name} has a chat template and is asked without it; --chat asks it as its users do"


def evaluate_model(
    folder: Path,
    tasks: Sequence[EvalTask],
    precision: Precision,
    output: Path,
    *,
    name: str,
    adapter: Path | None = None,
    ignore_adapter: bool = False,
    quantization: Quantization | None = None,
    batch_size: int | None = None,
    engine: Engine = "transformers",
) -> list[EvalResult]:
    """Let a model directory, with or without an adapter, sit the papers; records go to `output`.

    Without `quantization` the weights are held as the adapter found them in its training, or as they are stored.
    The model is loaded at most once, and not at all where the records are complete. Under torchrun each process
    sits a share, and only the first returns sittings.

    Raises:
        InputError: see `evaluate_task`; or model and adapter are unusable.
    """
    held = quantization or (quantization_of(adapter) if adapter else "none")
    settings = model_settings(
        folder, precision, name=name, adapter=adapter, ignore_adapter=ignore_adapter, quantization=held
    )
    if note := unused_template(tasks, folder, name, adapter):
        tasks = [replace(task, notes=(*task.notes, note)) for task in tasks]
    if engine != "transformers":
        settings["engine"] = engine  # its rounding is another
    model: InferenceModel | None = None

    def load_once() -> InferenceModel:
        nonlocal model
        if model is None:
            model = _open(engine, folder, precision, adapter, held, name, batch_size)
        return model

    here = rank()
    with process_group():
        template = chat_template(tasks, folder, output, adapter)
        chat_text: ChatText = template.prompt if template else no_template
        settings |= template.settings() if template else {}
        if here.world_size > 1:
            return evaluate_shares(tasks, settings, load_once, output, here, chat_text)
        return evaluate_tasks(tasks, settings, load_once, output, chat_text)


def _open(
    engine: Engine,
    folder: Path,
    precision: Precision,
    adapter: Path | None,
    quantization: Quantization,
    name: str,
    batch_size: int | None,
) -> InferenceModel:
    if engine == "vllm":
        if quantization != "none":
            raise InputError("--engine vllm holds no model in NF4; leave one of the two out, or merge the adapter")
        from jmedllm.models.backends.vllm.model import open_vllm

        return open_vllm(folder, precision.name, adapter=adapter, name=name)
    from jmedllm.models.backends.transformers.model import load_model

    return load_model(folder, precision, adapter=adapter, name=name, batch_size=batch_size, quantization=quantization)


def evaluate_served(
    url: str, name: str, tasks: Sequence[EvalTask], output: Path, *, label: str, concurrency: int
) -> list[EvalResult]:
    """Let a model behind an OpenAI-compatible server sit the papers.

    Args:
        url: where the server's API begins, such as http://127.0.0.1:8000/v1.
        name: what the server calls the model.
        label: what reports call it.
        concurrency: most requests at a time.

    Raises:
        InputError: see `evaluate_task` and `OpenAIServerModel`; or records there hold another day's prompts, which
            the server's template writes into them.
    """
    from jmedllm.models.backends.openai.server import connect

    model = connect(url, name, chat=tasks[0].prompt_format.chat, concurrency=concurrency)
    # What is served cannot be hashed: its name stands for it. A server that moves is still the same.
    settings = {"model": label, "fingerprint": f"served {name}", "precision": "the server's"}
    today, begun = date.today().isoformat(), date_begun([task.name for task in tasks], [output])
    if begun or model.reads_date():
        settings["date"] = begun or today

    def load() -> InferenceModel:
        if begun not in (None, today):
            raise InputError(
                f"{output}: begun on {begun}, and the server's chat template writes the day into the prompts; "
                "choose another --output"
            )
        return model

    return evaluate_tasks(tasks, settings, load, output, model.chat_text)


def evaluate_tasks(
    tasks: Sequence[EvalTask],
    settings: dict[str, Any],
    load: Callable[[], InferenceModel],
    output: Path,
    chat_text: ChatText = no_template,
) -> list[EvalResult]:
    """Let whatever `load` gives sit the papers; records go to `output`, one process at a time.

    Args:
        settings: all of the model that shapes its answers, at least its name as "model" and its "fingerprint".
        load: gives the model; called again for each paper that has items missing.
        chat_text: the model's chat template, where the papers are asked by chat.

    Raises:
        InputError: see `evaluate_task`.
    """
    with locked(output):
        for task in tasks:
            join_shares(task, settings, output)
        remove_empty_shares(output)
        return [evaluate_task(task, settings, load, output, chat_text) for task in tasks]
