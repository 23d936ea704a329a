"""Write a training bundle: all that a machine without a network needs to train and evaluate."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from jmedllm import __version__
from jmedllm.bundle import constraints, install
from jmedllm.bundle.component import Component
from jmedllm.bundle.constraints import Pin
from jmedllm.bundle.contents import Contents
from jmedllm.bundle.licences import licence_files, licence_table
from jmedllm.bundle.locked_wheels import download_locked
from jmedllm.bundle.own_wheel import write_own_wheel
from jmedllm.bundle.sbom import sbom
from jmedllm.bundle.served_model import INSTALLER
from jmedllm.bundle.target import Target
from jmedllm.bundle.wheels import Wheel, read_wheel
from jmedllm.bundle.write import FORMAT, Bundle, rendered, seal
from jmedllm.errors import InputError
from jmedllm.files import atomic_folder, hash_file, to_json
from jmedllm.locks import locked

_SPARE = 50_000_000
"""Bytes that a bundle needs besides models, data and wheels: jmedllm's own wheel, licences, SBOM."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes in bytes, known before anything is downloaded.

    Attributes:
        contents: recipes, models and data.
        wheels: the largest that the wheels can be together.
    """

    contents: int
    wheels: int


def extra_requirements(extras: Sequence[str]) -> list[str]:
    """Return what jmedllm and these extras require, and pip.

    Raises:
        InputError: there is no such extra.
    """
    installed = distribution("jmedllm")
    known = installed.metadata.get_all("Provides-Extra") or []
    if unknown := [name for name in extras if name not in known]:
        raise InputError(f"--extras {unknown[0]}: no such extra; one of {', '.join(known)}")
    needed = [Requirement(text) for text in installed.requires or ()]
    environments = [{"extra": name} for name in ("", *extras)]
    chosen = [need for need in needed if need.marker is None or any(map(need.marker.evaluate, environments))]
    return [f"{need.name}{need.specifier}" for need in chosen] + list(INSTALLER)


def sizes_of(contents: Contents, names: Iterable[str], pins: Mapping[str, Pin], target: Target) -> Sizes:
    """Return how large a bundle with these packages will be."""
    return Sizes(contents.size, sum(pins[name].sizes[target.machine] for name in names))


def require_room(sizes: Sizes, output: Path) -> None:
    """Check that the disk has room for a bundle.

    Raises:
        InputError: it has not.
    """
    parent = next(folder for folder in output.resolve().parents if folder.exists())
    free, needed = shutil.disk_usage(parent).free, sizes.contents + sizes.wheels + _SPARE
    if needed > free:
        raise InputError(
            f"{output}: the bundle needs up to {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; free space or "
            "choose another --output"
        )


def write_training_bundle(
    contents: Contents, lines: Mapping[str, str], output: Path, target: Target, local: Path | None, lock: Path
) -> Bundle:
    """Write a training bundle. The same contents and versions give the same bytes; no date is stored.

    Wheels that are complete stay beside the output until the bundle is, so that an interrupted download resumes.

    Args:
        contents: recipes, models and data.
        lines: packages as `resolve_wheels` returns them.
        output: the folder, replaced when it is complete.
        target: the machine that will run it.
        local: folder with wheels to use instead of a package index.
        lock: the file with versions and hashes; the bundle gets a copy.

    Raises:
        InputError: a wheel is missing, or the folder cannot be written.
    """
    downloads = output.resolve().with_name(f".{output.resolve().name}.wheels")
    with locked(downloads), atomic_folder(output, install.FACTS) as folder:
        download_locked(lines, target, downloads, local)
        (folder / "wheels").mkdir()
        for file in _chosen(downloads, lines):
            shutil.copyfile(file, folder / "wheels" / file.name)
        write_own_wheel(folder / "wheels")
        wheels = [read_wheel(file) for file in sorted((folder / "wheels").glob("*.whl"))]
        for name, file in {**contents.files, constraints.NAME: lock}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
        digests = {name: hash_file(folder / name) for name in contents.files}
        components = _components(contents, wheels, digests)
        for name, content in _texts(output.resolve().name, contents, wheels, components, target).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        sealed = seal(folder, digests)
        _close_to_others(folder)
    shutil.rmtree(downloads, ignore_errors=True)
    return Bundle(*sealed, components)


def _chosen(downloads: Path, lines: Mapping[str, str]) -> list[Path]:
    """Return the wheels of these lines: those of an interrupted bundle for another machine may be beside them."""
    found = [file for file in sorted(downloads.glob("*.whl")) if hash_file(file) in "".join(lines.values())]
    names = [read_wheel(file).name for file in found]
    if sorted(names) != sorted(lines):
        raise InputError(f"{downloads}: has wheels of another bundle; remove it and run the command again")
    return found


def _components(contents: Contents, wheels: Sequence[Wheel], digests: Mapping[str, str]) -> tuple[Component, ...]:
    models = (model.component({name: digests[name] for name in model.files}) for model in contents.models)
    return (*models, *contents.components, *(wheel.component() for wheel in wheels))


def _texts(
    name: str, contents: Contents, wheels: Sequence[Wheel], components: Sequence[Component], target: Target
) -> dict[str, bytes]:
    """Return the files of a bundle that are neither contents nor wheels, by path."""
    values = {
        "name": name,
        "script": "install.sh",
        "models": [model.served for model in contents.models],
        "recipes": [each for each in contents.files if each.startswith("recipes/")],
        "has_data": bool(contents.texts),
        "left_out": contents.left_out,
        "python": target.python,
        "machine": target.machine,
        "glibc": ".".join(map(str, target.glibc)),
    }
    texts = {
        "README.md": rendered("training.md.j2", values),
        "install.sh": rendered("run.sh.j2", values),
        "install.py": Path(install.__file__).read_text(encoding="utf-8"),
        "requirements.txt": "".join(wheel.pin for wheel in wheels if wheel.name not in INSTALLER),
        "LICENCES.md": f"# Licences\n\n{licence_table(components)}",
        "sbom.cdx.json": to_json(sbom(name, components), indent=2) + "\n",
        install.FACTS: to_json(_facts(name, wheels, target), indent=2) + "\n",
    }
    return {name: text.encode() for name, text in texts.items()} | licence_files(components)


def _facts(name: str, wheels: Sequence[Wheel], target: Target) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": name,
        "command": [],
        "native": "torch",
        "python": target.python,
        "machine": target.machine,
        "glibc": list(target.glibc),
        "jmedllm": __version__,
        "packages": {wheel.name: wheel.version for wheel in wheels},
    }


def _close_to_others(folder: Path) -> None:
    """Let only the owner read the bundle: its data may have text of patients."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() or path.name == "install.sh" else 0o600)
