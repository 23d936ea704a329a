"""`jmedllm data` from the command line."""

import json
import shutil
from pathlib import Path

import pytest

from conftest import Cli
from jmedllm.data.catalogue import SOURCES


def copy(shared: Path, name: str, data: Path) -> Path:
    for file in SOURCES[name].files:
        (data / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared / file.path, data / file.path)
    return data


def test_check_without_a_name_checks_all_that_is_on_disk(cli: Cli, shared: Path, tmp_path: Path) -> None:
    data = copy(shared, "jmmlu", copy(shared, "sukeda2024", tmp_path))
    code, output, errors = cli("data", "check", "--data", data)
    assert (code, output) == (0, "jmmlu: 14 checks passed\nsukeda2024: 1 checks passed\n")
    assert errors == f"next:  jmedllm eval --model MODEL --benchmark jmmlu:ja --data {data} --output results\n"
    (data / "jmmlu/anatomy.csv").unlink()
    code, output, errors = cli("data", "check", "--data", data)
    assert (code, output) == (2, "sukeda2024: 1 checks passed\n")
    assert "missing: jmmlu/anatomy.csv" in errors and "jmmlu: 2 of 14 checks failed" in errors
    assert errors.endswith(f"error: checks failed: jmmlu; run: jmedllm data get jmmlu --data {data}\n")


def test_check_of_an_empty_directory_names_the_command_that_fetches(cli: Cli, tmp_path: Path) -> None:
    expected = f"error: {tmp_path}: no benchmark is here; fetch one with: jmedllm data get igakuqa --data {tmp_path}\n"
    assert cli("data", "check", "--data", tmp_path) == (2, "", expected)


def test_list_ends_with_the_next_command(cli: Cli, shared: Path, tmp_path: Path) -> None:
    def last() -> tuple[str, str]:
        code, output, errors = cli("data", "list", "--data", tmp_path)
        assert code == 0
        return output.splitlines()[-1], errors

    option = f"--data {tmp_path}"
    assert last() == (
        f"{tmp_path}: 0 present, 0 in part, 13 absent",
        f"next:  jmedllm data get igakuqa {option}\n",
    )
    copy(shared, "jmmlu", tmp_path)
    assert last() == (f"{tmp_path}: 1 present, 0 in part, 12 absent", f"next:  jmedllm data check {option}\n")
    (tmp_path / "jmmlu/anatomy.csv").unlink()
    assert last() == (f"{tmp_path}: 0 present, 1 in part, 12 absent", f"next:  jmedllm data get jmmlu {option}\n")


def test_list_as_json(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JMEDLLM_DATA", str(tmp_path))
    code, output, errors = cli("data", "list", "--json")
    found = json.loads(output)
    assert (code, errors, found["data"]) == (0, "", str(tmp_path))
    assert {each["state"] for each in found["sources"]} == {"absent"}


def test_get_ends_with_the_check(cli: Cli, shared: Path, tmp_path: Path) -> None:
    code, output, errors = cli("data", "get", "jmmlu", "--data", tmp_path, "--mirror", shared)
    assert (code, output) == (0, f"jmmlu: 13 files fetched, 0 already there, all verified, in {tmp_path}\n")
    assert errors == f"wrote: {tmp_path}\nnext:  jmedllm data check jmmlu --data {tmp_path}\n"
