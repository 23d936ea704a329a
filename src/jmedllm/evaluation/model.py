"""Prepare the evaluated model: its identity, its chat template and its backend."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate_task import PreparedModel
from jmedllm.evaluation.response_config import response_config, with_responses
from jmedllm.evaluation.resume import date_begun
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.sharding import shares
from jmedllm.evaluation.task import EvalTask
from jmedllm.files import to_json
from jmedllm.models.adapters import quantization_of as quantization_of_adapter
from jmedllm.models.adapters import require_adapter
from jmedllm.models.backends import BACKENDS, open_model, require_backend, requirements_of
from jmedllm.models.backends.base import GREEDY, InferenceModel, ModelSpec, Requirement
from jmedllm.models.chat import ChatTemplate, Message, no_template, with_system
from jmedllm.models.folder import (
    adapter_fingerprint,
    fingerprint,
    has_chat_template,
    require_model,
    require_unambiguous,
)
from jmedllm.models.weights.quantization import quantization_of, require_decodable, require_runnable
from jmedllm.processes import broadcast_from_rank0


def prepare_model(spec: ModelSpec, tasks: Sequence[EvalTask], output: Path) -> PreparedModel:
    """Check a model and its backend for these tasks, without loading the model.

    All processes must call this; the first one determines the date in the prompts.

    Args:
        spec: the model.
        tasks: at least one task, all with the same prompt format.
        output: directory of the evaluation, which may have started on another day.

    Raises:
        InputError: the backend cannot do what the tasks need, or the model or the adapter is unusable.
    """
    require_backend(spec.backend, [*requirements_of(spec), *requirements_of_tasks(tasks)])
    marker = check_pictures(tasks, spec)
    if not BACKENDS[spec.backend].capabilities.local:
        return _remote(spec, tasks, output, marker)
    spec = with_quantization(spec)
    settings = model_settings(spec)
    template = chat_template(tasks, spec, output)
    responses = response_config(tasks, spec, template)
    require_backend(spec.backend, requirements_of_tasks([with_responses(tasks[0], responses)]))
    note = unused_template(tasks, spec)
    return PreparedModel(
        settings | (template.settings() if template else {}),
        _once(lambda: open_model(spec)),
        template.prompt if template else no_template,
        (note,) if note else (),
        marker,
        responses,
    )


_PICTURES = Requirement(
    "pictures", lambda can: can.images, "ask without them (--no-images; images: false in a recipe)"
)


def check_pictures(tasks: Sequence[EvalTask], spec: ModelSpec) -> str | None:
    """Check that a model can be shown the pictures of these tasks, if it sees any; see `image_marker_of`.

    Raises:
        InputError: the backend shows no pictures, one cannot be read, or a question contains the text that stands for
            a picture.
    """
    marker = image_marker_of(tasks, spec)
    if marker is not None:
        require_backend(spec.backend, [_PICTURES])
        _require_readable(tasks, is_sent=not BACKENDS[spec.backend].capabilities.local)
    if marker:
        _require_no_marker(tasks, spec)
    return marker


def image_marker_of(tasks: Sequence[EvalTask], spec: ModelSpec) -> str | None:
    """Return the text that stands for a picture in the prompts of a model; None if it is shown no pictures.

    A model on a server is assumed to see pictures, which are parts of its chat messages.

    Raises:
        InputError: the processor of the model is missing or broken, its chat template writes no pictures, or a model
            on a server would need chat messages.
    """
    if not any(task.images and task.with_images for task in tasks):
        return None
    if not BACKENDS[spec.backend].capabilities.local:
        if not tasks[0].prompt_format.chat:
            raise InputError(
                "the questions show pictures, which only chat messages carry to a server; ask with --chat, or without "
                "pictures (--no-images)"
            )
        return ""
    from jmedllm.models.loading import read_config
    from jmedllm.models.processor import image_marker, load_processor, require_pictures_written, sees_pictures
    from jmedllm.models.tokenizer.load import load_tokenizer

    if not sees_pictures(spec.folder):
        return None
    tokenizer = load_tokenizer(spec.folder, spec.adapter)
    template = ChatTemplate(tokenizer) if tokenizer.chat_template else None
    processor = load_processor(spec.folder)
    if template is not None and tasks[0].prompt_format.chat:
        require_pictures_written(processor, template)
    return image_marker(processor, template, read_config(spec.folder))


def _require_readable(tasks: Sequence[EvalTask], *, is_sent: bool) -> None:
    """Check that every picture of the tasks can be read, and sent if a server needs it.

    Raises:
        InputError: one cannot; the message names the question's place in its file.
    """
    from jmedllm.models.pictures import data_url, read_picture

    read = data_url if is_sent else read_picture
    shown = (task for task in tasks if task.images)
    pictures = {picture for task in shown for question in task.questions for picture in question.images}
    for picture in sorted(pictures, key=lambda each: each.path):
        try:
            read(picture.path)
        except InputError as error:
            raise InputError(f'{picture.place}: field "images": {error}') from error


def _require_no_marker(tasks: Sequence[EvalTask], spec: ModelSpec) -> None:
    """Check that no question with pictures contains the text that stands for one.

    Raises:
        InputError: one does; the message names its place in its file.
    """
    from jmedllm.models.processor import image_token, load_processor

    token = image_token(load_processor(spec.folder))
    for question in (question for task in tasks if task.images for question in task.questions if question.images):
        if any(token in text for text in (question.stem, *question.choices)):
            raise InputError(
                f"{question.images[0].place}: the question contains {token}, which stands for a picture in "
                f"prompts of {spec.name}; delete it: pictures are shown in front of the question"
            )


def with_marker(task: EvalTask, marker: str | None) -> EvalTask:
    """Return a task that shows its pictures, if it has any, to a model with this image marker."""
    return replace(task, image_marker=marker if task.images and task.with_images else None)


def as_shown(task: EvalTask, model: PreparedModel) -> EvalTask:
    """Return a task as this model is asked it, with notes on the model and on pictures that it is not shown."""
    task, notes = with_marker(task, model.image_marker), (*task.notes, *model.notes)
    free = sum(not task.allowed(question) for question in task.questions) if task.constrain else 0
    if free:
        notes = (
            *notes,
            f"{free:,} of {len(task.questions):,} items are not constrained: they have no choices.",
        )
    if model.responses is not None:
        task, notes = with_responses(task, model.responses), (*notes, *model.responses.notes)
    if task.with_images and task.image_marker is None:
        why = f"which {model.settings['model']} does not see" if task.images else "which the model is not shown"
        notes = (*notes, f"{task.with_images:,} of {len(task.questions):,} items have pictures, {why}.")
    return replace(task, notes=notes)


def requirements_of_tasks(tasks: Sequence[EvalTask]) -> Iterator[Requirement]:
    """Yield the capabilities that the scorers of these tasks require of a backend."""
    scorers = {name for task in tasks for name in task.scorers}
    probable = [name for name in sorted(scorers) if SCORERS[name].needs == "log_probs"]
    written = [name for name in sorted(scorers) if SCORERS[name].needs == "response"]
    if written:
        yield Requirement(f"generation (scorer {', '.join(written)})", lambda can: can.generation)
        if any(task.constrain for task in tasks):
            yield Requirement("constrained replies (--constrain)", lambda can: can.constrained, "leave it out")
        chosen = [(task.samples, task.decoding.values) for task in tasks if not task.decoding.recommended]
        if any(samples > 1 and values == GREEDY for samples, values in chosen):
            same = "a model here gives the same reply again; leave it out"
            yield Requirement("repeated items (--repeat)", lambda can: can.server, same)
        if any(values != GREEDY for _, values in chosen):
            yield Requirement("sampling (--decoding)", lambda can: can.sampling, "decode greedily")
    if tasks[0].thinking_budget is not None:
        yield Requirement("thinking_budget", lambda can: can.thinking_budget, "leave it out")
    if not probable:
        return
    names = ", ".join(probable)
    if tasks[0].by_label:
        yield Requirement(f"log-probabilities of labels (scorer {names})", lambda can: can.label_log_probs)
    else:
        yield Requirement(
            f"log-probabilities of whole choices (scorer {names})",
            lambda can: can.text_log_probs,
            "ask for letters (--answer-as letter)",
        )


def with_quantization(spec: ModelSpec) -> ModelSpec:
    """Return the specification with the quantization of the adapter's training, if none is given."""
    if spec.quantization is not None:
        return spec
    return replace(spec, quantization=quantization_of_adapter(spec.adapter) if spec.adapter else "none")


