"""The processor of a vision-language model: which models have one, and how prompts show pictures with it."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, not_installed
from jmedllm.files import read_json
from jmedllm.models.chat import ChatTemplate, with_pictures
from jmedllm.models.classes import sees
from jmedllm.models.folder import PROCESSOR_FILES
from jmedllm.models.libraries import be_quiet
from jmedllm.models.loading import loading, read_config

Processor = Any  # transformers.ProcessorMixin

_MARK = "\ue002"
"""A private character, which no template contains."""


def sees_pictures(folder: Path) -> bool:
    """Return whether a model directory contains a vision-language model.

    Raises:
        InputError: it does, but without the files of its processor.
    """
    if not sees(read_config(folder)):
        return False
    if not any((folder / name).is_file() for name in PROCESSOR_FILES):
        raise InputError(
            f"model {folder}: sees pictures, but has no {' or '.join(PROCESSOR_FILES[:2])}; copy the processor files "
            "of its base, or ask without pictures (--no-images)"
        )
    return True


@lru_cache(maxsize=2)
def load_processor(folder: Path) -> Processor:
    """Load the processor of a vision-language model.

    Raises:
        InputError: its files are missing or broken, or a package that it needs is not installed.
    """
    from transformers import ProcessorMixin

    be_quiet()
    try:
        with loading(f"processor of {folder}"):
            processor = _load(folder)
    except InputError as error:
        if find_spec("torchvision") is None and "torchvision" in str(error.__cause__).lower():
            raise not_installed(f"processor of {folder}", "torchvision") from error
        raise
    if not isinstance(processor, ProcessorMixin) or getattr(processor, "image_processor", None) is None:
        raise InputError(f"processor of {folder}: does not read pictures; copy the processor files of its base")
    return processor


def _load(folder: Path) -> Processor:
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import processor_class_from_name

    name = _class_name(folder)
    kind = processor_class_from_name(name) if name else None
    if find_spec("torchvision") is not None or kind is None or _VIDEO not in kind.get_attributes():
        return AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    parts: dict[str, Any] = {"image_processor": AutoImageProcessor, "tokenizer": AutoTokenizer}
    loaded = [
        parts[part].from_pretrained(folder, trust_remote_code=False) if part in parts else None
        for part in kind.get_attributes()
    ]
    settings, _ = kind.get_processor_dict(folder)
    return _for_pictures(kind).from_args_and_dict(loaded, settings)


_VIDEO = "video_processor"


def _class_name(folder: Path) -> str | None:
    """Return the name of the processor's class, which a file may name; else it follows from the model type."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    named = (read_json(folder / name).get("processor_class") for name in PROCESSOR_FILES if (folder / name).is_file())
    found: str | None = next(filter(None, named), PROCESSOR_MAPPING_NAMES.get(read_config(folder).model_type))
    return found


def _for_pictures(kind: Any) -> Any:
    """Return a class of processors that need no parts for videos and sound. Each video processor needs torchvision."""

    def check(processor: Any, name: str, value: Any) -> Any:
        return None if value is None else kind.check_argument_for_proper_class(processor, name, value)

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})


def image_marker(processor: Processor, template: ChatTemplate | None, config: Any = None) -> str:
    """Return the text that stands for a picture in prompts.

    It is what the chat template writes for a picture, such as <|vision_start|><|image_pad|><|vision_end|>. If there is
    no template, or it writes no pictures, it is the processor's image token, between the tokens that the configuration
    of a Qwen model has for the start and end of a picture.

    Raises:
        InputError: the processor has no image token.
    """
    token = image_token(processor)
    written = _written(template) if template is not None else ""
    if token in written:
        return written
    bounds = [getattr(config, f"vision_{bound}_token_id", None) for bound in ("start", "end")]
    if None in bounds:
        return token
    start, end = processor.tokenizer.convert_ids_to_tokens(bounds)
    return f"{start}{token}{end}"


def require_pictures_written(processor: Processor, template: ChatTemplate) -> None:
    """Check that a chat template writes the pictures of a message.

    Raises:
        InputError: it leaves them out, or raises an error for them.
    """
    try:
        text = template.prompt([{"role": "user", "content": with_pictures(_MARK, 1)}])
    except InputError:
        text = ""
    if image_token(processor) not in text:
        raise InputError(
            "the model's chat template writes no pictures; use the template of its base, or ask without chat or "
            "without pictures (--no-images)"
        )


def image_token(processor: Processor) -> str:
    """Return the text with which a processor replaces each picture by its tokens.

    Raises:
        InputError: it has none.
    """
    token = getattr(processor, "image_token", None)
    token = getattr(token, "content", token)
    if not token:
        raise InputError(f"processor {type(processor).__name__}: has no image token, so its prompts show no picture")
    return str(token)


def _written(template: ChatTemplate) -> str:
    """Return what a chat template writes for a picture in front of a text; empty if it writes nothing."""
    try:
        shown, alone = (
            template.prompt([{"role": "user", "content": with_pictures(_MARK, count)}]).partition(_MARK)[0]
            for count in (1, 0)
        )
    except InputError:
        return ""
    same = 0
    while same < len(alone) and alone[same] == shown[same]:
        same += 1
    return shown[same : same + len(shown) - len(alone)]
