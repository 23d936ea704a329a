"""The chat page as people use it, in headless Chromium, with a scripted server."""

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from scripted_model import END, THINKING, ScriptedModel
from scripted_server import Reply, ScriptedServer, echo, question, serving

from jmedllm.serving import page as page_package
from jmedllm.serving.app import Service, create_app
from jmedllm.serving.model import Format
from jmedllm.serving.run import listen

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]

QUESTION = "壊血病の原因はどれか。\na　ビタミンA\nb　ビタミンB1\nc　ビタミンC\nd　ビタミンD\n正解 c"

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><use href='#x'/></svg>",
    "<svg><script href='data:text/javascript,alert(1)'/></svg>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<object data='http://example.com/x'></object>",
    "<embed src='//example.com/x.swf'>",
    "<link rel=stylesheet href='http://example.com/x.css'>",
    "<style>@import 'http://example.com/x.css'; body{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=http://example.com'>",
    "<base href='http://example.com/'>",
    "<form action='http://example.com'><input name=key></form>",
    "<details open ontoggle=alert(1)>x</details>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<audio src='http://example.com/a' autoplay onerror=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<body onload=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<template><img src=x onerror=alert(1)></template>",
    "[click](javascript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "![x](http://example.com/pixel.png)",
    "![x](x' onerror='alert(1))",
    "<http://example.com> https://example.com/?key=secret",
    "**<b onmouseover=alert(1)>x</b>**",
    "`<img src=x onerror=alert(1)>`",
    "```html\n<script>alert(1)</script>\n```",
    "```\n<script>alert(1)</script>",
    "| <script>alert(1)</script> | b |\n|---|---|\n| <img src=x onerror=alert(1)> | [x](javascript:alert(1)) |",
    "- <img src=x onerror=alert(1)>\n  - <script>alert(1)</script>\n1. <svg/onload=alert(1)>",
    "# <img src=x onerror=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62; &amp;",
    "\u202egnp.exe \u2066isolated\u2069 \u200bzero\u200b \u2028line",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00 \x08\x08\x08 \x9b31m",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= 1 %>",
    "' onfocus=alert(1) autofocus x='\" onmouseover=alert(1) y=\"",
    "\ud83d\ude00 \U0001f468\u200d\u2695\ufe0f e\u0301\u0301\u0301 " + "Z\u0300\u0301\u0302\u0303" * 200,
    "__proto__ constructor toString hasOwnProperty",
    "*" * 3000 + "`" * 3001 + "|" * 3000 + "\n|-|-|\n" + "- " * 3000,
]


