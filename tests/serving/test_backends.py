"""What a path is served as, and with which backend."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli
from jmedllm.errors import InputError
from jmedllm.manifest import FORMAT
from jmedllm.serving import backends
from jmedllm.serving.backends import BACKENDS, find_model, vllm


def run_of(folder: Path, **outputs: Any) -> Path:
    """Write a run that has finished these stages."""
    for stage in outputs:
        (folder / stage / "model").mkdir(parents=True)
    stages = {stage: {"outputs": each} for stage, each in outputs.items()}
    folder.joinpath("manifest.json").write_text(
        json.dumps({"format": FORMAT, "enabled": ["mfpt", "mpeft", "merge", "report"], "stages": stages})
    )
    return folder


def test_a_run_is_served_as_its_last_model(tmp_path: Path) -> None:
    run = run_of(tmp_path / "ward", mfpt={"model": "1"}, mpeft={"adapter": "2"}, merge={"model": "3"}, report={})
    assert find_model(run) == (run / "merge/model", "ward")
    assert find_model(run / "merge/model") == (run / "merge/model", None)
    first = run_of(tmp_path / "first", mfpt={"model": "1"})
    assert find_model(first) == (first / "mfpt/model", "first")


def adapter(folder: Path) -> Path:
    folder.joinpath("adapter_config.json").write_text("{}")
    return folder


NO_MODELS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "adapter": (adapter, r"is an adapter; merge it first with: jmedllm merge --model BASE --adapter "),
    "run without a merge": (
        lambda folder: run_of(folder, mfpt={"model": "1"}, mpeft={"adapter": "2"}),
        "stage mpeft has trained an adapter that is not merged yet",
    ),
    "run without a model": (lambda folder: run_of(folder, report={}), "the run has written no model yet"),
    "nothing": (lambda folder: folder / "none", "no such file"),
}


@pytest.mark.parametrize("name", NO_MODELS)
def test_what_is_no_model_is_refused_with_the_way_to_one(name: str, tmp_path: Path) -> None:
    build, message = NO_MODELS[name]
    with pytest.raises(InputError, match=message):
        find_model(build(tmp_path))


@pytest.mark.parametrize(
    ("backend", "message"),
    [("llama_cpp", "does not serve it; give vllm or transformers"), ("vllm", "needs vllm; install it with: pip")],
)
def test_a_backend_that_does_not_run_a_model_is_refused(
    backend: str, message: str, tiny_model: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda _: None)
    given = ("--port", 0, "--backend", backend, "--key-file", tmp_path / "key")
    code, _, errors = cli("deploy", "serve", tiny_model, *given)
    assert code == 2 and message in errors


@pytest.mark.parametrize(
    ("installed", "gpu", "version", "suits"),
    [(False, True, "0.32.0", False), (True, True, "0.32.0", True), (True, False, "0.32.0", False),
     (True, False, "0.32.0+cpu", True)],
)  # fmt: skip
def test_vllm_is_preferred_where_it_runs(
    installed: bool, gpu: bool, version: str, suits: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (backends, vllm):
        monkeypatch.setattr(module, "find_spec", lambda _: installed or None)
    monkeypatch.setattr(vllm.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(vllm, "version", lambda _: version)
    assert BACKENDS["vllm"].suits(tiny_model) is suits
    assert BACKENDS["transformers"].suits(tiny_model) and not BACKENDS["llama_cpp"].runs(tiny_model)
