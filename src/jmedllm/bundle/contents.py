"""What a training bundle carries besides packages: recipes, models and data, as files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from os import walk
from pathlib import Path

from jmedllm.bundle.component import Component
from jmedllm.bundle.model_card import licence_texts
from jmedllm.bundle.served_model import BundledModel, model_directory
from jmedllm.bundle.training_data import documents
from jmedllm.data.catalogue import SOURCES
from jmedllm.errors import InputError
from jmedllm.files import hash_file
from jmedllm.models.folder import resolve

_MODELS, _DATA, _RECIPES = "models", "data", "recipes"


@dataclass(frozen=True, slots=True)
class Contents:
    """Files of a training bundle.

    Attributes:
        files: file to copy by its path in the bundle.
        models: the models among them.
        components: the data and recipes among them.
        left_out: what is not included, and why; one line each.
    """

    files: Mapping[str, Path]
    models: tuple[BundledModel, ...]
    components: tuple[Component, ...]
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files.values())

    @property
    def texts(self) -> list[str]:
        """Paths of the files that may have text of patients."""
        return [name for name in self.files if name.startswith(f"{_DATA}/")]


def gather(recipes: Sequence[Path], models: Sequence[str], data: Sequence[Path]) -> Contents:
    """Find the files of a training bundle. Links to files are followed, so that the bundle has none.

    Args:
        recipes: recipe files.
        models: model directories, or ids of models in the local Hugging Face cache.
        data: files, and data directories whose contents are merged.

    Raises:
        InputError: a file is missing, two have the same place, or a model is not complete.
    """
    files, left_out = dict[str, Path](), list[str]()
    chosen = tuple(_model(given) for given in models)
    for model in chosen:
        for name, file in model.files.items():
            _place(files, name, file)
        left_out += _other_files(model)
    components = list[Component]()
    for recipe in recipes:
        name = f"{_RECIPES}/{recipe.name}"
        _place(files, name, recipe)
        components.append(Component("file", recipe.name, sha256=hash_file(recipe), file=name, about="recipe"))
    for given in data:
        found, skipped = _data_files(given)
        for name, file in found.items():
            _place(files, f"{_DATA}/{name}", file)
        components.append(_data(given, found))
        left_out += skipped
    return Contents(files, chosen, tuple(components), tuple(left_out))


def _model(given: str) -> BundledModel:
    folder = resolve(given)
    model = model_directory(folder, Path(given).resolve().name if Path(given).exists() else given, ())
    files = {_below_models(name): file for name, file in model.files.items()}
    return replace(model, served=_below_models(model.served), files=files)


def _below_models(name: str) -> str:
    return f"{_MODELS}/{name.partition('/')[2]}"


def _other_files(model: BundledModel) -> Iterator[str]:
    """Yield the files of a model directory that a bundle does not carry."""
    carried = {file.name for file in model.files.values()}
    folder = next(iter(model.files.values())).parent
    for file in sorted(folder.iterdir()):
        if file.name not in carried and not file.name.startswith("."):
            yield f"{file}: models are carried as safetensors, settings, tokenizer, card and licences only"


def _place(files: dict[str, Path], name: str, file: Path) -> None:
    if name in files:
        raise InputError(f"bundle: {files[name]} and {file} would both be {name}; rename one")
    if "\n" in name or "\\" in name:
        raise InputError(f"bundle: {file!s}: a list of checksums cannot have this name; rename it")
    files[name] = file


def _data_files(given: Path) -> tuple[dict[str, Path], list[str]]:
    """Return files by their path below the data directory, and what is left out."""
    if given.is_file():
        return {given.name: given}, []
    if not given.is_dir():
        raise InputError(f"--data {given}: no such file or directory")
    found, left_out = dict[str, Path](), list[str]()
    for parent, folders, names in walk(given):
        for name in sorted((*names, *(each for each in folders if (Path(parent) / each).is_symlink()))):
            file = Path(parent) / name
            if name.startswith("."):
                left_out.append(f"{file}: hidden")
            elif file.is_file():
                found[file.relative_to(given).as_posix()] = file
            else:
                left_out.append(f"{file}: a link to a folder, a broken link or a device; name it with --data")
        left_out += [f"{Path(parent) / name}: hidden" for name in folders if name.startswith(".")]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    if not found:
        raise InputError(f"--data {given}: has no files")
    return dict(sorted(found.items())), left_out


def _data(given: Path, found: Mapping[str, Path]) -> Component:
    """Return a data directory or file as a component, with a licence for each file where one is known."""
    known = {file.sha256: source.licence for source in SOURCES.values() for file in source.files if file.sha256}
    parts = tuple(_data_file(name, file, known) for name, file in found.items())
    digest = sha256("".join(f"{part.sha256}  {part.name}\n" for part in parts).encode()).hexdigest()
    licences = sorted({part.licence or "" for part in parts})
    return Component(
        "data",
        given.resolve().name,
        licence="; ".join(licences) if all(licences) else None,
        sha256=digest,
        about=f"{len(parts)} files; the checksum is that of the list of their checksums",
        texts=licence_texts(given) if given.is_dir() else {},
        parts=parts,
    )


def _data_file(name: str, file: Path, known: Mapping[str, str]) -> Component:
    digest = hash_file(file)
    licence = known.get(digest)
    if licence is None and file.suffix == ".jsonl":
        try:
            licence = documents(file).licence
        except InputError:  # lines that are not JSON objects state no licence
            licence = None
    stated = None if licence and "not stated" in licence else licence
    return Component("file", name, None, stated, digest, f"{_DATA}/{name}")
