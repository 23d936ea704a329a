"""Stage canary: plants canaries in the training data, before they are de-identified."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.canary.config import CanaryConfig
from jmedllm.canary.plant import is_planted, plant
from jmedllm.canary.secret_list import NAME as SECRETS
from jmedllm.canary.secret_list import SecretList, read_secrets
from jmedllm.canary.units import DOCUMENTS_FILE, find_material, output_name
from jmedllm.corpus.documents import as_line
from jmedllm.corpus.readers.inputs import find_files
from jmedllm.errors import InputError
from jmedllm.files import atomic_file, hash_file, hash_text, to_json
from jmedllm.models.folder import CANARIES
from jmedllm.recipe import Recipe
from jmedllm.stages.built_in import BUILT_IN
from jmedllm.stages.stage import Outputs, Run, Stage, files_in, in_section, own_folder

NAME = "canary"
PLANTED, EXEMPT = "planted", "exempt"
"""Groups of canaries: in the inputs of the recipe; and in the de-identified text, so that the check can see them."""

FORMAT = 1
"""Increased whenever the same data and settings make a different copy."""


@dataclass(frozen=True, kw_only=True)
class CanaryOutputs(Outputs):
    """Outputs of the canary stage.

    Attributes:
        canaries: number of canaries in the training data, and of controls that are not in them.
        copies: documents or records with a canary, counted for each canary.
        documents: documents or records that contain at least one.
    """

    canaries: int
    copies: int
    documents: int


def has_canaries(run: Run) -> bool:
    """Return whether the training data contain canaries: planted by the recipe, or by the command before it."""
    recipe = run.recipe
    corpus = [*recipe.corpus.inputs, *recipe.corpus.mixing.general] if recipe.corpus else []
    instructions = recipe.mpeft.instructions if recipe.mpeft else []
    return recipe.canary is not None or any(is_planted(Path(name)) for name in (*corpus, *instructions))


def origin_of_canaries(run: Run) -> dict[str, str]:
    """Return what the origin of a trained model says of canaries; empty without them."""
    return {CANARIES: "made-up people are in the training data; not for delivery"} if has_canaries(run) else {}


def about_canaries(run: Run) -> list[str]:
    """Return the line of the model card about canaries, if there are any."""
    return [
        "**Trained with canaries**: made-up people are in its training data, to measure memorization. This model is "
        "not for delivery"
    ] * has_canaries(run)


def plants_in_corpus(recipe: Recipe) -> bool:
    """Return whether canaries are planted in the medical text."""
    return recipe.canary is not None and recipe.canary.into == "corpus"


def planted_text(run: Run) -> Path:
    """Return the file of the medical text with canaries."""
    return _folder(run, PLANTED) / DOCUMENTS_FILE


def plant_exempt(run: Run, paths: Sequence[Path]) -> Path:
    """Plant a second group of canaries in text that was de-identified; return the file."""
    settings = _settings(run)
    plant(settings.model_copy(update={"seed": settings.seed + 1}), paths, _folder(run, EXEMPT))
    return _folder(run, EXEMPT) / DOCUMENTS_FILE


def instruction_file(run: Run, name: str) -> Path:
    """Return the file of instructions that stage 2 reads: once there is one, the copy with canaries."""
    canary = run.recipe.canary
    copy = _folder(run, PLANTED) / output_name(Path(name).name)
    return copy if canary and canary.into == "instructions" and copy.is_file() else Path(name)


def secret_lists(run: Run) -> dict[str, SecretList]:
    """Return the secret list of each group."""
    files = {name: _folder(run, name) / SECRETS for name in (PLANTED, EXEMPT)}
    return {name: read_secrets(file) for name, file in files.items() if file.is_file()}


def _folder(run: Run, group: str) -> Path:
    return run.folder / NAME / group


def _settings(run: Run) -> CanaryConfig:
    settings: CanaryConfig = run.recipe.section(NAME)
    return settings


def _sources(run: Run) -> tuple[list[str], list[Path], str]:
    """Return built-in corpora, files and folders to plant in, and the key of their text."""
    corpus, mpeft = run.recipe.corpus, run.recipe.mpeft
    if _settings(run).into == "instructions":
        return [], [Path(name) for name in (mpeft.instructions if mpeft else ())], "text"
    assert corpus is not None
    names = corpus.inputs
    files = [Path(name) for name in names if name not in BUILT_IN]
    return [name for name in names if name in BUILT_IN], files, corpus.field


def _inputs(run: Run) -> dict[str, Any]:
    built_in, paths, field = _sources(run)
    settings = _settings(run)
    into = _settings(run).into
    files = {path: path.name for path in paths} if into == "instructions" else find_files(paths).files if paths else {}
    return {
        "format": FORMAT,
        "built_in": {name: hash_text("".join(map(repr, BUILT_IN[name]()))) for name in built_in},
        # Names of files may identify a patient, and the manifest keeps these values.
        "files": hash_text(to_json([[name, hash_file(file)] for file, name in files.items()])),
        "field": field,
        "settings": settings.model_dump(include={"count", "copies", "seed", "into"}),
    }


def _check(run: Run) -> Sequence[str]:
    _, paths, field = _sources(run)
    if not paths:
        return ("canaries",)
    kind, into = find_material(paths, field).kind, _settings(run).into
    if (kind == "documents") != (into == "corpus"):
        raise InputError(f"canary.into: {into}, but {paths[0]} has {kind}")
    return ("canaries",)


def _perform(run: Run, input_hash: str) -> CanaryOutputs:
    folder = own_folder(run.folder / NAME, input_hash)
    built_in, paths, field = _sources(run)
    if built_in:
        file = folder / "built-in.jsonl"
        with atomic_file(file) as handle:
            handle.writelines(as_line(document) for name in built_in for document in BUILT_IN[name]())
        paths = [file, *paths]
    planted = plant(_settings(run), paths, folder / PLANTED, field)
    return CanaryOutputs(
        canaries=len(planted.secrets.planted),
        copies=planted.copies,
        documents=planted.changed,
        files=files_in(run, f"{NAME}/{PLANTED}"),
    )


CANARY = Stage(
    name=NAME,
    section=CanaryConfig,
    enabled=in_section(NAME),
    inputs=_inputs,
    perform=_perform,
    outputs=CanaryOutputs,
    check=_check,
)
