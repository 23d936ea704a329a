"""Serving a GGUF file imports nothing but the packages that a bundle has."""

import subprocess
import sys
from importlib.metadata import distribution, packages_distributions

import pytest
from packaging.utils import canonicalize_name

from jmedllm import cli
from jmedllm.bundle.served_model import LLAMA_CPP
from jmedllm.bundle.target import parse_target, this_python, usual_platform
from jmedllm.bundle.wheels import closure

HERE = parse_target(this_python(), usual_platform())

PROGRAM = """
import sys
from importlib.abc import MetaPathFinder

class OnlyBundled(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"{name} is not in the bundle", name=name)

allowed = {*sys.stdlib_module_names, *sys.argv[1:]}
sys.meta_path.insert(0, OnlyBundled())

import pkgutil
import importlib
import jmedllm.cli
import jmedllm.serving

for module in pkgutil.walk_packages(jmedllm.serving.__path__, "jmedllm.serving."):
    if not module.name.startswith("jmedllm.serving.backends."):
        importlib.import_module(module.name)
import jmedllm.serving.backends.llama_cpp
"""


def test_a_server_imports_only_what_a_bundle_has() -> None:
    packages = set(closure(LLAMA_CPP, lambda name: distribution(name).requires or (), HERE))
    assert not packages & {"torch", "transformers", "tokenizers", "numpy"}
    modules = {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & packages
    }
    command = [sys.executable, "-c", PROGRAM, "jmedllm", *sorted(modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_command_of_a_bundle_names_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(**settings: object) -> None:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(cli, "app", command)
    monkeypatch.setattr(cli, "find_spec", lambda name: None)  # PyTorch is not there
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().err
    assert "this command needs numpy, which an installation that only serves a model" in said
