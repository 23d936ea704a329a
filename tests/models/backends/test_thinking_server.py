"""Backend openai with a scripted thinking model: what is sent, what is kept of a reply, and how load is adapted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, write_questions
from jmedllm.errors import InputError
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading.read import read_answer
from jmedllm.evaluation.records import read_samples
from jmedllm.files import read_json, to_json
from jmedllm.models.backends.base import (
    GREEDY,
    Completion,
    Decoding,
    GenerationConfig,
    Request,
    ServerSettings,
)
from jmedllm.models.backends.openai import throttle
from jmedllm.models.backends.openai.kinds import KINDS, LLAMA_CPP, OPENAI, TRANSFORMERS, UNKNOWN, ServerKind
from jmedllm.models.backends.openai.server import connect
from jmedllm.models.thoughts import split_reply
from jmedllm.progress import notice
from thinking_server import FORMS, SWITCHED, THOUGHT, Script, ThinkingServer, serving

ASKED = Question("q", "exam", "en", "Which one?", ("beriberi", "scurvy", "pellagra"), frozenset({1}))
QUESTION = to_json([{"role": "user", "content": "Which one?"}])
WARM = Decoding(0.6, 0.95, 20, 0.0, 1.0)
EVERY = Decoding(0.6, 0.95, 20, 0.05, 1.1)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JMEDLLM_API_KEY", "any")
    monkeypatch.setattr(throttle, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(throttle, "LONGEST_WAIT_S", 0.05)
    notice.cache_clear()
    yield
    notice.cache_clear()


def ask(server: ThinkingServer, limit: int = 64, request: Request | None = None, **settings: Any) -> Completion:
    """Ask one question of a chat, and return the completion."""
    chosen = {name: settings.pop(name) for name in ("decoding", "thinking_budget") if name in settings}
    model = connect(server.url, "m", chat=True, settings=ServerSettings(**settings))
    request = request or Request("q", QUESTION, generate=True, seed=7)
    [(_, response)] = model.answer([request], GenerationConfig(limit, **chosen))
    assert response.completion is not None
    return response.completion


def sent(server: ThinkingServer) -> dict[str, Any]:
    """Return the fields of the last request besides its model, messages and limit."""
    return {name: value for name, value in server.bodies[-1].items() if name not in ("model", "messages")}


BOTH = {"enable_thinking": False, "thinking": False}


@pytest.mark.parametrize(
    ("script", "settings", "fields"),
    [
        (Script(kind="?"), {}, {}),
        (Script(kind="?"), {"thinking": "off"}, {"chat_template_kwargs": BOTH}),
        (Script(kind="?"), {"effort": "low"}, {"reasoning_effort": "low"}),
        (
            Script(kind="?"),
            {"thinking": "off", "template_args": {"thinking": "disabled"}},
            {"chat_template_kwargs": {"enable_thinking": False, "thinking": "disabled"}},
        ),
        (
            Script(kind="?"),
            {"thinking": "off", "extra_body": {"chat_template_kwargs": {"x": 1}, "temperature": None, "user": "a"}},
            {"chat_template_kwargs": BOTH | {"x": 1}, "user": "a", "temperature": None},
        ),
        # llama.cpp shows its template, so only its own switch is sent.
        (
            Script(template=SWITCHED, kind="llamacpp"),
            {"thinking": "off"},
            {"chat_template_kwargs": {"enable_thinking": False}, "repeat_penalty": 1.0},
        ),
        (
            Script(template=SWITCHED, kind="llamacpp"),
            {"thinking": "on"},
            {"repeat_penalty": 1.0, "reasoning_format": "none"},
        ),
        (
            Script(template=SWITCHED.replace("enable_thinking", "reasoning_effort"), kind="llamacpp"),
            {"effort": "high", "template_args": {}},
            InputError("it has no effort to set"),
        ),
        (Script(template=SWITCHED, kind="llamacpp"), {"template_args": {"typo": 1}}, InputError("typo")),
        (
            Script(template="{{ messages[0].content }}", kind="llamacpp"),
            {"thinking": "on"},
            InputError("shows no sign of thoughts"),
        ),
        (
            Script(template=SWITCHED.partition("{% if enable")[0] + "<think>\n{% endif %}", kind="llamacpp"),
            {"thinking": "off"},
            InputError("the server's chat template has no switch for it"),
        ),
    ],
)
def test_how_a_served_template_is_set(script: Script, settings: dict[str, Any], fields: Any) -> None:
    with serving(script) as server:
        if isinstance(fields, InputError):
            with pytest.raises(InputError, match=str(fields)):
                ask(server, **settings)
            assert not server.bodies
            return
        ask(server, **settings)
        expected = {"max_tokens": 64, "temperature": 0.0, **fields}
        assert sent(server) == {name: value for name, value in expected.items() if value is not None}


VLLM, SGLANG = KINDS["vllm"], KINDS["sglang"]


@pytest.mark.parametrize(
    ("kind", "decoding", "fields"),
    [
        (UNKNOWN, GREEDY, {"temperature": 0.0}),
        (UNKNOWN, WARM, {"temperature": 0.6, "top_p": 0.95, "seed": 7, "top_k": 20}),
        (OPENAI, Decoding(1.0), {"temperature": 1.0, "top_p": 1.0, "seed": 7}),
        (OPENAI, WARM, "OpenAI takes no top_k; leave it out"),
        # What is missing these take from generation_config.json; llama.cpp takes its own defaults.
        (VLLM, GREEDY, {"temperature": 0.0, "repetition_penalty": 1.0}),
        (
            VLLM,
            Decoding(1.0),
            {"temperature": 1.0, "top_p": 1.0, "seed": 7, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0},
        ),
        (
            SGLANG,
            Decoding(1.0),
            {"temperature": 1.0, "top_p": 1.0, "seed": 7, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
        ),
        (
            LLAMA_CPP,
            EVERY,
            {"temperature": 0.6, "top_p": 0.95, "seed": 7, "top_k": 20, "min_p": 0.05, "repeat_penalty": 1.1},
        ),
        (
            TRANSFORMERS,
            GREEDY,
            {"temperature": 0.0, "generation_config": '{"do_sample": false, "repetition_penalty": 1.0}'},
        ),
        (
            TRANSFORMERS,
            WARM,
            {
                "temperature": 0.6,
                "seed": 7,
                "generation_config": '{"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20, '
                '"min_p": 0.0, "repetition_penalty": 1.0}',
            },
        ),
        (KINDS["library"], Decoding(0.6, min_p=0.1), "Ollama takes no min_p"),
    ],
)
def test_decoding_in_the_names_of_each_server(kind: ServerKind, decoding: Decoding, fields: Any) -> None:
    if isinstance(fields, str):
        with pytest.raises(InputError, match=fields):
            kind.decoding(decoding, 7)
    else:
        assert kind.decoding(decoding, 7) == fields


@pytest.mark.parametrize("form", FORMS)
def test_a_thought_cut_or_whole_in_every_form(form: str) -> None:
    opened = SWITCHED if form == "opened" else None
    with serving(Script(form=form, template=opened, answer=lambda *_: "The answer is b .")) as server:
        for limit in (5, len(THOUGHT.split()), 64):
            found = ask(server, limit)
            assert found.new_tokens == min(limit, len(THOUGHT.split()) + 5)
            assert found.reasoning_tokens == min(limit, len(THOUGHT.split()))
            assert found.truncated == (limit < 64)
            read = read_answer(ASKED, found.text, truncated=found.truncated, thought_open=found.thought_open)
            assert read.chosen == (frozenset({1}) if limit == 64 else frozenset()), (limit, found)
            if form in ("reasoning_content", "reasoning", "thinking"):
                assert found.reasoning is not None and THOUGHT.startswith(found.reasoning)


@pytest.mark.parametrize(
    ("script", "fields", "forced"),
    [
        (Script(thought_tokens=100), {"thinking_token_budget": 10}, True),
        (Script(thought_tokens=6), {"thinking_token_budget": 10}, False),
        (
            Script(thought_tokens=100, kind="llamacpp", template=SWITCHED, counts_thought=False),
            {"thinking_budget_tokens": 10},
            False,
        ),
    ],
)
def test_a_thinking_budget_is_the_server_s(script: Script, fields: dict[str, int], forced: bool) -> None:
    with serving(script) as server:
        found = ask(server, 64, thinking_budget=10)
        assert fields.items() <= sent(server).items()
        answer = split_reply(found.text, thought_open=found.thought_open).answer
        assert (answer.strip(), found.forced) == ("b", forced)


def test_settings_that_a_server_ignores_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Script(deaf=True, thought_tokens=200)) as server:
        ask(server, 300, thinking="off", thinking_budget=10)
    said = capsys.readouterr().err
    assert "m: 1 of 1 replies contain a thought although thinking is off: the server ignores the setting" in said
    assert "m: 1 of 1 replies have a thought longer than the thinking budget of 10 tokens" in said


def test_a_server_without_a_budget_or_a_constraint_is_refused_before_anything_is_asked() -> None:
    with serving(Script(kind="?")) as server:
        with pytest.raises(InputError, match="the server takes no thinking budget; leave --thinking-budget out"):
            ask(server, thinking_budget=10)
        text = connect(server.url, "m", chat=False)
        with pytest.raises(InputError, match="the server cannot constrain text; leave --constrain out"):
            list(text.answer([Request("q", "Q", generate=True, allowed=("a",))], GenerationConfig(8)))
        assert not server.bodies
    with serving(Script(kind="llamacpp", template=SWITCHED)) as server:
        # A grammar would constrain the thought, too.
        request = Request("q", QUESTION, generate=True, allowed=("a", "b"))
        for thinking, field in (("on", "response_format"), ("off", "grammar")):
            found = ask(server, request=request, thinking=thinking)
            assert (found.text, found.thought_open, bool(found.reasoning)) == ("b", False, thinking == "on")
            assert field in sent(server) and "reasoning_format" not in sent(server)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("vllm", {"structured_outputs": {"choice": ["脚気", 'a "b"']}}),
        ("sglang", {"ebnf": 'root ::= "脚気" | "a \\"b\\""'}),
        ("llamacpp", {"grammar": 'root ::= "脚気" | "a \\"b\\""'}),
        ("?", {}),
    ],
)
def test_a_constrained_reply_is_one_of_the_choices(kind: str, fields: dict[str, Any]) -> None:
    request = Request("q", QUESTION, generate=True, allowed=("脚気", 'a "b"'))
    with serving(Script(kind=kind, thought=".", answer=lambda *_: 'a "b"')) as server:
        assert ask(server, request=request).text == 'a "b"'
        assert fields.items() <= sent(server).items()
        assert kind != "?" or sent(server)["response_format"]["json_schema"]["strict"]
    with (
        serving(Script(kind=kind, deaf=True, answer=lambda *_: "I think it is b")) as server,
        pytest.raises(InputError, match="ignores the constraint and replies 'I think it is b'"),
    ):
        ask(server, request=request)
    with serving(Script(kind=kind, thought=".", answer=lambda *_: 'a "b"')) as server:
        assert ask(server, 2, request=request).truncated, "a cut reply is no proof"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("Unrecognized request argument supplied: top_k", "top_k"),
        ("Unexpected fields in the request: {'top_k', 'seed'}", "seed"),
        ("temperature does not support 0.6 with this model. Only the default (1) is supported.", "temperature"),
        ("1 validation error:\n {'type': 'int_parsing', 'loc': 'body.top_k', 'input': 'x'}", "top_k"),
        ("thinking_token_budget is set but reasoning_config is not configured.", "thinking_token_budget"),
        ("body temperature of the user: seed and top_k were planted; roles must alternate", None),
    ],
)
def test_a_refused_field_is_named_and_no_reason_to_skip_items(message: str, field: str | None) -> None:
    script = Script(refuses=("top_k",))
    with serving(script) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThinkingServer, "post", lambda *_: (400, {"error": {"message": message}}, {}))
        model = connect(server.url, "m", chat=True)
        config = GenerationConfig(64, skip_invalid=True, decoding=WARM, thinking_budget=9)
        found = model.answer([Request("q", QUESTION, generate=True)], config)
        if field is None:
            assert next(found)[1].failure == "rejected"
        else:
            with pytest.raises(InputError, match=rf"refuses the field {field} \(400: .*'{{\"{field}\": null}}'"):
                next(found)


@pytest.mark.parametrize("retry_after", [None, "0.05"])
def test_load_adapts_to_a_server_that_throttles(retry_after: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    requests = [Request(f"q{n}", to_json([{"role": "user", "content": f"q{n}"}]), generate=True) for n in range(80)]
    with serving(Script(capacity=3, seconds=0.005, retry_after=retry_after)) as server:
        model = connect(server.url, "m", chat=True, concurrency=32)
        found = dict(model.answer(requests, GenerationConfig(64)))
        assert sorted(found) == list(range(80)) and all(each.completion for each in found.values())
        assert set(server.asked.values()) == {1}, "nothing is asked twice"
        # Without adaption each of the 32 would be refused again and again.
        assert server.throttled < 80
    said = capsys.readouterr().err
    assert f"m: the server was overloaded {server.throttled:,} times" in said
    assert " of at most 32 concurrent requests at the end" in said


def test_the_limit_is_halved_once_per_overload_and_grows_by_one_per_round() -> None:
    limits = throttle.Throttle(16)
    with limits.slot():
        pass
    for _ in range(5):  # five requests that were sent together
        limits.overloaded(sent=0.5, pause_s=0)
    assert (limits.limit, limits.overloads) == (8, 5)
    for _ in range(9):
        limits.succeeded()
    assert limits.limit == 9
    for _ in range(200):
        limits.succeeded()
    assert limits.limit == 16


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert throttle.retry_after(headers) == seconds


def test_a_server_that_asks_for_a_long_pause_is_not_waited_for() -> None:
    problem = "answers 429 and asks for a pause of 3,600 seconds; run the same command again"
    with serving(Script(capacity=0, retry_after="3600")) as server, pytest.raises(InputError, match=problem):
        ask(server)


def test_an_evaluation_on_a_thinking_server(cli: Cli, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    with serving(Script()) as server:
        command = (
            "eval", "--backend", "openai", "--server", server.url, "--model", "m", "--benchmark", exam,
            "--language", "ja", "--selection", "all", "--scorer", "answer", "--answer-as", "letter", "--chat",
            "--thinking", "on", "--extra-body", '{"user": "u"}', "--thinking-budget", "5",
            "--output", tmp_path / "out", "--json",
        )  # fmt: skip
        code, _, errors = cli(*command)
        assert code == 0, errors
        assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": True, "thinking": True}
        assert (server.bodies[0]["user"], server.bodies[0]["thinking_token_budget"]) == ("u", 5)
        assert {each.forced for each in read_samples(tmp_path / "out" / "exam.ja.samples.jsonl").values()} == {True}
        settings = read_json(tmp_path / "out" / "exam.ja.json")["settings"]
        assert (settings["thinking"], settings["extra_body"]) == ("on", {"user": "u"})
        likely = [
            {"answer": "likelihood", "5": "6", "out": tmp_path / "likely"}.get(Path(each).name, each)
            for each in command
        ]
        code, output, errors = cli(*likely)
        assert code == 0, errors
        [note] = [each for each in json.loads(output)["tasks"][0]["notes"] if "log-probabilities" in each]
        assert note.startswith("Scorer likelihood: m thinks before it answers, but log-probabilities are those of")
        asked = len(server.bodies)
        code, _, errors = cli(*command[:-1])
        assert code == 0 and len(server.bodies) == asked, "nothing is asked again"
        code, _, errors = cli(*(each if each != "on" else "off" for each in command))
        assert code == 2 and "thinking" in errors, "other settings do not mix"
    code, _, errors = cli(
        "eval", "--model", tmp_path, "--benchmark", exam, "--extra-body", "{}", "--output", tmp_path / "o"
    )
    assert "--extra-body" not in errors
    code, _, errors = cli(
        "eval", "--model", tmp_path, "--benchmark", exam, "--extra-body", '{"a": 1}', "--output", tmp_path / "o"
    )
    assert code == 2 and "does not support further fields of a request (--extra-body); use backend openai" in errors


def test_a_result_says_that_thinking_was_not_off(cli: Cli, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=2)
    with serving(Script(deaf=True)) as server:
        code, output, errors = cli(
            "eval", "--backend", "openai", "--server", server.url, "--model", "m", "--benchmark", exam, "--chat",
            "--language", "ja", "--selection", "all", "--scorer", "answer", "--thinking", "off",
            "--output", tmp_path / "out", "--json",
        )  # fmt: skip
    assert code == 0, errors
    note = "m: 2 of 2 responses contain a thought although thinking is off: the server ignores the setting."
    assert note in json.loads(output)["tasks"][0]["notes"]
    assert cli("score", tmp_path / "out")[0] == 0
    assert read_json(tmp_path / "out" / "exam.ja.json")["notes"].count(note) == 1


@pytest.mark.parametrize(
    ("answer_as", "first"), [("letter", ["a, b", "a, c"]), ("text", ["脚気, 壊血病", "脚気, 痛風"])]
)
def test_an_evaluation_whose_replies_are_constrained(
    cli: Cli, tmp_path: Path, answer_as: str, first: list[str]
) -> None:
    rows = [
        {"id": "two", "question": "どれか。2つ選べ。", "choices": ["脚気", "壊血病", "痛風"], "answer": ["a", "c"]},
        {"id": "number", "question": "計算せよ。", "choices": [], "answer": "12.5"},
    ]
    exam = tmp_path / "exam.jsonl"
    exam.write_text("".join(to_json(row) + "\n" for row in rows), encoding="utf-8")
    command = ("eval", "--model", "m", "--benchmark", exam, "--scorer", "answer", "--answer-as", answer_as)
    command += ("--chat", "--constrain", "--output", tmp_path / "out")
    with serving(Script(thought=".", answer=lambda prompt, _: first[1] if "2つ" in prompt else "12.5")) as server:
        code, output, errors = cli(*command, "--backend", "openai", "--server", server.url, "--json")
        assert code == 0, errors
        allowed = {body["messages"][-1]["content"][:40]: body.get("structured_outputs") for body in server.bodies}
        assert sorted(map(str, allowed.values()))[0] == "None"
        assert next(filter(None, allowed.values()))["choice"][:2] == first
    result = json.loads(output)
    assert [score["correct"] for score in result["scores"]] == [2]
    assert "1 of 2 items are not constrained: they have no choices." in result["tasks"][0]["notes"]
    assert read_json(tmp_path / "out" / "exam.ja.json")["settings"]["constrain"] is True
    code, _, errors = cli(*command)
    assert code == 2 and "does not support constrained replies (--constrain); use backend vllm or openai" in errors


def test_repeated_items_measure_the_server_itself(cli: Cli, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=4)  # the right answers are a, b, c, d

    def answer(prompt: str, number: int) -> str:
        """Answer the first stem, of two items, in another way each time, and the second one in other words."""
        stem = prompt.count("ビタミン")
        return "ab"[number % 2] if stem == 1 else "b" + " ." * (number if stem == 2 else 0)

    command = (
        "eval", "--model", "m", "--benchmark", exam, "--language", "ja", "--selection", "all", "--scorer", "answer",
        "--answer-as", "letter", "--chat", "--output", tmp_path / "out",
    )  # fmt: skip
    with serving(Script(thought=".", answer=answer)) as server:
        served = (*command, "--backend", "openai", "--server", server.url, "--batch-size", "1")
        assert cli(*served)[0] == 0 and len(server.bodies) == 4
        code, output, errors = cli(*served, "--repeat", "3", "--json")
        assert code == 0, errors
        assert len(server.bodies) == 12, "the first replies are kept"
        assert all(body["temperature"] == 0 and "seed" not in body for body in server.bodies)
        code, _, errors = cli(*served, "--repeat", "3", "--decoding", "temperature=1")
        assert code == 2 and "--repeat 3: measures the variance of greedy decoding; ask for samples instead" in errors
    [found] = json.loads(output)["tasks"][0]["samples"]
    assert (found["n"], found["samples"], found["texts_differ"], found["answers_differ"]) == (4, 3, 3, 2)
    assert found["lowest"] < found["highest"]
    runs = [sample.response for sample in read_samples(tmp_path / "out" / "exam.ja.samples.jsonl").values()]
    assert len(runs) == 12
    code, output, errors = cli("report", tmp_path / "out")
    assert code == 0 and "Differences between samples" in output, errors
    code, _, errors = cli(*command, "--repeat", "2")
    assert code == 2 and "does not support repeated items (--repeat); use backend openai" in errors