def model_settings(spec: ModelSpec) -> dict[str, Any]:
    """Return everything about a model directory that shapes its responses: name, content, backend, precision.

    Raises:
        InputError: model or adapter is unusable, or the model directory contains adapter files and the specification
            neither uses nor ignores them.
    """
    from jmedllm.models.tokenizer.load import adapter_tokenizer_differences

    spec = with_quantization(spec)
    require_model(spec.folder)
    require_unambiguous(spec.folder, adapter=spec.adapter, ignore_adapter=spec.ignore_adapter)
    settings = {"model": spec.name, "fingerprint": fingerprint(spec.folder), "backend": spec.backend}
    if spec.precision is not None:
        settings["precision"] = spec.precision.name
    if spec.quantization not in (None, "none"):
        settings["quantization"] = spec.quantization
    if spec.dequantize:
        require_decodable(spec.folder)
        settings["dequantized"] = "bfloat16"
    elif BACKENDS[spec.backend].capabilities.needs_kernels and spec.precision is not None:
        require_runnable(quantization_of(spec.folder), spec.folder, spec.precision.device)
    if spec.adapter is not None:
        require_adapter(spec.adapter, spec.folder)
        settings["adapter_fingerprint"] = adapter_fingerprint(spec.adapter)
        if differing := adapter_tokenizer_differences(spec.adapter, spec.folder):
            settings["adapter_tokenizer"] = ", ".join(differing)
    return settings


