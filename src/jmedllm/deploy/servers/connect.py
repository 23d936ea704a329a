"""Find out what a server is."""

from collections.abc import Callable, Mapping

from jmedllm.deploy.endpoint import Endpoint
from jmedllm.deploy.servers.base import Interface
from jmedllm.deploy.servers.completions import Completions
from jmedllm.deploy.servers.ollama import Ollama
from jmedllm.deploy.servers.vllm import Vllm
from jmedllm.errors import InputError

LLAMA_CPP = "llamacpp"
"""Owner of the models of llama.cpp's server, which shows the whole vocabulary, see `gguf.parity`."""


def _version(endpoint: Endpoint, path: str) -> str:
    try:
        return str(endpoint.get(path)["version"])
    except (InputError, LookupError, TypeError):
        return "of unknown version"


def _vllm(endpoint: Endpoint, model: str) -> Interface:
    return Vllm(endpoint, model, f"vLLM {_version(endpoint, '/version')}")


def _ollama(endpoint: Endpoint, model: str) -> Interface:
    return Ollama(endpoint, model, f"Ollama {_version(endpoint, '/api/version')}")


INTERFACES: Mapping[str, Callable[[Endpoint, str], Interface]] = {"vllm": _vllm, "library": _ollama}
"""How servers are asked, by the `owned_by` of their models."""


def served_models(endpoint: Endpoint) -> dict[str, str]:
    """Return the owner of each model of a server.

    Raises:
        InputError: the server lists no models.
    """
    listed = endpoint.get("/v1/models")
    models = listed.get("data") if isinstance(listed, dict) else None
    if not models:
        raise InputError(f"server {endpoint.url}: /v1/models lists no model; check the URL")
    return {str(each["id"]): str(each.get("owned_by")) for each in models}


def chosen_model(endpoint: Endpoint, models: Mapping[str, str], name: str | None) -> str:
    """Return the model to prove: the named one, or the only one.

    Raises:
        InputError: there is no such model, or there are several.
    """
    if name is None and len(models) == 1:
        return next(iter(models))
    if name is None or name not in models:
        problem = f"no model {name}" if name else f"{len(models)} models"
        raise InputError(f"server {endpoint.url}: {problem}; give one with --model: {', '.join(sorted(models)[:20])}")
    return name


def interface(endpoint: Endpoint, model: str, owner: str) -> Interface:
    """Return the interface of a served model, by its owner."""
    found = INTERFACES.get(owner)
    return found(endpoint, model) if found else Completions(endpoint, model, "an OpenAI-compatible server")
