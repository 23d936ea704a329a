"""Plants canaries: writes a copy of training data in which some documents contain made-up identifiers."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field, field_validator

from jmedllm import __version__
from jmedllm.canary.forms import FORMS, Canary, draw, forms_of
from jmedllm.canary.secret_list import NAME as SECRETS
from jmedllm.canary.secret_list import SecretList, write_secrets
from jmedllm.canary.units import Material, Unit, find_material, inserted, insertion_points
from jmedllm.corpus.readers.inputs import CANARIES, Skipped, require_separate
from jmedllm.errors import InputError
from jmedllm.evaluation.question import LANGUAGES, Language
from jmedllm.files import PRIVATE_FOLDER, atomic_folder, open_private, to_json, write_atomic
from jmedllm.progress import progress
from jmedllm.settings import Settings

MARK = CANARIES
"""Report of planted data, without any secret. It is written last: data beside it contain canaries."""


class PlantConfig(Settings):
    """How many canaries are planted, and how often."""

    count: int = Field(24, ge=1, description="canaries; as many controls are drawn that are planted nowhere")
    copies: list[int] = Field([1, 4, 16], min_length=1, description="documents that contain a canary, in turn")
    seed: int = Field(0, ge=0, description="seed of the canaries and their places")

    @field_validator("copies")
    @classmethod
    def _distinct(cls, copies: list[int]) -> list[int]:
        if min(copies) < 1 or len(set(copies)) < len(copies):
            raise ValueError("give different numbers from 1")
        return copies

    def required(self) -> None:
        """Check that each number of copies has a canary.

        Raises:
            InputError: there are fewer canaries than numbers of copies.
        """
        if self.count < len(self.copies):
            raise InputError(
                f"{self.count} canaries cannot have {len(self.copies)} numbers of copies; raise count, or give fewer"
            )


@dataclass(frozen=True, slots=True)
class Planted:
    """What `plant` has done.

    Attributes:
        kind: where the canaries are, see `units.Kind`.
        units: number of documents or records.
        changed: number of them that contain a canary.
        skipped: number of files and lines that could not be read.
    """

    kind: str
    units: int
    changed: int
    copies: int
    skipped: int
    secrets: SecretList


def plant(config: PlantConfig, paths: Sequence[Path], output: Path, field: str = "text") -> Planted:
    """Write a copy of training data with canaries into `output`, which appears only when it is complete.

    It receives the data, the secret list, and last the report `canary.json`. Documents become one file of lines of
    JSON; records of stage 2 keep their files. A canary is in as many different documents as it has copies.

    Raises:
        InputError: the data cannot be read, are too few, or the output overlaps them or has other files.
    """
    config.required()
    require_separate(paths, output)
    _require_no_canaries(paths)
    material = find_material(list(paths), field)
    places, units, skipped = _survey(material)
    secrets, chosen = _assign(config, material.kind, places)
    with atomic_folder(output, MARK) as folder:
        folder.chmod(PRIVATE_FOLDER)
        secrets, changed = _write(material, chosen, secrets, folder, units)
        write_secrets(folder / SECRETS, secrets)
        copies = sum(each.copies for each in secrets.planted)
        report: dict[str, Any] = {
            "version": __version__,
            "kind": material.kind,
            "canaries": len(secrets.planted),
            "controls": len(secrets.controls),
            "copies": config.copies,
            "documents": units,
            "documents_with_canaries": changed,
            "documents_not_read": skipped,
        }
        write_atomic(folder / MARK, to_json(report, indent=2) + "\n")
    return Planted(material.kind, units, changed, copies, skipped, secrets)


def is_planted(path: Path) -> bool:
    """Return whether a path is data with canaries: a folder with the report, or a file in one."""
    return (path / MARK).is_file() or (path.is_file() and (path.parent / MARK).is_file())


def _require_no_canaries(paths: Sequence[Path]) -> None:
    for path in paths:
        if is_planted(path):
            raise InputError(f"{path}: already contains canaries; plant in the data that it was made from")


def _survey(material: Material) -> tuple[dict[Language, list[int]], int, int]:
    """Return the numbers of the units that may contain a canary by language, and how many were and were not read."""
    places: dict[Language, list[int]] = {name: [] for name in LANGUAGES}
    units = skipped = 0
    for unit in material.units():
        if isinstance(unit, Skipped):
            skipped += unit.files
            continue
        if unit.language:
            places[unit.language].append(units)
        units += 1
    return places, units, skipped


def _assign(
    config: PlantConfig, kind: str, places: dict[Language, list[int]]
) -> tuple[SecretList, dict[int, list[Canary]]]:
    """Draw canaries and controls, and the units of each canary.

    Raises:
        InputError: no language has as many documents as a canary has copies.
    """
    random, most = Random(f"canary {config.seed}"), max(config.copies)
    fitting = {name: list(numbers) for name, numbers in places.items() if len(numbers) >= most}
    if not fitting:
        have = " and ".join(f"{len(numbers):,} in {name}" for name, numbers in places.items())
        raise InputError(
            f"a canary with {most} copies needs {most} documents in one language, but there are {have}; "
            "give more documents or fewer copies"
        )
    for numbers in fitting.values():
        random.shuffle(numbers)
    languages, weights = list(fitting), [len(numbers) for numbers in fitting.values()]
    next_place, drawn = Counter[Language](), Counter[tuple[Language, int]]()
    chosen: dict[int, list[Canary]] = defaultdict(list)
    planted, controls = list[Canary](), list[Canary]()
    for number in range(config.count):
        copies = config.copies[number % len(config.copies)]
        (language,) = random.choices(languages, weights)
        forms = forms_of(language)
        form = forms[drawn[language, copies] % len(forms)]
        drawn[language, copies] += 1
        canary, control = _new(form, random, f"canary-{number + 1:03d}", copies, [*planted, *controls])
        planted.append(canary)
        controls.append(control)
        for _ in range(copies):
            order = fitting[language]
            chosen[order[next_place[language] % len(order)]].append(canary)
            next_place[language] += 1
    return SecretList(config.seed, kind, tuple(planted), tuple(controls)), chosen


def _new(form: str, random: Random, name: str, copies: int, others: Sequence[Canary]) -> tuple[Canary, Canary]:
    """Draw a canary and its control, with prompts and secrets that no other has."""
    taken = {text for each in others for text in (each.prompt, each.secret)}
    found: list[Canary] = []
    for identity, number in ((name, copies), (name.replace("canary", "control"), 0)):
        canary = draw(form, random, identity, number)
        while {canary.prompt, canary.secret} & taken:
            canary = draw(form, random, identity, number)
        taken |= {canary.prompt, canary.secret}
        found.append(canary)
    return found[0], found[1]


def _write(
    material: Material, chosen: dict[int, list[Canary]], secrets: SecretList, folder: Path, total: int
) -> tuple[SecretList, int]:
    """Write all units; return the secret list with the places of each canary, and the number of changed units."""
    where: dict[str, list[str]] = defaultdict(list)
    units = (unit for unit in material.units() if not isinstance(unit, Skipped))
    with progress("canary", total) as advance:
        for file, members in groupby(enumerate(units), key=lambda each: each[1].file):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / file, "wb", opener=open_private) as handle:
                for number, unit in members:
                    canaries = chosen.get(number, [])
                    handle.write(_with(unit, canaries, secrets.seed) if canaries else unit.unchanged())
                    for canary in canaries:
                        where[canary.id].append(unit.where)
                    advance(1, "documents copied")
    planted = tuple(replace(each, places=tuple(where[each.id])) for each in secrets.planted)
    return replace(secrets, planted=planted), len(chosen)


def _with(unit: Unit, canaries: Sequence[Canary], seed: int) -> bytes:
    text = unit.text
    for canary in canaries:
        random = Random(f"place {seed} {canary.id} {unit.where.rpartition('/')[2]}")
        point = random.choice(insertion_points(text))
        text = inserted(text, point, canary.sentence, FORMS[canary.form].language)
    return unit.line(text)


def planted_lines(secrets: SecretList, texts: Iterator[str]) -> dict[str, int]:
    """Count in how many of these texts the whole sentence of each canary is."""
    found = {each.id: 0 for each in secrets.planted}
    for text in texts:
        for each in secrets.planted:
            found[each.id] += each.sentence in text
    return found
