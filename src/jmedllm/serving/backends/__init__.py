"""What runs a served model: one module for each backend, and the registry."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jmedllm.errors import InputError, NoSuchPathError
from jmedllm.serving.model import ServedModel, ServeOptions


@dataclass(frozen=True, slots=True)
class ServingBackend:
    """A backend.

    Attributes:
        runs: returns whether it runs the model at a path.
        open: loads the model.
    """

    runs: Callable[[Path], bool]
    open: Callable[[Path, ServeOptions], Awaitable[ServedModel]]


async def _llama_cpp(path: Path, options: ServeOptions) -> ServedModel:
    from jmedllm.serving.backends.llama_cpp import open_llama_cpp

    return await open_llama_cpp(path, options)


async def _transformers(path: Path, options: ServeOptions) -> ServedModel:
    try:
        from jmedllm.serving.backends.transformers import open_transformers
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: serving a model directory needs {error.name}; pip install 'jmedllm'") from error

    return await open_transformers(path, options)


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file()


BACKENDS: Mapping[str, ServingBackend] = {
    "llama_cpp": ServingBackend(Path.is_file, _llama_cpp),
    "transformers": ServingBackend(_is_model, _transformers),
}
"""Backends by name; the first that runs a model is used."""


async def open_model(path: Path, options: ServeOptions) -> ServedModel:
    """Load a model with the first backend that runs it.

    Raises:
        InputError: there is no such file, or no backend runs it, or the backend cannot load it.
    """
    if not path.exists():
        raise NoSuchPathError(path, f"{path}: no such file; export a model with: jmedllm deploy gguf")
    for backend in BACKENDS.values():
        if backend.runs(path):
            return await backend.open(path, options)
    raise InputError(
        f"{path}: nothing here serves it; give a GGUF file (jmedllm deploy gguf writes one) or a model directory"
    )
