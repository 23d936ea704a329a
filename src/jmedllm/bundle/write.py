"""Write a bundle: a model with everything that a machine without a network needs to serve it."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jmedllm import __version__
from jmedllm.bundle import install
from jmedllm.bundle.component import Component
from jmedllm.bundle.licences import flat, licence_files, licence_table
from jmedllm.bundle.own_wheel import write_own_wheel
from jmedllm.bundle.sbom import sbom
from jmedllm.bundle.served_model import INSTALLER, BundledModel
from jmedllm.bundle.target import Target
from jmedllm.bundle.wheels import Wheel, download_wheels, read_wheel
from jmedllm.files import atomic_folder, hash_file, to_json
from jmedllm.progress import notice

FORMAT = 1
"""Version of the layout of a bundle."""
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A written bundle.

    Attributes:
        files: number of its files.
        size: their size in bytes.
        sha256: SHA-256 of its SHA256SUMS, which stands for the whole bundle.
        components: its parts, and the data of its model.
    """

    files: int
    size: int
    sha256: str
    components: tuple[Component, ...]

    @property
    def without_licence(self) -> list[str]:
        """Names of the parts whose licence is unknown."""
        return [each.name for each in flat(self.components) if each.licence is None]


def write_bundle(model: BundledModel, output: Path, target: Target, local: Path | None = None) -> Bundle:
    """Write a bundle. The same model and versions give the same bytes; no date is stored.

    Args:
        model: the model.
        output: the folder, replaced when it is complete.
        target: the machine that will run it.
        local: folder with wheels to use instead of a package index.

    Raises:
        InputError: a wheel is missing, or the folder cannot be written.
    """
    with atomic_folder(output, install.FACTS) as folder:
        wheels = _wheels(model, folder / "wheels", target, local)
        for name, file in model.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
        digests = {name: hash_file(folder / name) for name in model.files}
        components = (model.component(digests), *(wheel.component() for wheel in wheels), *model.data)
        for name, content in _texts(model, wheels, components, target).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        sealed = seal(folder, digests)
        _open_to_all(folder)
        return Bundle(*sealed, components)


def _wheels(model: BundledModel, folder: Path, target: Target, local: Path | None) -> list[Wheel]:
    folder.mkdir()
    notice(f"bundle: getting wheels for Python {target.python} on {target.platforms[0]}")
    download_wheels(model.requirements, target, folder, local)
    write_own_wheel(folder)
    return [read_wheel(file) for file in sorted(folder.glob("*.whl"))]


def _texts(
    model: BundledModel, wheels: Sequence[Wheel], components: Sequence[Component], target: Target
) -> dict[str, bytes]:
    """Return the files of a bundle that are neither model nor wheels, by path."""
    values = {
        "name": model.name,
        "served": model.served,
        "gguf": model.served.endswith(".gguf"),
        "proved": model.proof is not None,
        "python": target.python,
        "machine": target.machine,
        "glibc": ".".join(map(str, target.glibc)),
    }
    texts = {
        "README.md": rendered("README.md.j2", values),
        "run.sh": rendered("run.sh.j2", values | {"script": "run.sh"}),
        "jmedllm.service": rendered("jmedllm.service.j2", values),
        "install.py": Path(install.__file__).read_text(encoding="utf-8"),
        "requirements.txt": "".join(wheel.pin for wheel in wheels if wheel.name not in INSTALLER),
        "card.md": _card(model),
        "LICENCES.md": f"# Licences\n\n{licence_table(components)}",
        "sbom.cdx.json": to_json(sbom(model.name, components), indent=2) + "\n",
        install.FACTS: to_json(_facts(model, wheels, target), indent=2) + "\n",
    }
    return {name: text.encode() for name, text in texts.items()} | licence_files(components)


def _card(model: BundledModel) -> str:
    card = model.card or f"# {model.name}\n\nThe model came without a card.\n"
    if model.proof is None:
        return f"{card}\n## Proof of the served file\n\nNone: this model was not proved.\n"
    proof = to_json(json.loads(model.proof), indent=2)
    return f"{card}\n## Proof of the served file\n\n```json\n{proof}\n```\n"


def _facts(model: BundledModel, wheels: Sequence[Wheel], target: Target) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": model.name,
        "model": model.served,
        "command": ["jmedllm", "deploy", "serve", f"{{bundle}}/{model.served}", "--trust"],
        "native": model.native,
        "python": target.python,
        "machine": target.machine,
        "glibc": list(target.glibc),
        "jmedllm": __version__,
        "packages": {wheel.name: wheel.version for wheel in wheels},
    }


def rendered(name: str, values: Mapping[str, Any]) -> str:
    """Render a template of a bundle's file."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    return environment.get_template(name).render(values)


def _open_to_all(folder: Path) -> None:
    """Let every user read a bundle: another machine serves it as a user of its own."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.name == "run.sh" else 0o644)


def seal(folder: Path, digests: Mapping[str, str]) -> tuple[int, int, str]:
    """Write the checksums; return the number of files, their size, and the checksum of the checksums."""
    names = sorted(install.files(folder))
    lines = [f"{digests.get(name) or hash_file(folder / name)}  {name}\n" for name in names]
    (folder / install.SUMS).write_text("".join(lines), encoding="utf-8")
    size = sum((folder / name).stat().st_size for name in names)
    return len(names) + 1, size, hash_file(folder / install.SUMS)
