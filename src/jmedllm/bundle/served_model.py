"""The model of a bundle: its files, what they need to be served, and what is known about it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from jmedllm.bundle.component import Component
from jmedllm.bundle.model_card import card_of, licence_in, licence_texts
from jmedllm.bundle.training_data import training_data
from jmedllm.errors import InputError
from jmedllm.manifest import Manifest, last_model, read_manifest
from jmedllm.models.folder import require_model, resolve
from jmedllm.progress import notice

COMMAND_LINE = ("typer", "pydantic", "pyyaml", "jinja2", "safetensors")
"""Packages that the command line imports before it knows its command, and that renders chats."""

SERVER = ("starlette", "uvicorn", "httpx2")
"""Packages of the server."""

LLAMA_CPP = (*COMMAND_LINE, *SERVER, "xllamacpp")
"""All packages that serving a GGUF file imports, without their own requirements."""

INSTALLER = ("pip",)
"""Some Linux distributions have Python without pip."""

_PLACE = "model"
_DEPLOYED = "deploy"
"""Folder of a run with its GGUF files."""

_PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.md")
_MODEL_CARD, _PROOF = "jmedllm.model_card", "jmedllm.proof"


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A model for a bundle.

    Attributes:
        name: name of the model.
        served: its path in the bundle.
        files: its files by their path in the bundle.
        requirements: packages that serve it.
        native: the package among them that needs libraries of the system.
        licence: its licence; None if unknown.
        texts: texts of its licence by file name.
        card: its model card; may be empty.
        proof: the proof in the file; None if there is none.
        data: the base and the data from which a run made it.
    """

    name: str
    served: str
    files: Mapping[str, Path]
    requirements: tuple[str, ...]
    native: str
    licence: str | None
    texts: Mapping[str, bytes]
    card: str
    proof: str | None
    data: tuple[Component, ...]

    @property
    def gguf_files(self) -> list[Path]:
        """Its GGUF files, which llama.cpp reads in native code."""
        return [file for file in self.files.values() if file.suffix == ".gguf"]

    def component(self, digests: Mapping[str, str]) -> Component:
        """Return the model as a part of a bundle.

        Args:
            digests: SHA-256 of each file by its path in the bundle.
        """
        one = digests.get(self.served)
        listed = "".join(f"{digests[name]}  {name}\n" for name in sorted(self.files))
        parts = tuple(
            Component("file", name, None, self.licence, digests[name], file=name) for name in sorted(self.files)
        )
        return Component(
            "machine-learning-model",
            self.name,
            licence=self.licence,
            sha256=one or sha256(listed.encode()).hexdigest(),
            file=self.served,
            about=None if one else "the checksum is that of the list of its files' checksums",
            texts=self.texts,
            parts=parts,
        )


def find_model(given: str) -> BundledModel:
    """Find the model that is meant: a GGUF file, the GGUF file or last model of a run, or a model directory.

    Raises:
        InputError: there is no complete model, or a run has several GGUF files.
    """
    path = Path(given)
    if path.suffix == ".gguf":
        return _gguf(path)
    manifest = read_manifest(path)
    if manifest is None:
        folder = resolve(given)
        return model_directory(folder, folder.resolve().name, ())
    exported = sorted((path / _DEPLOYED).glob("*.gguf"))
    if len(exported) > 1:
        names = ", ".join(map(str, exported))
        raise InputError(f"{path}: the run has several GGUF files; give one of them instead: {names}")
    if exported:
        return _gguf(exported[0])
    return model_directory(last_model(path), path.resolve().name, training_data(path, manifest))


def _gguf(file: Path) -> BundledModel:
    from jmedllm.models.conversion.gguf import read_gguf, require_gguf

    require_gguf()
    metadata = read_gguf(file).metadata
    card = str(metadata.get(_MODEL_CARD) or "")
    run, manifest = _run_of(file)
    name = plain_name(file.stem)
    served = f"{_PLACE}/{name}.gguf"
    endings = [".proof.json", *([".Modelfile"] if name == file.stem else [])]  # a Modelfile has the file's name
    beside = {f"{_PLACE}/{name}{ending}": file.with_suffix(ending) for ending in endings}
    proof = metadata.get(_PROOF)
    return BundledModel(
        name=name,
        served=served,
        files={served: file} | {place: each for place, each in beside.items() if each.is_file()},
        requirements=(*LLAMA_CPP, *INSTALLER),
        native="xllamacpp",
        licence=licence_in(card) or metadata.get("general.license"),
        texts={},
        card=card,
        proof=None if proof is None else str(proof),
        data=() if manifest is None else training_data(run, manifest),
    )


def _run_of(file: Path) -> tuple[Path, Manifest | None]:
    """Return the run directory that a file is in, and its manifest; None if it is in none."""
    for folder in file.resolve().parents:
        try:
            manifest = read_manifest(folder)
        except InputError as error:  # of another version, or of another program
            notice(f"bundle: data and base are not listed: {error}")
            break
        if manifest:
            return folder, manifest
    return file.parent, None


def model_directory(folder: Path, name: str, data: tuple[Component, ...]) -> BundledModel:
    """Return a model in Hugging Face's format: its weights in safetensors, settings, tokenizer, card and licences.

    Raises:
        InputError: the directory is no complete model.
    """
    require_model(folder)
    card, texts, name = card_of(folder), licence_texts(folder), plain_name(name)
    files = sorted({*(file for pattern in _PATTERNS for file in folder.glob(pattern)), *map(folder.joinpath, texts)})
    served = f"{_PLACE}/{name}"
    requires = [Requirement(text) for text in distribution("jmedllm").requires or ()]
    packages = [str(each) for each in requires if each.marker is None]  # the others are of extras
    return BundledModel(
        name=name,
        served=served,
        files={f"{served}/{file.name}": file for file in files},
        requirements=(*packages, *SERVER, *INSTALLER),
        native="torch",
        licence=licence_in(card),
        texts=texts,
        card=card,
        proof=None,
        data=data,
    )


def plain_name(name: str) -> str:
    """Return a name that needs no quotes in a shell, in a unit of systemd or in a list of checksums."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
