"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

SETTING = "JMEDLLM_SHARED_DATA"
DEFAULT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory of real data; where it is missing the test is skipped, and under CI=true it fails."""
    path = Path(os.environ.get(SETTING, DEFAULT))
    if path.is_dir():
        return path
    reason = f"no real data at {path}: name their directory in {SETTING}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
