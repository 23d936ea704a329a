"""A benchmark from outside the package, as CONTRIBUTING.md shows it."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from package import ROOT, example, install, register

from conftest import Cli
from jmedllm.data.installed import installed_tests
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load

ROWS = [
    {
        "no": str(number),
        "q": "安静時の脈拍は。",
        "a1": "20",
        "a2": "70",
        "a3": "150",
        "a4": "220",
        "right": 2,
    }
    for number in range(3)
]


EXAMPLE = example("Add a benchmark")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of an installed NursingQA."""
    folder = tmp_path / "data" / "nursingqa"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    install(tmp_path / "package", monkeypatch, EXAMPLE, benchmarks="nursingqa = BENCHMARK")
    register(BENCHMARKS, "benchmarks", monkeypatch)
    return tmp_path / "data"


def test_the_example_is_short() -> None:
    assert 10 < len(EXAMPLE.splitlines()) <= 40


def test_it_is_evaluated_from_the_command_line(cli: Cli, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    common = ("--model", tiny_model, "--benchmark", "nursingqa", "--data", data, "--device", "cpu")
    code, _, errors = cli("eval", *common, "--scorer", "likelihood", "--output", tmp_path / "out")
    assert code == 0, errors
    assert json.loads((tmp_path / "out" / "nursingqa.ja.json").read_text(encoding="utf-8"))["asked"] == len(ROWS)


def test_another_number_of_questions_than_declared_is_reported(
    cli: Cli, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = replace(BENCHMARKS["nursingqa"], expected_counts={("ja", "test"): 240})
    monkeypatch.setitem(BENCHMARKS, "nursingqa", declared)
    common = ("--model", tiny_model, "--benchmark", "nursingqa", "--data", data, "--device", "cpu")
    code, output, errors = cli("eval", *common, "--scorer", "likelihood", "--output", tmp_path / "out")
    note = "nursingqa ja: 3 questions found, 240 expected; check the files."
    assert code == 0 and note in errors and note in output, errors


def test_it_is_known_wherever_benchmarks_are_named(cli: Cli, data: Path) -> None:
    assert list(installed_tests(data)) == [("nursingqa", "ja")]
    assert [question.gold_choices for question in load("nursingqa", "ja", data)] == [("70",)] * len(ROWS)
    with pytest.raises(InputError, match="nursingqa has no questions in 'en'; it has ja"):
        load("nursingqa", "en", data)


def test_an_invalid_row_is_one_line(data: Path) -> None:
    file = data / "nursingqa" / "test.jsonl"
    file.write_text(json.dumps(ROWS[0] | {"right": 5}) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r'test\.jsonl:1: field "right": expected a whole number from 1 to 4'):
        load("nursingqa", "ja", data)


def test_no_other_module_names_a_benchmark() -> None:
    """What other modules need to know about a benchmark is a field of it."""
    source = ROOT / "src" / "jmedllm"
    members = ("evaluation/benchmarks/", "data/catalogue.py", "demo/")
    names = [name for name, benchmark in BENCHMARKS.items() if not benchmark.synthetic]
    found = [
        f"{file.relative_to(source)}: {node.value}"
        for file in sorted(source.rglob("*.py"))
        if not str(file.relative_to(source)).startswith(members)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []


def test_it_is_listed_and_checked(cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, _ = cli("data", "list", "--data", data)
    entry = next(block for block in output.split("\n\n") if block.startswith("nursingqa"))
    assert (
        code == 0
        and entry.split()[1] == "present"
        and f"its files are in {data / 'nursingqa'}" in " ".join(entry.split())
    )
    code, output, _ = cli("data", "list", "--data", data, "--json")
    assert [(each["name"], each["state"]) for each in json.loads(output)["others"]] == [("nursingqa", "present")]
    code, output, _ = cli("data", "list", "--data", tmp_path / "none", "--json")
    assert [each["state"] for each in json.loads(output)["others"]] == ["absent"]

    for count, expected in ((len(ROWS), 0), (240, 2)):
        declared = replace(BENCHMARKS["nursingqa"], expected_counts={("ja", "test"): count})
        monkeypatch.setitem(BENCHMARKS, "nursingqa", declared)
        for words in ((), ("nursingqa",)):
            code, output, errors = cli("data", "check", *words, "--data", data)
            assert code == expected, errors
            passed = "nursingqa: 1 checks passed" in output and "--benchmark nursingqa" in errors
            assert passed == (expected == 0)
            assert ("get the files as the package of nursingqa describes" in errors) == (expected == 2)
            assert "data get" not in errors
    _, _, errors = cli("data", "list", "--data", data)
    assert errors == f"next:  jmedllm data check --data {data}\n"
    (data / "nursingqa" / "test.jsonl").unlink()
    _, _, errors = cli("data", "check", "nursingqa", "--data", data)
    assert "test.jsonl: no such file; get it as the package of this benchmark describes" in errors
    assert "data get" not in errors
