"""A running server is proved to serve the model, as far as its interface shows it.

The servers are scripted from the documented interfaces of vLLM 0.32 and Ollama 0.33, and compute with transformers.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from conftest import Cli, build_tiny
from jmedllm.deploy.endpoint import Endpoint
from jmedllm.deploy.gguf.source import Source, open_source
from jmedllm.deploy.servers.compare import divergence_of_listed, ids_of_texts
from jmedllm.deploy.servers.connect import chosen_model, interface, served_models
from jmedllm.deploy.servers.proof import ServerProof, prove_served
from jmedllm.errors import InputError
from jmedllm.models.loading import load_network
from jmedllm.precision import choose_precision

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] "
    "{% endif %}"
)
RENDERED = "[user] 糖尿病の合併症を三つ挙げてください。\n[assistant] "
OTHER = TEMPLATE.replace("[{{ m.role }}] ", "### {{ m.role }}: ")


ROWS: dict[tuple[Any, tuple[int, ...]], torch.Tensor] = {}


@dataclass
class Served:
    """What a server runs.

    Attributes:
        owner: `owned_by` of its model, by which servers are recognized.
        template: its chat template; None for none.
        ends: tokens at which it ends an answer.
        old: whether it is a version without log-probabilities and rendered chats.
    """

    network: Any
    tokenizer: Any
    owner: str
    template: str | None
    ends: Sequence[int]
    old: bool = False

    def __call__(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"data": [{"id": "m", "owned_by": self.owner}]}
        routes = {
            "/version": lambda _: {"version": "0.32.0"},
            "/api/version": lambda _: {"version": "0.33.2"},
            "/tokenize": self.tokenize,
            "/v1/completions": self.complete,
            "/api/show": self.show,
            "/api/chat": self.chat,
            "/api/generate": self.generate,
        }
        try:
            return (200, routes[path](body)) if path in routes else (404, {"error": "no such path"})
        except LookupError as error:
            return 400, {"error": {"message": str(error)}}

    def rendered(self, messages: Any) -> str:
        if self.template is None:
            raise LookupError("you must provide a chat template if the tokenizer does not define one")
        tokenizer = deepcopy(self.tokenizer)
        tokenizer.chat_template = self.template
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def tokenize(self, body: Any) -> Any:
        text = body["prompt"] if "prompt" in body else self.rendered(body["messages"])
        return {"tokens": self.tokenizer(text)["input_ids"]}

    @torch.no_grad()
    def write(self, ids: list[int], tokens: int, bias: Mapping[str, float]) -> tuple[list[int], torch.Tensor]:
        written: list[int] = []
        first = torch.empty(0)
        while len(written) < tokens and not (written and written[-1] in self.ends):
            row = self.row((*ids, *written)).clone()
            first = first if written else row.clone()
            for token, value in bias.items():
                row[int(token)] += value
            written.append(int(row.argmax()))
        return written, first

    def row(self, ids: tuple[int, ...]) -> torch.Tensor:
        """The log-probabilities after some tokens, which are computed once for all tests."""
        key = (self.network, ids)
        if key not in ROWS:
            ROWS[key] = self.network(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        return ROWS[key]

    def complete(self, body: Any) -> Any:
        given = body["prompt"] if isinstance(body["prompt"], list) else [self.tokenizer(body["prompt"])["input_ids"]]
        choices = []
        for index, ids in enumerate(given):
            written, first = self.write(ids, body["max_tokens"], body.get("logit_bias", {}))
            choice: dict[str, Any] = {"index": index, "text": self.text(written), "token_ids": written}
            choice["finish_reason"] = "stop" if written[-1] in self.ends else "length"
            if body.get("logprobs") and not self.old:
                by_id = body.get("return_tokens_as_token_ids")
                named = {
                    f"token_id:{i}" if by_id else self.tokenizer.decode([i]): v
                    for i, v in self.top(first, body["logprobs"])
                }
                choice["logprobs"] = {"top_logprobs": [named]}
            choices.append(choice)
        return {"choices": choices[::-1]}

    def top(self, row: torch.Tensor, count: int) -> list[tuple[int, float]]:
        values, ids = row.topk(count)
        return list(zip(ids.tolist(), values.tolist(), strict=True))

    def text(self, written: Sequence[int]) -> str:
        return str(self.tokenizer.decode([each for each in written if each not in self.ends]))

    def show(self, _: Any) -> Any:
        info = {"tokenizer.ggml.eos_token_id": self.ends[0] if self.ends else 7}
        return {"model_info": info, "parameters": 'stop    "<|other|>"', "capabilities": ["completion"]}

    def chat(self, body: Any) -> Any:
        assert body["_debug_render_only"] is True and "think" not in body
        return {} if self.old else {"_debug_info": {"rendered_template": self.rendered(body["messages"])}}

    def generate(self, body: Any) -> Any:
        assert body["raw"] is True and body["stream"] is False and body["options"]["temperature"] == 0
        ids = self.tokenizer(body["prompt"])["input_ids"]
        written, first = self.write(ids, body["options"]["num_predict"], {})
        reason = "stop" if written[-1] in self.ends else "length"
        answer = {"response": self.text(written), "done_reason": reason, "prompt_eval_count": len(ids)}
        if body.get("logprobs") and not self.old:
            tops = [
                {"token": self.tokenizer.decode([i]), "bytes": [*self.tokenizer.decode([i]).encode()], "logprob": v}
                for i, v in self.top(first, body["top_logprobs"])
            ]
            answer["logprobs"] = [{"top_logprobs": tops}]
        return answer


@contextmanager
def running(served: Served) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, answer = served(self.path, json.loads(self.rfile.read(length) or b"{}"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Endpoint(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def network_of(folder: Path) -> Any:
    return load_network(folder, torch.float32, torch.device("cpu")).eval()


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> tuple[Source, Any]:
    with open_source(str(tiny_model), None, choose_precision("float32", "cpu")) as source:
        tokenizer = deepcopy(source.tokenizer)
        tokenizer.chat_template = TEMPLATE
        return replace(source, tokenizer=tokenizer), network_of(tiny_model)


def proved(served: Served, source: Source, network: Any, ceiling: float = 1e-3) -> ServerProof:
    with running(served) as endpoint:
        models = served_models(endpoint)
        name = chosen_model(endpoint, models, None)
        asked = interface(endpoint, name, models[name])
        return prove_served(asked, network, source, ceiling=ceiling, answers=4, positions=8)


def honest(model: tuple[Source, Any], owner: str) -> Served:
    source, network = model
    return Served(network, source.tokenizer, owner, TEMPLATE, source.ends)


@pytest.mark.parametrize(
    ("owner", "title", "listed", "unseen"),
    [
        ("vllm", "vLLM 0.32.0", 20, []),
        ("library", "Ollama 0.33.2", 10, ["token ids: Ollama shows no token ids"]),
        pytest.param(
            "me",
            "an OpenAI-compatible server",
            2,
            ["token ids", "chat template", "end tokens"],
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_what_an_interface_shows_is_compared_and_the_rest_is_named(
    owner: str, title: str, listed: int, unseen: list[str], model: tuple[Source, Any]
) -> None:
    proof = proved(honest(model, owner), *model)
    assert proof.server == title and proof.answers.same == proof.answers.prompts == 4
    for each in proof.languages.values():
        assert each.kl < 1e-6 and each.top1 == 1 and each.positions == 16
        assert listed <= each.listed <= 20  # parts of a character have no text of their own
    assert len(proof.unseen) == len(unseen)
    assert all(found.startswith(each) for found, each in zip(proof.unseen, unseen, strict=True))
    assert (proof.chats, proof.ends) == ((None, None) if owner == "me" else (4, 1))


def negated(network: Any) -> Any:
    """A network that finds likely what the model finds unlikely."""
    found = deepcopy(network)
    found.model.norm.weight.data.neg_()
    return found


FAULTS: dict[str, tuple[Callable[[Served, Path], Served], str, tuple[str, ...]]] = {
    "other model": (
        lambda served, folder: replace(served, network=network_of(build_tiny(folder, seed=2))),
        "it does not serve this model",
        ("vllm", "library"),
    ),
    "damaged weights": (
        lambda served, _: replace(served, network=negated(served.network)),
        "it does not serve this model",
        ("vllm", "library", "me"),
    ),
    "lost template": (
        lambda served, _: replace(served, template=None),
        "no chat template: a chat becomes '' instead of",
        ("vllm",),
    ),
    "template of the content alone": (
        lambda served, _: replace(served, template="{{ messages[-1].content }}"),
        "another chat template: a chat becomes '糖尿病",
        ("library",),
    ),
    "swapped template": (
        lambda served, _: replace(served, template=OTHER),
        "another chat template: a chat becomes '### user: ",
        ("vllm", "library"),
    ),
    "lost EOS": (lambda served, _: replace(served, ends=()), "an answer does not end at", ("vllm", "library")),
}


def planted() -> Iterator[Any]:
    """Each fault with each server; every run has one of them."""
    for number, (fault, (_, _, owners)) in enumerate(FAULTS.items()):
        for place, owner in enumerate(owners):
            marks = [] if place == number % len(owners) else [pytest.mark.exhaustive]
            yield pytest.param(fault, owner, marks=marks)


@pytest.mark.parametrize(("fault", "owner"), planted())
def test_a_fault_of_a_server_is_refused(fault: str, owner: str, model: tuple[Source, Any], tmp_path: Path) -> None:
    plant, message, _ = FAULTS[fault]
    with pytest.raises(InputError, match=r"^server http://127\.0\.0\.1:\d+") as refused:
        proved(plant(honest(model, owner), tmp_path / "other"), *model)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_template_that_the_model_lacks_is_refused(model: tuple[Source, Any], tiny_model: Path) -> None:
    plain = deepcopy(model[0].tokenizer)
    plain.chat_template = None
    with pytest.raises(InputError, match="it renders chats with a template, and the model has none"):
        proved(honest(model, "vllm"), replace(model[0], tokenizer=plain), model[1])


def test_an_answer_that_goes_on_after_its_end_is_refused(model: tuple[Source, Any]) -> None:
    source, network = model
    served = honest(model, "me")
    [first], _ = served.write(source.tokenizer(RENDERED)["input_ids"], 1, {})
    with pytest.raises(InputError, match="an answer continues after"):
        proved(served, _with_ends(source, [first]), network)


def _with_ends(source: Source, ends: Sequence[int]) -> Source:
    class Ended(Source):
        @property
        def ends(self) -> list[int]:
            return [int(each) for each in ends]

    return Ended(source.folder, source.config, source.tokenizer, source.blocks)


def test_a_server_without_log_probabilities_cannot_be_proved(model: tuple[Source, Any]) -> None:
    with pytest.raises(InputError, match="it cannot be proved: predictions: this version of Ollama"):
        proved(replace(honest(model, "library"), old=True), *model)


def test_the_divergence_of_a_list_is_a_lower_bound() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        model, served = (torch.randn(300, generator=generator, dtype=torch.float64).log_softmax(-1) for _ in "ab")
        whole = float((model.exp() * (model - served)).sum())
        bounds = [divergence_of_listed(model, {i: float(served[i]) for i in range(n)}) for n in (0, 20, 150, 300)]
        assert bounds[0] == pytest.approx(0) and bounds == sorted(bounds) and bounds[-1] == pytest.approx(whole)
        assert divergence_of_listed(model, {i: float(model[i]) for i in range(20)}) == pytest.approx(0, abs=1e-12)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "share"), [("qwen2", 0.95), ("llm-jp-v2.2", 0.95)])
def test_the_tokens_of_real_tokenizers_are_known_by_their_text(name: str, share: float, shared: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    found = ids_of_texts(tokenizer, len(tokenizer))
    assert len(found) > share * len(tokenizer)
    assert {" the", "糖"} <= found.keys() and "the" in found and found["the"] != found[" the"]


def test_the_model_on_a_server_is_named_if_there_are_several(
    model: tuple[Source, Any], cli: Cli, tiny_model: Path
) -> None:
    endpoint = Endpoint("http://127.0.0.1:9")
    assert chosen_model(endpoint, {"a": "vllm"}, None) == "a"
    with pytest.raises(InputError, match="2 models; give one with --model: a, b"):
        chosen_model(endpoint, {"b": "vllm", "a": "vllm"}, None)
    with pytest.raises(InputError, match="no model c; give one with --model: a, b"):
        chosen_model(endpoint, {"b": "vllm", "a": "vllm"}, "c")
    with running(honest(model, "vllm")) as endpoint:
        code, _, errors = cli("deploy", "prove", "--server", endpoint.url, "--model", "n", "--against", tiny_model)
    assert code == 2 and "no model n; give one with --model: m" in errors
