"""Licence of a model as its card states it."""

from pathlib import Path
from typing import Any

import yaml

from jmedllm.bounded_yaml import load_yaml

_LICENCE_FILES = ("license", "licence", "copying", "notice", "use_policy")

CARD = "README.md"


def card_of(folder: Path) -> str:
    """Return the model card of a model directory; empty if it has none."""
    file = folder / CARD
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def stated_licence(folder: Path) -> str | None:
    """Return the licence in the header of a model's card; None if it states none."""
    return licence_in(card_of(folder))


def licence_in(card: str) -> str | None:
    """Return the licence in the header of a model card, by its own name if Hugging Face has no id for it."""
    parts = card.split("---\n", 2)
    try:
        header: Any = load_yaml(parts[1]) if card.startswith("---\n") and len(parts) > 2 else None
    except yaml.YAMLError:
        return None
    if not isinstance(header, dict) or not header.get("license"):
        return None
    return str(header.get("license_name") if header["license"] == "other" else header["license"])


def licence_texts(folder: Path) -> dict[str, bytes]:
    """Return the licences and notices in a model directory by file name."""
    return {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir())
        if file.is_file() and file.name.lower().startswith(_LICENCE_FILES)
    }
