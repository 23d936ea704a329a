"""Serving a GGUF file imports nothing but the packages that a bundle has."""

import subprocess
import sys
from importlib.metadata import distribution, packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jmedllm.bundle.served_model import LLAMA_CPP
from jmedllm.bundle.target import Target, this_python

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
    importlib.import_module(module.name)
    print(module.name)
"""


def bundled() -> set[str]:
    """Names of the packages for GGUF files, with those that they need."""
    markers = Target(this_python(), (2, 28), "x86_64").markers
    found, names = set[str](), list(LLAMA_CPP)
    while names:
        name = canonicalize_name(names.pop())
        if name not in found:
            found.add(name)
            needs = [Requirement(text) for text in distribution(name).requires or ()]
            names += [need.name for need in needs if need.marker is None or need.marker.evaluate(markers)]
    return found


def test_a_server_imports_only_what_a_bundle_has() -> None:
    packages = bundled()
    assert not packages & {"torch", "transformers", "tokenizers", "numpy"}
    modules = {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & packages
    }
    command = [sys.executable, "-c", PROGRAM, "jmedllm", *sorted(modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
