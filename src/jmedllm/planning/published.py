"""Configs of bases that come with jmedllm, for plans and checks before a base is downloaded."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class PublishedConfig:
    """The config.json of a published model.

    Attributes:
        source: address of the published file.
        values: its content.
    """

    source: str
    values: dict[str, Any]


def published_config(model: str) -> PublishedConfig | None:
    """Return the published config of a model by its id; None if it does not come with jmedllm."""
    return _published().get(model)


@cache
def _published() -> dict[str, PublishedConfig]:
    """Read all files in `configs`."""
    found: dict[str, PublishedConfig] = {}
    for file in files("jmedllm.planning").joinpath("configs").iterdir():
        if file.name.endswith(".yaml"):
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            found |= dict.fromkeys(content["models"], PublishedConfig(content["source"], content["config"]))
    return found
