"""The secret list: all canaries and their controls, in a file for its owner alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import log2
from pathlib import Path
from typing import Any

from jmedllm.canary.forms import FORMS, Canary
from jmedllm.errors import InputError, unknown
from jmedllm.files import read_json, to_json, write_atomic

NAME = "secrets.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class SecretList:
    """Canaries and controls.

    Attributes:
        seed: seed of the canaries, and of the candidates that secrets are ranked among.
        kind: where they were planted, see `units.Kind`.
        planted: the canaries in the data.
        controls: as many canaries of the same forms that are nowhere.
    """

    seed: int
    kind: str
    planted: tuple[Canary, ...]
    controls: tuple[Canary, ...]


def write_secrets(path: Path, secrets: SecretList) -> None:
    """Write a secret list with the number of possible secrets of each form, for its owner alone."""
    forms = {each.form: FORMS[each.form] for each in secrets.planted}
    spaces = {name: {"secrets": form.size, "bits": round(log2(form.size), 2)} for name, form in forms.items()}
    write_atomic(path, to_json({"format": FORMAT, "forms": spaces, **asdict(secrets)}, indent=2) + "\n")


def read_secrets(path: Path) -> SecretList:
    """Read a secret list.

    Raises:
        InputError: the file is missing or is no secret list of this version.
    """
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"{path}: not a secret list of this version; write one with: jmedllm canary plant")
    try:
        planted, controls = (tuple(map(_canary, values[name])) for name in ("planted", "controls"))
        secrets = SecretList(int(values["seed"]), str(values["kind"]), planted, controls)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: broken secret list: {error}; write it again with: jmedllm canary plant") from None
    _require_usable(path, [*planted, *controls])
    if not planted or not controls:
        raise InputError(f"{path}: has no canaries or no controls; write it again with: jmedllm canary plant")
    return secrets


def _canary(row: dict[str, Any]) -> Canary:
    names = {each.name for each in fields(Canary)}
    if unexpected := [name for name in row if name not in names]:
        raise ValueError(f"unknown key {unexpected[0]}")
    return Canary(**row | {"places": tuple(row.get("places", ()))})


def _require_usable(path: Path, canaries: Sequence[Canary]) -> None:
    for each in canaries:
        if each.form not in FORMS:
            raise InputError(f"{path}: {unknown('form of a canary', each.form, FORMS)}")
        texts = (each.id, each.prompt, each.secret, each.ending)
        if not all(isinstance(text, str) for text in texts) or not (each.prompt.strip() and each.secret.strip()):
            raise InputError(f"{path}: canary {each.id}: prompt and secret must be texts that are not empty")
        if not isinstance(each.copies, int) or each.copies < 0:
            raise InputError(f"{path}: canary {each.id}: copies must be a number from 0")
