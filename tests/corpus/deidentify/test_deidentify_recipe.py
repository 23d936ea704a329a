"""A recipe de-identifies its corpus, or refuses one that was not; the run says how."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sudachipy")
pytest.importorskip("pycrfsuite")

from jmedllm.corpus.deidentify import config as config_module
from jmedllm.corpus.deidentify.config import DeidentifyConfig
from jmedllm.corpus.deidentify.run import deidentify
from jmedllm.corpus.pipeline.build import BuildConfig, build
from jmedllm.errors import InputError
from jmedllm.pipeline import check_pipeline, run_pipeline
from jmedllm.precision import choose_precision
from jmedllm.recipe import Recipe
from jmedllm.stages import STAGES
from jmedllm.stages.corpus import CORPUS, CorpusOutputs, read_corpus
from jmedllm.stages.stage import Run

IDENTIFIERS = ("佐藤", "花子", "さとう", "鈴木", "12345678", "豊橋", "2019年5月1日")
LINES = [
    {
        "id": "12345678-1",
        "pid": "12345678",
        "text": "氏名：佐藤 花子　様\n2019年5月1日に豊橋市立病院の鈴木先生へ紹介。",
    },
    {"id": "12345678-2", "pid": "12345678", "text": "佐藤花子さん、72歳女性。胃癌の手術のため入院した。"},
]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in LINES)
    (folder / "佐藤花子 12345678.jsonl").write_text(lines + '{"broken\n', encoding="utf-8")
    return folder


def recipe(model: Path, folder: Path, **corpus: Any) -> Run:
    values = {"name": "t", "data": str(folder), "base": {"path": str(model)}, "threads": 1}
    values |= {"corpus": {"block_size": 64} | corpus}
    return Run(Recipe.model_validate(values), folder / "run", choose_precision("float32", "cpu"), {})


def check(run: Run) -> None:
    check_pipeline(STAGES.values(), run)


def test_a_recipe_de_identifies_before_it_builds(tiny_model: Path, notes: Path, tmp_path: Path, capfd: Any) -> None:
    key = str(tmp_path / "key")
    Path(key).write_text("ab" * 32)  # a random one may draw one identifier as the surrogate of another
    run = recipe(tiny_model, tmp_path, inputs=[str(notes)], deidentify={"patient_field": "pid", "key_file": key})
    run_pipeline(STAGES.values(), run, "corpus", lambda stage, message: None)
    first, second = (document.text for document in read_corpus(run))
    new = first.partition("氏名:")[2].partition("様")[0].replace(" ", "")
    assert new in second  # one patient, one surrogate
    outputs = run.output("corpus", CorpusOutputs)
    assert outputs.read_errors == 1 and outputs.deidentification is not None
    assert outputs.personal_data.startswith("de-identified by jmedllm ") and "NAME 3" in outputs.personal_data
    assert CORPUS.card(run)[1] == f"Personal data in the corpus: {outputs.personal_data}"
    written = "".join(
        path.read_bytes().decode(errors="replace") for path in (tmp_path / "run").rglob("*") if path.is_file()
    )
    assert not any(each in written + "".join(capfd.readouterr()) for each in IDENTIFIERS)


def test_without_de_identification_the_run_says_so(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("壊血病はビタミンCの欠乏で起こる。", encoding="utf-8")
    run = recipe(tiny_model, tmp_path, inputs=[str(tmp_path / "a.txt")])
    run_pipeline(STAGES.values(), run, "corpus", lambda stage, message: None)
    assert run.output("corpus", CorpusOutputs).personal_data == "not de-identified"


def test_a_corpus_that_was_not_de_identified_is_refused(tiny_model: Path, notes: Path, tmp_path: Path) -> None:
    done, corpus = tmp_path / "done", tmp_path / "corpus"
    deidentify([notes], "text", DeidentifyConfig(), done, 1)
    build(BuildConfig((done,)), [], corpus, 1)
    for accepted in ([done], [corpus], [done / "documents-00000.jsonl", corpus]):
        check(recipe(tiny_model, tmp_path, inputs=list(map(str, accepted)), require_deidentified=True))
    check(recipe(tiny_model, tmp_path, inputs=[str(notes)], deidentify={}, require_deidentified=True))
    for refused in ([str(notes)], ["demo"], [str(done), str(notes)]):
        with pytest.raises(InputError, match="was not de-identified; add deidentify to the corpus section"):
            check(recipe(tiny_model, tmp_path, inputs=refused, require_deidentified=True))
    with (done / "documents-00000.jsonl").open("a") as file:
        file.write('{"text": "佐藤花子"}\n')
    with pytest.raises(InputError, match="is not as `jmedllm corpus deidentify` wrote it"):
        check(recipe(tiny_model, tmp_path, inputs=[str(done)], require_deidentified=True))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"known": ["missing.csv"]}, "missing.csv: cannot be read"),
        ({"key_file": "run/keys/key"}, "is inside the output"),
        ({"patient_field": "patient"}, "unknown patient field 'patient': did you mean text"),
    ],
)
def test_a_wrong_setting_is_refused_by_the_check(
    tiny_model: Path, notes: Path, tmp_path: Path, settings: dict, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=problem):
        check(recipe(tiny_model, Path(), inputs=[str(notes)], deidentify=settings))
    assert not Path("run").exists()


def test_an_unknown_kind_of_column_and_a_missing_package_are_refused(
    tiny_model: Path, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="unknown kind of column 'nmae': did you mean name"):
        DeidentifyConfig(known_columns={"氏": "nmae"})
    monkeypatch.setitem(config_module._PACKAGES, "no_such_module", "sudachipy")
    with pytest.raises(InputError, match="missing; install them with: pip install 'sudachipy"):
        check(recipe(tiny_model, tmp_path, inputs=[str(notes)], deidentify={}))
