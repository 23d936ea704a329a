"""What runs a served model: one module for each backend, and the registry."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from jmedllm.errors import InputError, NoSuchPathError
from jmedllm.manifest import last_model, read_manifest
from jmedllm.serving.model import ServedModel, ServeOptions


@dataclass(frozen=True, slots=True)
class ServingBackend:
    """A backend.

    Attributes:
        runs: returns whether it runs the model at a path, if it is installed.
        open: loads the model.
        suits: returns whether to prefer it for a model on this machine.
    """

    runs: Callable[[Path], bool]
    open: Callable[[Path, ServeOptions], Awaitable[ServedModel]]
    suits: Callable[[Path], bool] = lambda _: True


async def _llama_cpp(path: Path, options: ServeOptions) -> ServedModel:
    from jmedllm.serving.backends.llama_cpp import open_llama_cpp

    return await open_llama_cpp(path, options)


async def _transformers(path: Path, options: ServeOptions) -> ServedModel:
    try:
        from jmedllm.serving.backends.transformers import open_transformers
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path}: a model directory needs {error.name}, which is not installed here; install all of jmedllm with "
            "`pip install .` in its repository, or serve a GGUF file"
        ) from error

    return await open_transformers(path, options)


async def _vllm(path: Path, options: ServeOptions) -> ServedModel:
    from jmedllm.serving.backends.vllm import open_vllm

    return await open_vllm(path, options)


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file()


def _suits_vllm(path: Path) -> bool:
    if not _is_model(path) or find_spec("vllm") is None:
        return False
    from jmedllm.serving.backends.vllm import suits_device

    return suits_device()


BACKENDS: Mapping[str, ServingBackend] = {
    "llama_cpp": ServingBackend(Path.is_file, _llama_cpp),
    "vllm": ServingBackend(_is_model, _vllm, _suits_vllm),
    "transformers": ServingBackend(_is_model, _transformers),
}
"""Backends by name; the first that suits a model is used."""


def find_model(path: Path) -> tuple[Path, str | None]:
    """Return the file or directory of a model, and the name of the run if it is the last model of a run.

    Raises:
        InputError: there is no such file, a run has written no model, or it is an adapter.
    """
    if not path.exists():
        raise NoSuchPathError(path, f"{path}: no such file; export a model with: jmedllm deploy gguf")
    if path.is_dir() and read_manifest(path) is not None:
        return last_model(path), path.resolve().name
    if (path / "adapter_config.json").is_file() and not _is_model(path):
        raise InputError(
            f"{path}: is an adapter; merge it first with: jmedllm merge --model BASE --adapter {path} --output MODEL"
        )
    return path, None


async def open_model(path: Path, options: ServeOptions) -> ServedModel:
    """Load a model with the backend that the settings name, or the first that suits it.

    Args:
        path: GGUF file, model directory, or directory of a run.
        options: the settings.

    Raises:
        InputError: there is no such model, or the backend does not run or load it.
    """
    model, run = find_model(path)
    options = options if run is None else replace(options, name=run)
    able = {name: backend for name, backend in BACKENDS.items() if backend.runs(model)}
    if not able:
        raise InputError(
            f"{path}: nothing here serves it; give a GGUF file (jmedllm deploy gguf writes one), or the directory of "
            "a model or run"
        )
    if options.backend is not None and options.backend not in able:
        raise InputError(f"{path}: --backend {options.backend} does not serve it; give {' or '.join(able)}")
    for name, backend in able.items():
        if options.backend == name or (options.backend is None and backend.suits(model)):
            return await backend.open(model, options)
    raise AssertionError("the last backend for a model suits every machine")
