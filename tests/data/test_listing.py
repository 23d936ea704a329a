"""The list of sources, as text and as JSON."""

import re
from pathlib import Path

import pytest

from jmedllm.data.catalogue import SOURCES
from jmedllm.data.listing import as_json, as_text
from jmedllm.data.on_disk import find_on_disk


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_a_terminal(tmp_path: Path, width: int) -> None:
    assert width - 20 < max(map(len, as_text(find_on_disk(tmp_path), width).splitlines())) <= width


def test_every_source_is_listed(tmp_path: Path) -> None:
    found = find_on_disk(tmp_path)
    assert [block.split(maxsplit=1)[0] for block in as_text(found, 80).split("\n\n")] == list(SOURCES)
    assert [row["name"] for row in as_json(found)] == list(SOURCES)


def test_a_mirror_is_asked_for_once(tmp_path: Path) -> None:
    found = find_on_disk(tmp_path)
    entries = dict(zip(SOURCES, as_text(found, 80).split("\n\n"), strict=True))
    asked = {name: entry.count("--mirror") for name, entry in entries.items() if "--mirror" in entry}
    without_address = [name for name, source in SOURCES.items() if any(file.url is None for file in source.files)]
    assert asked == dict.fromkeys(without_address, 1)
    assert {"medqa-5", "medmcqa"} <= set(asked)
    assert [row["name"] for row in as_json(found) if row["needs_mirror"]] == without_address


def test_it_lists_the_sources_on_disk(tmp_path: Path) -> None:
    for name, contents in {"medqa/4_options/phrases_no_exclude_test.jsonl": 1_250_000, "medmcqa/dev.json": 10}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x" * contents)
    found = find_on_disk(tmp_path)
    heads = {
        block.split()[0]: block.splitlines()[0].split(maxsplit=1)[1] for block in as_text(found, 80).split("\n\n")
    }
    assert heads["igakuqa"] == "absent"
    assert heads["medqa"] == "part: 1 of 2 files, 1.2 MB"
    assert heads["medmcqa"] == "present: 1 file, 0.0 MB"
    rows = {row["name"]: row for row in as_json(found)}
    assert {name: row["state"] for name, row in rows.items() if row["files_on_disk"]} == {
        "medqa": "part",
        "medmcqa": "present",
    }
    assert rows["medqa"]["bytes_on_disk"] == 1_250_000
    assert rows["medqa"]["benchmarks"][0] == {
        "benchmark": "medqa",
        "language": "en",
        "split": "test",
        "items": 1273,
    }


def test_the_documentation_names_the_options_that_each_source_needs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation" / "usage.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(.*?)` \| `(jmedllm data get .*?)` \|$", page, re.MULTILINE))
    assert rows == {
        name: f"jmedllm data get {name}"
        + " --mirror MIRROR" * source.needs_mirror
        + " --allow-unverified" * bool(source.unpinned)
        for name, source in SOURCES.items()
    }
