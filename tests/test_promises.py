"""docs/promises.md names tests; they have to be there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "promises.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_guard_of_a_promise_is_there(file: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_promise_has_a_guard() -> None:
    rows = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").splitlines()
    promises = [row for row in rows if row.startswith("| ") and "guarded by" not in row]
    assert len(promises) >= 60
    assert all("::test_" in row.rsplit("|", 2)[1] for row in promises)
