"""Inference backends: one module each, registered here."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from jmedllm.errors import InputError, not_installed, unknown
from jmedllm.models.backends import openai, transformers, vllm
from jmedllm.models.backends.base import Backend, InferenceModel, ModelSpec, Requirement
from jmedllm.plugins import plugins

__all__ = ["BACKENDS", "backend_named", "open_model", "require_backend", "require_capabilities", "requirements_of"]

BACKENDS: dict[str, Backend] = {
    "transformers": transformers.BACKEND,
    "vllm": vllm.BACKEND,
    "openai": openai.BACKEND,
}


def backend_named(name: str) -> Backend:
    """Return the backend with this name.

    Raises:
        InputError: there is none; the message suggests the nearest names.
    """
    if name not in BACKENDS:
        raise unknown("backend", name, BACKENDS)
    return BACKENDS[name]


def require_capabilities(name: str, requirements: Iterable[Requirement]) -> Backend:
    """Check that a backend meets all requirements, whether or not its package is installed.

    Raises:
        InputError: the name is unknown, or the backend does not meet a requirement (the message names those that do).
    """
    backend = backend_named(name)
    for requirement in requirements:
        if not requirement.met_by(backend.capabilities):
            raise InputError(f"backend {name} does not support {requirement.what}; {_fix(requirement)}")
    return backend


def require_backend(name: str, requirements: Iterable[Requirement]) -> Backend:
    """Check that a backend meets all requirements and can be used, before anything is loaded.

    Raises:
        InputError: see `require_capabilities`; or the backend's package is not installed.
    """
    backend = require_capabilities(name, requirements)
    if backend.package is not None and find_spec(backend.package) is None:
        raise not_installed(f"backend {name}", backend.package)
    return backend


def _fix(requirement: Requirement) -> str:
    able = [name for name, backend in BACKENDS.items() if requirement.met_by(backend.capabilities)]
    fixes = [f"use backend {' or '.join(able)}"] * bool(able) + [requirement.remedy] * bool(requirement.remedy)
    return ", or ".join(fixes) or "leave it out"


def requirements_of(spec: ModelSpec) -> Iterator[Requirement]:
    """Yield the requirements of this model to its backend."""
    if spec.adapter is not None:
        yield Requirement("adapters (--adapter)", lambda can: can.adapters)
    if spec.quantization is not None:
        method = spec.quantization
        yield Requirement(f"quantization {method}", lambda can: method in can.quantization)
    if spec.dequantize:
        yield Requirement("dequantized weights (--dequantize)", lambda can: can.dequantize)
    if spec.server is not None:
        yield Requirement("a server (--server)", lambda can: can.server)
    else:
        yield Requirement(
            "models without a server", lambda can: not can.server, "give the URL of the server with --server"
        )
    if spec.server_settings.extra_body:
        yield Requirement("further fields of a request (--extra-body)", lambda can: can.server)
    if spec.precision is not None and spec.precision.device.type != "cuda":
        device = spec.precision.device.type
        yield Requirement(f"device {device}", lambda can: can.local and not can.needs_gpu)


def open_model(spec: ModelSpec) -> InferenceModel:
    """Open a model with its backend.

    Raises:
        InputError: the backend does not meet a requirement of the specification, or the model cannot be opened.
    """
    return require_backend(spec.backend, requirements_of(spec)).open(spec)


BACKENDS |= plugins("backends", BACKENDS, Backend)
