"""The command line as a user meets it: good input, and one clear line with exit code 2 for bad input."""

import io
import json
import shlex
import shutil
from pathlib import Path

import pytest
import typer

from conftest import Cli, build_tiny, write_questions
from jmedllm.data.catalogue import SOURCES
from jmedllm.files import hash_file


def eval_of(model: Path, tmp_path: Path, *more: object) -> tuple[object, ...]:
    exam = write_questions(tmp_path / "exam.jsonl")
    return ("eval", "--model", model, "--benchmark", exam, "--selection", "all", "--output", tmp_path / "out",
            "--max-new-tokens", 8, *more)  # fmt: skip


def test_eval_prints_scores_as_json(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    code, output, errors = cli(*eval_of(tiny_model, tmp_path, "--json", "--scorer", "likelihood"))
    assert (code, errors) == (0, "")
    [ja, _, en, _] = json.loads(output)["scores"]
    assert (ja["benchmark"], ja["language"], ja["scorer"], ja["metric"]) == ("exam", "ja", "likelihood", "accuracy")
    assert ja["n"] == en["n"] == 7
    assert ja["low"] <= ja["value"] <= ja["high"]
    assert (ja["floor"], ja["ceiling"]) == (0.25, 1.0)


def test_a_chat_template_that_is_not_used_is_printed_and_recorded(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    chatty = Path(shutil.copytree(tiny_model, tmp_path / "chatty"))
    template = "{% for message in messages %}[{{ message.content }}]{% endfor %}"
    (chatty / "chat_template.jinja").write_text(template, encoding="utf-8")
    notice = "chatty has a chat template, which these prompts do not use; --chat applies it"
    code, output, errors = cli(*eval_of(chatty, tmp_path, "--limit", 1))
    assert code == 0 and errors.count(notice) == 1
    assert " ".join(output.split()).count(notice) == 1  # in the report, for both tasks once
    summary = json.loads((tmp_path / "out" / "exam.ja.json").read_text(encoding="utf-8"))
    assert notice in summary["notes"]
    shutil.rmtree(tmp_path / "out")
    code, output, errors = cli(*eval_of(chatty, tmp_path, "--limit", 1, "--chat"))
    assert code == 0 and "chat template" not in output + errors
    shutil.rmtree(tmp_path / "out")
    code, output, errors = cli(*eval_of(tiny_model, tmp_path, "--limit", 1))
    assert code == 0 and "chat template" not in output + errors


def test_eval_and_report_print_the_same_table(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    code, first, _ = cli(*eval_of(tiny_model, tmp_path, "--limit", 3, "--scorer", "legacy"))
    assert code == 0 and "exam ja" in first and "gestalt match" in first
    code, second, _ = cli("report", tmp_path / "out", "--output", tmp_path / "report.md")
    assert code == 0 and second == first
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| tiny | exam | ja | legacy | gestalt_match | 3 of 7 |" in written and "## Trace" in written


def test_report_as_a_page(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    assert cli(*eval_of(tiny_model, tmp_path, "--limit", 3))[0] == 0
    html, exam = tmp_path / "page.html", tmp_path / "moved" / "exam.jsonl"
    exam.parent.mkdir()
    (tmp_path / "exam.jsonl").rename(exam)
    code, output, errors = cli("report", tmp_path / "out", "--html", html)
    assert (code, output, html.exists()) == (2, "", False)
    where = f"{tmp_path / 'exam.jsonl'}: no such file"
    assert errors == f"error: {where}; exam has your own questions; give their file with --questions\n"
    code, output, _ = cli("report", tmp_path / "out", "--html", html, "--questions", exam)
    assert code == 0 and "exam ja" in output
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    code, _, errors = cli("report", tmp_path / "out", "--html", exam / "page.html", "--questions", exam)
    assert code == 2 and errors.startswith(f"error: cannot write {exam}") and errors.count("\n") == 1


def test_a_command_ends_with_where_it_wrote_and_the_next_one_which_runs(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ending(errors: str) -> tuple[str, tuple[str, ...]]:
        *_, wrote, following = ["", *errors.splitlines()]
        program, *words = shlex.split(following.removeprefix("next:"))
        assert program == "jmedllm"
        return wrote.removeprefix("wrote: "), tuple(words)

    monkeypatch.chdir(tmp_path)
    out, page = tmp_path / "out", tmp_path / "out" / "report.html"
    code, _, errors = cli(*eval_of(tiny_model, tmp_path, "--limit", 3))
    wrote, words = ending(errors)
    assert code == 0 and wrote == str(out)
    assert words == ("report", str(out), "--html", str(page))
    code, _, errors = cli(*words)
    wrote, words = ending(errors)
    assert code == 0 and wrote == str(page) and page.is_file()
    assert words == ("compare", str(out))
    code, _, errors = cli(*words)
    assert code == 0 and ending(errors)[1] == ("report", str(out), "--html", "report.html")
    assert cli(*words, "--json")[2] == ""


def test_merge_needs_the_adapter_s_own_base(cli: Cli, tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    assert cli("merge", "--model", tiny_model, "--adapter", tiny_adapter, "--output", merged)[0] == 0
    code, output, _ = cli(*eval_of(merged, tmp_path, "--json"))
    adapted = tmp_path / "adapted"
    adapted.mkdir()
    code_adapted, with_adapter, _ = cli(*eval_of(tiny_model, adapted, "--json", "--adapter", tiny_adapter))
    assert code == code_adapted == 0
    assert json.loads(output) == json.loads(with_adapter)


def no_tokenizer(folder: Path) -> Path:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    return folder


def eval_line(path: Path, **changes: object) -> Path:
    row = {"id": "1", "question": "?", "choices": ["x", "y"], "answer": ["a"], "language": "ja"} | changes
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


def test_bad_input_gets_one_clear_line(cli: Cli, tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    """Each case: what the user typed, and what the line must say of it."""
    other = build_tiny(tmp_path / "other-base", seed=5)
    short = build_tiny(tmp_path / "short-context", context=24)
    bare = no_tokenizer(build_tiny(tmp_path / "bare"))
    broken = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"not safetensors at all")
    bad_words = Path(shutil.copytree(tiny_model, tmp_path / "bad-words"))
    (bad_words / "tokenizer.json").write_text("{}", encoding="utf-8")
    bad_shape = Path(shutil.copytree(tiny_model, tmp_path / "bad-shape"))
    config = (bad_shape / "config.json").read_text(encoding="utf-8")
    (bad_shape / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": "x"'))
    bad_adapter = Path(shutil.copytree(tiny_adapter, tmp_path / "bad-adapter"))
    (bad_adapter / "adapter_model.safetensors").write_bytes(b"torn")
    nothing = tmp_path / "nothing.jsonl"
    nothing.touch()
    wrong_answer = eval_line(tmp_path / "wrong.jsonl", answer=["c"])
    wrong_key = eval_line(tmp_path / "key.jsonl", answr=["a"])
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "blank.txt").write_text(" \n", encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: t\nbase: {{path: {tiny_model}}}\ncorpus: {{inputs: [{empty}]}}\n"
        "mfpt: {steps: 1, learning_rate: 1e-3}\n",
        encoding="utf-8",
    )
    typo = tmp_path / "typo.yaml"
    typo.write_text(recipe.read_text(encoding="utf-8").replace("learning_rate", "lerning_rate"), encoding="utf-8")
    (tmp_path / "tune.yaml").write_text(f"name: t\nbase: {{path: {tiny_model}}}\n", encoding="utf-8")
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")

    def evaluate(model: object = tiny_model, benchmark: object = wrong_key, *more: object) -> tuple[object, ...]:
        return ("eval", "--model", model, "--benchmark", benchmark, "--output", tmp_path / "o", *more)

    good = write_questions(tmp_path / "exam.jsonl")
    whole = ("--selection", "all")
    column = eval_line(tmp_path / "column.jsonl")
    column.write_text(column.read_text(encoding="utf-8").replace('"choices"', '"options"'), encoding="utf-8")
    marked = eval_line(tmp_path / "marked.jsonl", id="1~1")
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "q0", "response": "c"}\n' * 1, encoding="utf-8")
    torn = tmp_path / "torn.jsonl"
    torn.write_text('{"id": "q0", "response": "c"}\n' + "\n" * 15 + '{"id": "q1", "respo\n', encoding="utf-8")
    both = tmp_path / "both.jsonl"
    both.write_text('{"id": "q0", "problem_id": "q1", "response": "c"}\n', encoding="utf-8")
    scored = ("score", "--questions", good, "--language", "ja")
    served = ("--backend", "openai", "--server", "http://127.0.0.1:1/v1")
    cases: list[tuple[tuple[object, ...], str]] = [
        (evaluate(tmp_path / "nowhere", good), "nowhere': no such directory"),
        (evaluate("Qwen/Qwen2-7B-Instruct", good, *whole), "not in the local Hugging Face cache"),
        (evaluate(bare, good, *whole), "no tokenizer (tokenizer.json); copy the base model's tokenizer files"),
        (evaluate(broken, good, *whole), "is not a safetensors file: its header is longer"),
        (evaluate(bad_words, good, *whole), f"tokenizer of {bad_words}: cannot be loaded:"),
        (evaluate(bad_shape, good, *whole), f"{bad_shape}: cannot be loaded:"),
        (evaluate(tiny_model, good, *whole, "--adapter", bad_adapter), "is not a safetensors file"),
        (evaluate(tiny_model, nothing), "it has no question"),
        (("pretrain", typo.with_name("tune.yaml")), "has no mfpt section"),
        (evaluate(benchmark="igakuq"), "unknown benchmark 'igakuq': did you mean igakuqa"),
        (evaluate(tiny_model, good, "--scorer", "legasy"), "unknown scorer 'legasy': did you mean legacy?"),
        (evaluate(tiny_model, good, "--language", "en,fr"), "--language 'fr': input should be 'ja' or 'en'"),
        (
            evaluate(tiny_model, "medmcqa:en:ja"),
            "medmcqa: write one language after the name (medmcqa:en), or medmcqa for both",
        ),
        (evaluate(tiny_model, good, "--selection", "grated"), "unknown selection 'grated': did you mean graded?"),
        (evaluate(tiny_model, good, "--prompt", "instructions"), "unknown prompt pack 'instructions': did you mean"),
        (evaluate(tiny_model, good, "--precision", "int8"), "Invalid value for '--precision'"),
        (evaluate(tiny_model, "igakuqa", "--data", empty), "jmedllm data get igakuqa"),
        (evaluate(tiny_model, wrong_answer), 'wrong.jsonl:1: field "answer": expected letters from a to b'),
        (evaluate(tiny_model, wrong_key), "key.jsonl:1: unknown key 'answr': did you mean answer?"),
        (evaluate(short, good, *whole), "question q0: prompt and 256 new tokens need"),
        (evaluate(tiny_model, good, *whole, "--output", file / "below"), f"cannot write {file / 'below'}"),
        (evaluate(tiny_model, good, *whole, "--output", "/proc/none"), "cannot write /proc/none"),
        (evaluate(other, good, *whole, "--adapter", tiny_adapter), "give the base it was trained on"),
        (evaluate(tiny_model, good, "--adapter", empty), "no adapter_config.json"),
        (("merge", "--model", other, "--adapter", tiny_adapter, "--output", tmp_path / "m"), "trained on base"),
        (("run", typo), "typo.yaml:4: mfpt.lerning_rate: unknown key; did you mean learning_rate?"),
        (("run", tmp_path / "none.yaml"), "none.yaml: no such recipe"),
        (("run", recipe, "--output", tmp_path / "r"), "contains no text; give files that do"),
        (("run", recipe, "--output", file / "below"), f"cannot write {file / 'below'}"),
        (("run", recipe, "--until", "mftp"), "unknown stage 'mftp': did you mean mfpt or mpeft?"),
        (("run", recipe, "--control", "none"), "has no controls; leave --control out"),
        (("report", empty), "has no finished evaluation"),
        (("report", tmp_path / "nowhere"), "nowhere: no such folder"),
        (("data", "get", "igakuq"), "'igakuq': did you mean igakuqa"),
        (("data", "check", "jmmlu", "--data", empty), "run: jmedllm data get jmmlu"),
        (evaluate(tiny_model, column), "column.jsonl:1: unknown key 'options'"),
        (evaluate(tiny_model, marked), 'marked.jsonl:1: field "id": expected a text without "~"'),
        (
            evaluate(tiny_model, good, *whole, *served, "--adapter", tiny_adapter),
            "backend openai does not support adapters (--adapter); use backend transformers or vllm",
        ),
        (evaluate(tiny_model, good, *whole, *served, "--device", "cpu"), "backend openai does not support --device"),
        (evaluate(tiny_model, good, *whole, *served, "--threads", 2), "backend openai does not support --threads"),
        (evaluate(tiny_model, good, *whole, *served), "does not support log-probabilities of whole choices"),
        (evaluate(tiny_model, good, *whole, "--backend", "openai"), "or give the URL of the server with --server"),
        (evaluate(tiny_model, good, *whole, *served[2:]), "does not support a server (--server); use backend openai"),
        (evaluate(tiny_model, good, *whole, "--backend", "vlm"), "unknown backend 'vlm': did you mean vllm?"),
        (
            evaluate(tiny_model, good, *whole, "--backend", "vllm", "--quantization", "nf4"),
            "backend vllm does not support quantization nf4; use backend transformers",
        ),
        (
            evaluate(tiny_model, good, *whole, "--backend", "vllm"),
            "backend vllm does not support log-probabilities of",
        ),
        (evaluate(tiny_model, good, "--scorer", "legacy", "--backend", "vllm"), "vllm does not support device cpu"),
        (evaluate(tiny_model, good, *whole, "--device", "mps"), "device mps: no MPS device is visible"),
        ((*scored, torn), "torn.jsonl:17: broken JSON"),
        ((*scored, nothing), "nothing.jsonl: has no response"),
        ((*scored, both), "both.jsonl:1: has both id and problem_id; remove one"),
        ((*scored, replies, "--items", replies), "would overwrite what is scored"),
        ((*scored, replies, "--items", good), "would overwrite what is scored"),
        ((*scored, replies, "--items", tmp_path / "items.csv"), "give a file name that ends in .jsonl"),
        ((*scored, replies, "--scorer", ","), "name at least one scorer"),
        (
            (*scored, replies, "--scorer", "legacy", "--strict-letters"),
            "--strict-letters changes nothing for legacy",
        ),
        (("score", replies, "--questions", nothing), "nothing.jsonl: the file has no question"),
        (("eval", "--model", tiny_model), "Missing option"),
        (("exma",), "No such command 'exma'"),
    ]
    for arguments, expected in cases:
        code, output, errors = cli(*arguments)
        last = errors.strip().splitlines()[-1]
        assert code == 2 and output == "", f"{arguments}: exit {code}\n{output}{errors}"
        assert expected in last and last.startswith("error: "), f"{arguments}: {errors}"
    assert not list((tmp_path / "o").glob("*.json*")), "a start that failed leaves nothing"


def test_no_command_shows_the_help_and_an_interrupt_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, errors = cli()
    assert code == 2 and output.startswith("Usage: jmedllm") and errors == ""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jmedllm.data.check.check", interrupted)
    assert cli("data", "check", "igakuqa") == (130, "", "error: interrupted; run the same command again to resume\n")


def test_the_end_of_input_at_a_prompt_is_one_line_and_another_eof_error_a_bug(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("jmedllm.data.check.check", lambda *_: typer.prompt("Sure?", err=True))
    code, _, errors = cli("data", "check", "igakuqa")
    assert code == 130 and errors.endswith("\nerror: interrupted; run the same command again\n")

    def broken(*_: object) -> None:
        raise EOFError("pickle ended")

    monkeypatch.setattr("jmedllm.data.check.check", broken)
    with pytest.raises(EOFError, match="pickle ended"):
        cli("data", "check", "igakuqa")


def test_a_file_without_a_checksum_is_not_verified(cli: Cli, tmp_path: Path) -> None:
    mirror, data = tmp_path / "mirror", tmp_path / "data"
    row = '{"sample_id": 1, "question": "q", "options": ["a", "b", "c", "d"], "answer_idx": "A"}\n'
    for file in SOURCES["jmedbench"].files:
        (mirror / file.path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / file.path).write_text(row, encoding="utf-8")
    get = ("data", "get", "jmedbench", "--data", data, "--mirror", mirror)
    code, output, errors = cli(*get)
    assert (code, output, data.exists()) == (1, "", False)
    assert errors == (
        "jmedbench: not verified: no checksum is known of 12 files; nothing was fetched; "
        "--allow-unverified fetches them anyway\n"
    )
    code, output, errors = cli(*get, "--allow-unverified")
    assert (code, output) == (0, f"jmedbench: 12 files fetched, 0 already there, not verified, in {data}\n")
    assert errors.count("not verified: ") == 12 and hash_file(data / SOURCES["jmedbench"].files[0].path) in errors
    code, output, errors = cli("data", "list")
    assert code == 0 and "12, not verified: no checksum is known" in output
    assert "checksums are not known" not in output


def test_score_compare_and_export_from_the_command_line(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "mine.jsonl", count=3)
    responses = tmp_path / "r.jsonl"
    responses.write_text('{"id": "q0", "response": "答え：C"}\n{"id": "q1", "response": ""}\n', encoding="utf-8")
    items = tmp_path / "items.jsonl"
    code, output, _ = cli(
        "score",
        "--questions",
        exam,
        "--language",
        "ja",
        responses,
        "--items",
        items,
        "--json",
        "--scorer",
        "answer,legacy",
    )
    printed = json.loads(output)
    assert code == 0 and printed["missing"] == ["q2"] and printed["exam_outcomes"] == []
    assert [(s["scorer"], s["metric"], s["n"], s["no_answer"]) for s in printed["scores"]] == [
        ("answer", "accuracy", 3, 2),
        ("legacy", "exact_match", 3, 2),
        ("legacy", "gestalt_match", 3, 2),
    ]
    assert [json.loads(line)["chosen"] for line in items.open(encoding="utf-8")] == [["c"], [], []]
    code, output, errors = cli("score", "--questions", exam, "--language", "en", tmp_path / "none.jsonl")
    assert (code, output, errors) == (2, "", f"error: {tmp_path}/none.jsonl: no such file\n")

    assert cli(*eval_of(tiny_model, tmp_path))[0] == 0
    code, output, _ = cli("compare", tmp_path / "out", "--json")
    found = json.loads(output)["comparisons"]
    sides = [tuple(each["first"].values()) + tuple(each["second"].values()) for each in found]
    assert code == 0 and set(sides) == {("tiny", "ja", "tiny", "en")}
    next((tmp_path / "out").glob("*.en.json")).unlink()
    code, _, errors = cli("compare", tmp_path / "out")
    assert code == 2 and errors.startswith("error: nothing to compare: give results of two models")

    code, output, _ = cli("export", "lm-eval", "--benchmark", exam, "--output", tmp_path / "tasks")
    assert code == 0 and "jmedllm_mine_ja: 3 items" in output
    assert (tmp_path / "tasks" / "jmedllm_mine_en.yaml").is_file()


def test_left_out_items_are_printed_and_recorded(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    table = "qid,stem,A,B,key,pic\n1,Which?,a. iron,b. zinc,B,\n2,Which?,a. iron,b. zinc,A,yes\n3,Which?,a. x,,A,\n"
    (tmp_path / "ward.csv").write_text(table, encoding="utf-8")
    columns = ("--map", "id=qid,question=stem,choices=A:B,answer=key,image=pic", "--skip-invalid")
    call = ("eval", "--model", tiny_model, "--benchmark", tmp_path / "ward.csv", "--output", tmp_path / "out")
    call = (*call, *columns, "--scorer", "likelihood", "--device", "cpu", "--precision", "float32")
    code, output, errors = cli(*call, "--json")
    account = "ward en, selection graded: 1 of 3 items. Left out: 1 with a picture; 1 in invalid rows (skip_invalid)."
    read = "ward.csv: labels in front of the choices removed: 2 of 2 questions"
    assert code == 0 and account in errors and read in errors
    [task] = json.loads(output)["tasks"]
    assert (task["selected"], task["asked"]) == (1, 1) and list(task["left_out"].values()) == [1, 1]
    summary = json.loads((tmp_path / "out" / "ward.en.json").read_text(encoding="utf-8"))
    assert summary["left_out"] == task["left_out"] and summary["notes"] == task["notes"]
    assert summary["settings"]["map"]["choices"] == "A:B" and summary["settings"]["skip_invalid"] is True
    page = tmp_path / "page.html"
    code, output, _ = cli("report", tmp_path / "out", "--questions", tmp_path / "ward.csv", "--html", page)
    assert code == 0 and account in " ".join(output.split())
    assert account in page.read_text(encoding="utf-8") and read in page.read_text(encoding="utf-8")
