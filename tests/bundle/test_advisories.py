"""Known advisories are found in files as osv.dev and the Python Packaging Authority publish them."""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from jmedllm.bundle.advisories import find_advisories, read_advisories
from jmedllm.cli import app
from jmedllm.errors import InputError

JINJA = """
id: PYSEC-2021-66
details: |
  urlize needs quadratic time.
  It has many wildcards.
aliases: [CVE-2020-28493]
modified: "2021-03-22T16:34:00Z"
affected:
- package: {name: jinja2, ecosystem: PyPI, purl: "pkg:pypi:jinja2"}
  ranges:
  - type: ECOSYSTEM
    events:
    - introduced: "0"
    - fixed: 2.11.3
  versions: [2.0rc1, "2.0", "2.10", 2.11.2]
"""
"""The ranges of a real advisory, in the format of PyPA's repository."""


def advisory(events: list[dict[str, str]], **changes: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": events}, {"type": "GIT", "events": [{"introduced": "0"}]}]
    package = {"name": "PyYAML", "ecosystem": "PyPI"}
    affected = {"package": package, "ranges": ranges}
    return {"id": "GHSA-a", "modified": "2026-01-02T00:00:00Z", "affected": [affected]} | changes


TWO = [{"introduced": "2"}, {"fixed": "2.5"}, {"introduced": "3.0"}, {"last_affected": "3.4"}]


@pytest.mark.parametrize(
    ("events", "version", "expected"),
    [
        ([{"introduced": "0"}, {"fixed": "5.4"}], "5.3.1", True),
        ([{"introduced": "0"}, {"fixed": "5.4"}], "5.4", False),
        ([{"introduced": "0"}, {"fixed": "5.4"}], "5.10", False),
        ([{"introduced": "0"}, {"fixed": "5.4"}], "5.4rc1", True),
        ([{"introduced": "0"}], "99", True),
        ([{"introduced": "2.13.0"}], "2.13.0+cpu", True),
        ([{"introduced": "0"}, {"fixed": "2.13.0"}], "2.13.0+cpu", False),
        (TWO, "1.9", False),
        (TWO, "2.4.9", True),
        (TWO, "2.9", False),
        (TWO, "3.4", True),
        (TWO, "3.4.1", False),
        (TWO[::-1], "2.4.9", True),
        ([], "1", False),
    ],
)
def test_ranges(events: list[dict[str, str]], version: str, expected: bool) -> None:
    found = find_advisories([advisory(events)], {"pyyaml": version})
    assert bool(found) == expected
    if found and len(events) == 2 and "rc" not in version:  # packaging reads the printed range as we do
        assert SpecifierSet(found[0].affected).contains(version, prereleases=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"withdrawn": "2026-02-01T00:00:00Z"},
        {"affected": [{"package": {"name": "pyyaml", "ecosystem": "npm"}, "versions": ["1"]}]},
        {"affected": [{"package": {"name": "pyyaml-x", "ecosystem": "PyPI"}, "versions": ["1"]}]},
        {"affected": [{"package": {"name": "pyyaml", "ecosystem": "PyPI"}, "versions": ["1.1", "2004d"]}]},
        {"affected": None},
    ],
    ids=["withdrawn", "another ecosystem", "another package", "other versions", "nothing"],
)
def test_what_does_not_affect_a_package(changes: dict[str, Any]) -> None:
    assert find_advisories([advisory([{"introduced": "0"}], **changes)], {"pyyaml": "1"}) == []


def test_versions_without_ranges() -> None:
    package = {"package": {"name": "Py_YAML", "ecosystem": "PyPI"}, "versions": ["1.0.0"]}
    assert find_advisories([advisory([], affected=[package])], {"py-yaml": "1.0"})[0].affected == "1 listed versions"


def test_all_forms_of_a_file_are_read(tmp_path: Path) -> None:
    one = advisory([{"introduced": "0"}])
    (tmp_path / "vulns" / "jinja2").mkdir(parents=True)
    (tmp_path / "vulns" / "jinja2" / "PYSEC-2021-66.yaml").write_text(JINJA)
    (tmp_path / "vulns" / "README.md").write_text("no advisory")
    (tmp_path / "one.json").write_text(json.dumps(one))
    (tmp_path / "list.json").write_text(json.dumps([one, one]))
    (tmp_path / "answer.json").write_text(json.dumps({"vulns": [one]}))
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("GHSA-a.json", json.dumps(one))
        archive.writestr("PYSEC-2021-66.yaml", JINJA)
    names = ("vulns", "one.json", "list.json", "answer.json", "all.zip")
    assert [len(read_advisories(tmp_path / name)) for name in names] == [1, 1, 2, 1, 2]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", b"{", "a.json"),
        ("a.json", b'{"id": "x"}', "without the keys id and modified"),
        ("a.json", b'"x"', "without the keys id and modified"),
        ("a.json", b"[]", "has no advisory"),
        ("a.json", b"\xff", "UTF-8"),
        ("a.yaml", b"a: [", "is not valid YAML"),
        ("a.yaml", b"a: &a [*a]", "contains itself"),
        ("a.zip", b"PK", "cannot be read"),
        ("missing.json", None, "cannot be read"),
    ],
)
def test_other_files_are_refused_in_one_line(name: str, content: bytes | None, expected: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected) as refused:
        read_advisories(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_the_command_names_package_range_and_fix(tmp_path: Path) -> None:
    (tmp_path / "jinja.yaml").write_text(JINJA)
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(f"jinja2==2.11.2 --hash=sha256:{'a' * 64}\ntorch==2 --hash=sha256:{'b' * 64}\n")
    command = ["audit", str(tmp_path / "jinja.yaml")]
    done = CliRunner().invoke(app, [*command, "--constraints", str(constraints)])
    assert done.exit_code == 1
    assert done.stdout == (
        "jinja2 2.11.2: PYSEC-2021-66, CVE-2020-28493: affected >=0, <2.11.3; fixed in 2.11.3: urlize needs "
        "quadratic time.\n2 packages, 1 advisories (the newest of 2021-03-22): 1 finding\n"
    )
    done = CliRunner().invoke(app, [*command, "--constraints", str(constraints), "--json"])
    assert json.loads(done.stdout)["findings"][0]["fixed"] == ["2.11.3"]
    assert CliRunner().invoke(app, command).exit_code == 0  # what is installed here