ALLOWED = {*("DIV", "P", "PRE", "CODE", "STRONG", "UL", "OL", "LI", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD")}
ALLOWED |= {"H3", "BR", "SPAN"}

ASK_ALL = """async (count) => {
  for (let index = 0; index < count; index++) {
    document.querySelector("#question").value = String(index);
    document.querySelector("#send").click();
    while (!document.querySelector("#stop").hidden) await new Promise((done) => setTimeout(done, 5));
  }
  const elements = (answer) => [...answer.querySelectorAll("*")];
  const names = (element) => [...element.attributes].map((attribute) => attribute.name);
  return [...document.querySelectorAll(".from-assistant > .text")].map(
    (answer) => [answer.textContent, elements(answer).map((element) => [element.tagName, names(element)])]);
}"""
"""Asks one question after another, and returns text, elements and attributes of each answer."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine; on Debian: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


class Chat:
    """The opened page, and all that went wrong on it."""

    def __init__(self, browser: Any, server: ScriptedServer, locale: str = "en-US", width: int = 1280) -> None:
        self.server = server
        self.problems: list[str] = []
        self.context = browser.new_context(
            locale=locale, viewport={"width": width, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
        )
        self.context.route("**/*", self.allow)
        self.page = self.context.new_page()
        self.page.set_default_timeout(5000)
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))
        self.load()

    def allow(self, route: Any) -> None:
        address = route.request.url
        if not address.startswith(f"{self.server.url}/"):
            self.problems.append(address)
            route.abort()
        else:
            route.continue_()

    def load(self) -> None:
        self.page.goto(self.server.url)
        self.page.wait_for_selector("html[data-ready]")

    def ask(self, text: str) -> str:
        self.page.fill("#question", text)
        self.page.keyboard.press("Control+Enter")
        return self.finished()

    def until(self, expression: str) -> None:
        """Wait. Playwright's own function would need `unsafe-eval`, which the page forbids."""
        deadline = time.monotonic() + 5
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            self.page.wait_for_timeout(20)

    def finished(self) -> str:
        self.until("!document.querySelector('.writing') && document.querySelector('#stop').hidden")
        answers = self.page.query_selector_all(".from-assistant > .text")
        return str(answers[-1].inner_text()) if answers else ""

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


@pytest.fixture
def chat(browser: Any, server: ScriptedServer) -> Iterator[Chat]:
    chat = Chat(browser, server)
    yield chat
    assert chat.problems == []
    chat.context.close()


def test_a_chat_from_the_first_question_to_a_reload(chat: Chat) -> None:
    assert "medical-8b" in chat.text("#model")
    assert chat.ask("first\nquestion") == "You asked: first\nquestion"
    assert chat.ask("second") == "You asked: second"
    assert [message["role"] for message in chat.server.requests[-1]["messages"]] == ["user", "assistant", "user"]
    assert re.search(r"medical-8b · 1a2b3c1a2b3c · .* s · 2 tokens( · .* tokens/s)?", chat.text(".about >> nth=-1"))
    chat.page.click("text=Regenerate")
    chat.finished()
    assert chat.server.requests[-1] == chat.server.requests[-2]
    chat.page.click("text=Edit")
    assert chat.page.input_value("#question") == "second"
    assert chat.ask("third") == "You asked: third"
    assert [m["content"] for m in chat.server.requests[-1]["messages"]][::2] == ["first\nquestion", "third"]
    chat.load()
    assert chat.finished() == "You asked: third"
    assert chat.page.locator(".message").count() == 4
    assert "Not a medical device" in chat.text("#device")


def test_an_exam_question_is_answered_with_probabilities(chat: Chat) -> None:
    chat.server.reply = lambda body: Reply(thought=("Scurvy ", "is a deficiency."))
    chat.page.check("input[value=exam]", force=True)
    chat.page.fill("#question", QUESTION)
    assert "4 choices found" in chat.text("#choices-line")
    assert "正解 c" in chat.text("#left-out")
    chat.page.fill("#choices li:nth-child(4) input:nth-child(2)", "ビタミンK")
    chat.page.click("#send")
    chat.finished()
    assert chat.server.requests[-1]["structured_outputs"] == {"choice": ["a", "b", "c", "d"]}
    assert chat.server.requests[-1]["logprobs"] is True
    assert "ビタミンK" in question(chat.server.requests[-1])
    assert "正解" not in question(chat.server.requests[-1])
    assert chat.text(".chosen") == "Chosen: c. ビタミンC"
    shares = [float(text.rstrip(" %")) for text in chat.page.locator(".number").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert max(shares) == shares[2]
    assert "not calibrated" in chat.text(".from-assistant")
    assert not chat.page.locator(".thought .text").is_visible()


def test_hostile_answers_are_text(chat: Chat) -> None:
    chat.server.reply = lambda body: Reply((HOSTILE[int(question(body))],))
    answers = chat.page.evaluate(ASK_ALL, len(HOSTILE))
    assert len(answers) == len(HOSTILE)
    for source, (shown, elements) in zip(HOSTILE, answers, strict=True):
        assert {tag for tag, _ in elements} <= ALLOWED, source
        assert {name for _, names in elements for name in names} <= {"class", "tabindex", "start"}, source
        assert not re.search(r"[\u202a-\u202e\u2066-\u2069\u2028\u200b\x00-\x08\x0b-\x1f\x7f-\x9f]", shown), source
        if "alert(1)" in source:
            assert "alert(1)" in shown, source
    assert chat.page.title().startswith("0 ")


ERRORS = {
    "stopped in the middle": (Reply(("Half",), cut=True), "The server stopped in the middle", "Half"),
    "busy": (Reply(status=503, message="queue", headers={"Retry-After": "7"}), "retry in 7 s", ""),
    "context": (Reply(status=400, message="5000 tokens; the context has 4096"), "start a new one. (5000", ""),
    "refused": (Reply(status=400, message="temperature: not below 0"), "refused: temperature: not below 0", ""),
    "key": (Reply(status=401, message="wrong key"), "The key is no longer valid", ""),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_with_what_to_do(browser: Any, server: ScriptedServer, name: str) -> None:
    reply, line, kept = ERRORS[name]
    chat = Chat(browser, server)
    server.reply = lambda body: reply
    assert chat.ask("question").startswith(kept)
    assert line in chat.text("#problem")
    assert chat.page.locator("#problem button").count() == 1
    server.reply = echo
    if name == "context":
        chat.page.click("#problem button")
        assert chat.page.input_value("#question") == "question"
    elif name != "key":
        chat.page.click("#problem button")
        assert chat.finished() == "You asked: question"
    chat.context.close()


def test_an_answer_that_cannot_be_regenerated_stays(chat: Chat) -> None:
    chat.ask("question")
    chat.server.reply = lambda body: Reply(status=503, message="all slots are busy")
    chat.page.click("text=Regenerate")
    assert chat.finished() == "You asked: question" and "all slots are busy" in chat.text("#problem")
    chat.server.reply = lambda body: Reply(["Another."])
    chat.page.click("#problem button")
    assert chat.finished() == "Another."
    assert chat.page.locator(".message").count() == 2
    chat.problems.clear()  # the console shows the status


@pytest.mark.exhaustive
def test_escape_stops_the_answer_and_a_reload_keeps_it(chat: Chat) -> None:
    chat.server.reply = lambda body: Reply([f"{number} " for number in range(1000)], wait=0.01)
    chat.page.fill("#question", "count")
    chat.page.keyboard.press("Control+Enter")
    chat.until("document.querySelector('.from-assistant')?.innerText.includes('10 ')")
    chat.page.keyboard.press("Escape")
    assert "0 1 2" in chat.finished()
    assert "Stopped here" in chat.text(".note")
    chat.page.wait_for_timeout(100)
    assert chat.server.ended == ["client left"]
    chat.page.fill("#question", "again")
    chat.page.keyboard.press("Control+Enter")
    chat.until("document.querySelectorAll('.from-assistant')[1]?.innerText.includes('40 ')")
    chat.load()
    assert "0 1 2" in chat.finished()
    assert "Interrupted" in chat.text(".note >> nth=-1")


@pytest.mark.exhaustive
def test_history_is_exported_erased_and_imported(chat: Chat, tmp_path: Path) -> None:
    chat.ask("of the first chat")
    chat.page.click("#new-chat")
    chat.ask("of the second chat")
    chat.page.click("#open-settings")
    with chat.page.expect_download() as download:
        chat.page.click("#export-all")
    file = tmp_path / "chats.json"
    download.value.save_as(file)
    assert len(json.loads(file.read_text())["chats"]) == 2
    chat.page.click("#erase-all")
    chat.page.click("#ask-yes")
    chat.until("document.querySelector('#chats .none')")
    chat.load()
    assert chat.page.locator("#chats .open").count() == 0
    chat.page.click("#open-settings")
    chat.page.set_input_files("#import-file", file)
    chat.until("document.querySelectorAll('#chats .open').length === 2")
    (tmp_path / "other.json").write_text('{"format": "other"}')
    chat.page.set_input_files("#import-file", tmp_path / "other.json")
    chat.until("document.querySelector('#history-line').innerText.includes('not a file')")
    chat.page.uncheck("#keep")
    chat.page.keyboard.press("Escape")
    assert chat.text("#kept") == "Chats are not kept"


@pytest.mark.exhaustive
def test_the_page_in_japanese_on_a_phone(browser: Any, server: ScriptedServer) -> None:
    chat = Chat(browser, server, locale="ja-JP", width=390)
    assert "医療機器ではありません" in chat.text("#device")
    chat.ask("質問")
    width = chat.page.evaluate("document.documentElement.scrollWidth")
    assert width == 390
    chat.page.click("#open-menu")
    chat.page.click("#other-language")
    assert "Not a medical device" in chat.text("#device")
    chat.page.keyboard.press("Escape")
    assert chat.problems == []
    chat.context.close()


@pytest.mark.exhaustive
def test_a_question_without_an_answer_is_not_sent_again(chat: Chat) -> None:
    chat.ask("first")
    chat.server.reply = lambda body: Reply((), finish="length")
    chat.ask("nothing comes back")
    chat.server.reply = echo
    chat.ask("last")
    sent = [message["content"] for message in chat.server.requests[-1]["messages"]]
    assert sent == ["first", "You asked: first", "last"]


LONG = {
    "one line": "x" * 1_000_000,
    "one line with marks": "**a** `b` | " * 80_000,
    "many items": "- item\n" * 14_000,
    "many paragraphs": "a\n\n" * 30_000,
    "deep items": "".join(" " * depth + "- x\n" for depth in range(400)),
    "fences": "```\n" * 20_000,
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LONG)
def test_long_answers_do_not_block_the_page(chat: Chat, name: str) -> None:
    size = len(LONG[name])
    chat.server.reply = lambda body: Reply([LONG[name][at : at + size // 50] for at in range(0, size, size // 50)])
    started = time.monotonic()
    assert chat.ask("long")
    assert time.monotonic() - started < 5
    assert chat.page.evaluate("document.querySelector('#scroll').scrollWidth <= innerWidth")


@pytest.mark.exhaustive
def test_enter_while_the_input_method_composes_sends_nothing(chat: Chat) -> None:
    chat.page.fill("#question", "かんじ")
    for keys in ("isComposing: true", "keyCode: 229"):
        chat.page.evaluate(
            "document.querySelector('#question').dispatchEvent(new KeyboardEvent('keydown', "
            f"{{key: 'Enter', ctrlKey: true, bubbles: true, {keys}}}))"
        )
    chat.page.keyboard.press("Enter")
    assert chat.server.requests == []
    assert chat.page.input_value("#question") == "かんじ\n"


@contextmanager
def real_server(model: ScriptedModel, key: str) -> Iterator[str]:
    """Serve a scripted model with the application of `jmedllm deploy serve`."""
    opened = listen(0)
    port = opened.getsockname()[1]
    app = create_app(Service(model, key, port))
    server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    opened.listen()
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.mark.exhaustive
def test_the_page_of_the_real_server_from_the_key_to_an_exam(browser: Any) -> None:
    key = "k" * 20
    model = ScriptedModel(
        "<think>Scurvy.</think>c", Format(THINKING, ends=(END,), fingerprint="ab" * 32), context=2000
    )
    with real_server(model, key) as url, closing(browser.new_page(locale="en-US")) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(url)
        page.fill("#key", "wrong" * 5)
        page.click("button")
        page.fill("#key", key)
        page.click("button")
        page.wait_for_selector("html[data-ready]")
        assert page.url == f"{url}/"
        page.fill("#question", "Which vitamin?")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".about")
        assert page.inner_text(".from-assistant > .text") == "c"
        assert page.text_content(".thought .text") == "Scurvy."
        assert page.inner_text(".about").startswith("scripted · abababababab · ")
        page.click("#open-settings")
        page.uncheck("#think")
        page.keyboard.press("Escape")
        page.check("input[value=exam]", force=True)
        page.fill("#question", QUESTION)
        page.click("#send")
        page.wait_for_selector(".shares")
        assert page.locator(".number").count() == 4
        assert all(each.startswith((f"{url}/", "data:")) for each in requests)
        assert "<think></think>" in model.prompts[-1]


UNNAMED = """() => [...document.querySelectorAll("button, input, select, textarea, summary, [role=log]")]
  .filter((each) => each.offsetParent && !each.getAttribute("aria-label") && !each.labels?.length
    && !each.textContent.trim() && each.getAttribute("role") !== "log").map((each) => each.outerHTML)"""


@pytest.mark.exhaustive
def test_every_control_has_a_name_and_the_focus_goes_through_all(chat: Chat) -> None:
    chat.ask("hello")
    chat.page.check("input[value=exam]", force=True)
    chat.page.fill("#question", QUESTION)
    chat.page.click("#open-settings")
    assert chat.page.evaluate(UNNAMED) == []
    chat.page.keyboard.press("Escape")
    reached = []
    chat.page.focus("#new-chat")
    for _ in range(40):
        reached.append(chat.page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        chat.page.keyboard.press("Tab")
    controls = ["new-chat", "open-settings", "Edit", "Copy", "Regenerate", "question", "add-choice", "select", "send"]
    places = [reached.index(name) for name in controls]
    assert places == sorted(places)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast(theme: int) -> None:
    style = (Path(page_package.__file__).parent / "page.css").read_text(encoding="utf-8")
    colours = {name: pair.split(", ")[theme] for name, pair in re.findall(r"--([\w-]+): light-dark\((#.*?)\);", style)}

    def luminance(name: str) -> float:
        parts = [int(colours[name][at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
        return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    def contrast(first: str, second: str) -> float:
        light, dark = sorted((luminance(first), luminance(second)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    on_grounds = [(text, ground) for text in ("ink", "muted", "accent", "warn") for ground in ("ground", "panel")]
    pairs = [*on_grounds, ("ink", "tint"), ("muted", "tint"), ("on-accent", "accent"), ("ink", "warn-ground")]
    assert {pair: contrast(*pair) for pair in pairs if contrast(*pair) < 4.5} == {}
    assert contrast("field", "ground") > 2.9  # borders of fields