def chat_template(tasks: Sequence[EvalTask], spec: ModelSpec, output: Path) -> ChatTemplate | None:
    """Return the chat template of the model or its adapter as the tasks use it; None if they use none.

    A template that reads the date gets the date of the tasks, else the one stored in `output`, else today's, so that
    all prompts of an evaluation have the same date.

    Raises:
        InputError: there is no template, or it does not use a variable that the tasks set.
    """
    from jmedllm.models.tokenizer.load import load_tokenizer

    prompt_format = tasks[0].prompt_format
    if not prompt_format.chat:
        return None
    template = prompt_format.template(load_tokenizer(spec.folder, spec.adapter))
    if template.date is None and template.reads_date:
        names = [task.name for task in tasks]
        begun = broadcast_from_rank0(lambda: date_begun(names, [output, *shares(output)]) or template.today())
        template = replace(template, date=begun)
    return template


def unused_template(tasks: Sequence[EvalTask], spec: ModelSpec) -> str | None:
    """Return a notice if a model has a chat template that the tasks do not use, else None."""
    folders = [folder for folder in (spec.folder, spec.adapter) if folder]
    if tasks[0].prompt_format.chat or not any(map(has_chat_template, folders)):
        return None
    return f"{spec.name} has a chat template, which these prompts do not use; --chat applies it"


def _remote(spec: ModelSpec, tasks: Sequence[EvalTask], output: Path, marker: str | None) -> PreparedModel:
    """Prepare a model on a server. Its files cannot be hashed, so its name identifies it."""
    responses = response_config(tasks, spec, None)
    prompt_format = tasks[0].prompt_format
    spec = replace(
        spec,
        chat=prompt_format.chat,
        server_settings=replace(
            spec.server_settings,
            thinking=prompt_format.thinking,
            effort=prompt_format.effort,
            template_args=prompt_format.template_args,
        ),
    )
    backend = BACKENDS[spec.backend]
    settings = {
        "model": spec.name,
        "fingerprint": f"served {spec.model}",
        "backend": spec.backend,
        "precision": "the server's",
        **spec.server_settings.settings(),
    }
    today, begun = date.today().isoformat(), date_begun([task.name for task in tasks], [output])
    if begun or backend.prompts_contain_date(spec):
        settings["date"] = begun or today

    def open_today() -> InferenceModel:
        if begun not in (None, today):
            raise InputError(
                f"{output}: started on {begun}, but the server's chat template writes today's date into the prompts; "
                "choose another --output"
            )
        return open_model(spec)

    system = prompt_format.system
    if system:
        settings["system"] = system

    def as_messages(messages: list[Message]) -> str:
        return to_json(with_system(messages, system))

    chat_text = as_messages if backend.capabilities.chat_messages else no_template
    return PreparedModel(settings, _once(open_today), chat_text, image_marker=marker, responses=responses)


def _once(load: Callable[[], InferenceModel]) -> Callable[[], InferenceModel]:
    opened: list[InferenceModel] = []

    def open_once() -> InferenceModel:
        if not opened:
            opened.append(load())
        return opened[0]

    return open_once
