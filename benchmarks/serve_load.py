"""Load test of `jmedllm deploy serve`: concurrent clients, none of whose requests may be lost or mixed up.

python benchmarks/serve_load.py FILE.gguf|MODEL [--clients 8] [--requests 500] [--slots 4]

A third of the requests are restricted to choices that no other request has, so that a mixed-up answer shows. All
report their number of prompt tokens, which is counted first. A tenth of the streams are left after
their first part.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

QUESTIONS = (
    "A lack of vitamin C leads to",
    "糖尿病の合併症は",
    "高血圧の患者が",
    "The liver is",
    "68歳の男性。3日前からの発熱と咳嗽を主訴に来院した。体温38.6℃、脈拍104/分、呼吸数24/分。右下肺野に",
    "Her fasting plasma glucose is 162 mg/dL and her hemoglobin A1c is 7.9 %. Metformin is started, and she",
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    key: str
    process: psutil.Process

    def open(self, path: str, body: Mapping[str, Any]) -> tuple[HTTPConnection, Any]:
        """Send a request; return the connection and the response."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=600)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        return connection, connection.getresponse()

    def memory(self) -> dict[str, float]:
        """Return the resident memory of the front and of its child in MB."""
        children = self.process.children(recursive=True)
        return {
            "front": self.process.memory_info().rss / 1e6,
            "child": sum(each.memory_info().rss for each in children) / 1e6,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """A finished request: `fault` is empty, or what was wrong."""

    seconds: float
    tokens: int
    left: bool = False
    fault: str = ""


@contextmanager
def serving(model: Path, slots: int, threads: int, folder: Path) -> Iterator[Server]:
    """Serve a model until the block ends."""
    command = [sys.executable, "-m", "jmedllm", "deploy", "serve", str(model), "--port", "0", "--slots", str(slots)]
    command += ["--threads", str(threads), "--key-file", str(folder / "key"), "--trust"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            line = next((each for each in process.stdout if each.startswith("browser: ")), None)
            if line is None:
                sys.exit((folder / "log").read_text())
            address = urlsplit(line.split()[1])
            assert address.port is not None
            yield Server(address.port, parse_qs(address.query)["key"][0], psutil.Process(process.pid))
        finally:
            process.terminate()


def body_of(number: int, tokens: int) -> tuple[dict[str, Any], bool]:
    """Return the body of a request, and whether the client leaves after the first part of the answer."""
    prompt = f"[{number}] {QUESTIONS[number % len(QUESTIONS)]}" * (1 + number % 3)
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": 1 + (number * 7) % tokens, "stream": number % 2 == 1}
    if number % 3 == 0:
        body |= {"structured_outputs": {"choice": [f"{number}a", f"{number}b"]}, "max_tokens": tokens}
    leaves = body["stream"] and number % 3 != 0 and number % 10 == 1
    return body, leaves


def ask(server: Server, model: str, number: int, tokens: int, prompt_tokens: int) -> Result:
    """Send a request and check its answer."""
    body, leaves = body_of(number, tokens)
    extra = {"model": model} | ({"stream_options": {"include_usage": True}} if body["stream"] else {})
    began = time.monotonic()
    connection, response = server.open("/v1/completions", body | extra)
    try:
        if response.status != 200:
            return Result(0, 0, fault=f"{number}: {response.status} {response.read()[:200]!r}")
        text, finish, usage = "", None, {}
        for event in _events(response, body["stream"]):
            for choice in event["choices"]:
                text, finish = text + choice["text"], choice["finish_reason"] or finish
            usage = event.get("usage") or usage
            if leaves:
                return Result(time.monotonic() - began, 0, left=True)
    finally:
        connection.close()
    allowed = body.get("structured_outputs", {}).get("choice")
    faults = [
        "no end" if finish not in ("stop", "length") else "",
        f"answer {text!r} is not among {allowed}" if allowed and text not in allowed else "",
        f"prompt of {usage.get('prompt_tokens')} tokens, not {prompt_tokens}"
        * (usage["prompt_tokens"] != prompt_tokens),
        f"{usage['completion_tokens']} tokens" if usage["completion_tokens"] > body["max_tokens"] else "",
    ]
    return Result(
        time.monotonic() - began,
        usage["completion_tokens"],
        fault="; ".join(f"{number}: {each}" for each in faults if each),
    )


def _events(response: Any, is_stream: bool) -> Iterator[Any]:
    if not is_stream:
        yield json.loads(response.read())
        return
    for line in response:
        if line.startswith(b"data: {"):
            event = json.loads(line[len(b"data: ") :])
            if "error" in event:
                return
            yield event
        elif line.startswith(b"data: [DONE]"):
            return


def run(
    server: Server, model: str, numbers: range, clients: int, tokens: int, counts: list[int]
) -> tuple[list[Result], float]:
    """Send requests with some clients; return the results and the seconds."""
    left: SimpleQueue[int] = SimpleQueue()
    for number in numbers:
        left.put(number)
    results: list[Result] = []

    def client() -> None:
        while True:
            try:
                number = left.get_nowait()
            except Empty:
                return
            try:
                results.append(ask(server, model, number, tokens, counts[number]))
            except (OSError, ValueError, KeyError) as error:
                results.append(Result(0, 0, fault=f"{number}: {type(error).__name__} {error}"))

    began = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, time.monotonic() - began


def shown(results: list[Result], seconds: float) -> str:
    """Return a line with the figures of a run."""
    whole = [each for each in results if not each.left and not each.fault]
    times = sorted(each.seconds for each in whole)
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    rate = sum(each.tokens for each in whole) / seconds
    faults = sum(bool(each.fault) for each in results)
    left = len(results) - len(whole) - faults
    return (
        f"{len(results)} requests in {seconds:.0f} s: {len(whole)} answered, {left} left by their client, "
        f"{faults} faults; p50 {statistics.median(times):.2f} s, p99 {p99:.2f} s, {rate:.0f} tokens/s"
    )


def main() -> None:
    """Run the load test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=48)
    options = parser.parse_args()
    with (
        TemporaryDirectory(prefix="serve-load-") as folder,
        serving(options.model, options.slots, options.threads, Path(folder)) as server,
    ):
        name = options.model.stem if options.model.is_file() else options.model.name
        counts = []
        for number in range(options.requests):
            connection, response = server.open(
                "/tokenize", {"prompt": body_of(number, options.max_tokens)[0]["prompt"]}
            )
            answer = json.loads(response.read())
            connection.close()
            counts.append(answer.get("count") or len(answer["tokens"]))
        few = range(min(options.requests, 60))
        print(f"{options.model.name}, {os.cpu_count()} CPUs, {options.slots} slots")
        print("1 client:", shown(*run(server, name, few, 1, options.max_tokens, counts)))
        before = server.memory()
        quarter = options.requests // 4
        results, seconds = run(server, name, range(quarter), options.clients, options.max_tokens, counts)
        middle = server.memory()
        more, took = run(server, name, range(quarter, options.requests), options.clients, options.max_tokens, counts)
        after = server.memory()
        results += more
        print(f"{options.clients} clients:", shown(results, seconds + took))
        for part in before:
            sizes = ", ".join(f"{each[part]:.0f}" for each in (before, middle, after))
            print(f"memory of the {part} with 1 client, after a quarter and at the end: {sizes} MB")
        faults = [each.fault for each in results if each.fault]
        print(*faults[:10], sep="\n", end="\n" if faults else "")
        sys.exit(1 if faults or len(results) != options.requests else 0)


if __name__ == "__main__":
    main()
