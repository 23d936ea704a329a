"""The downloader against a server on loopback that serves real files, some of them badly."""

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hostile_server import BODY, Attack, attacking, bomb, endless, redirect
from jmedllm.data import catalogue, fetch, transport
from jmedllm.data.catalogue import SOURCES, File, Source
from jmedllm.errors import InputError
from jmedllm.named_server import ClientOptions

ANATOMY = "jmmlu/anatomy.csv"


class Server(ThreadingHTTPServer):
    """Serves a directory; `faults` says how the next answers for a path go wrong."""

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(directory)))
        self.faults: dict[str, list[str]] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        faults = self.server.faults.get(name, [])
        fault = faults.pop(0) if faults else "none"
        if fault.isdigit():
            self.send_error(int(fault))
        elif fault == "none":
            super().do_GET()
        else:
            body = Path(self.directory, name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:-1] if fault == "truncated" else body[:-1] + b"?")

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def server(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transport, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(shared) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["jmmlu", "medqa-5", "sukeda2024", "yakugakuqa"])
def test_get_from_a_server(server: Server, shared: Path, tmp_path: Path, name: str):
    fetched = fetch.get(name, tmp_path, mirror=server.address + "/")
    expected = [file.path for file in SOURCES[name].files]
    assert [one.path for one in fetched] == [tmp_path / path for path in expected]
    assert all(one.new for one in fetched)
    assert files(tmp_path) == sorted(expected)
    assert all((tmp_path / path).read_bytes() == (shared / path).read_bytes() for path in expected)


@pytest.mark.parametrize("mirror", ["folder", "file address"])
def test_get_from_a_folder(shared: Path, tmp_path: Path, mirror: str):
    place = str(shared) if mirror == "folder" else shared.resolve().as_uri()
    fetch.get("igakuqa", tmp_path, mirror=place)
    assert files(tmp_path) == [file.path for file in SOURCES["igakuqa"].files]


def test_right_files_are_kept(server: Server, shared: Path, tmp_path: Path):
    fetch.get("jmmlu", tmp_path, mirror=server.address)
    (tmp_path / ANATOMY).write_text("changed", encoding="utf-8")
    (tmp_path / "jmmlu/virology.csv").unlink()
    server.asked.clear()
    fetched = fetch.get("jmmlu", tmp_path, mirror=server.address)
    assert server.asked == [ANATOMY, "jmmlu/virology.csv"]
    assert sorted(one.path.name for one in fetched if one.new) == ["anatomy.csv", "virology.csv"]
    assert (tmp_path / ANATOMY).read_bytes() == (shared / ANATOMY).read_bytes()


@pytest.mark.parametrize("faults", [["500"], ["503", "429"], ["truncated"], ["truncated", "500"]])
def test_passing_faults_pass(server: Server, tmp_path: Path, faults: list[str]):
    server.faults[ANATOMY] = list(faults)
    fetch.get("jmmlu", tmp_path, mirror=server.address)
    assert server.asked.count(ANATOMY) == len(faults) + 1


@pytest.mark.parametrize(
    ("fault", "attempts", "message"),
    [
        (
            "500",
            3,
            "cannot fetch {url}: the server answers 500 Internal Server Error (3 attempts); "
            "try again later or use another --mirror",
        ),
        (
            "truncated",
            3,
            "cannot fetch {url}: truncated, 1 bytes are missing (3 attempts); try again later or use another --mirror",
        ),
        ("404", 1, "cannot fetch {url}: the server answers 404 Not Found; use another --mirror"),
        (
            "wrong",
            1,
            "jmmlu/anatomy.csv from {url} has another checksum: expected sha256 {expected}, found {found}; "
            "use another --mirror",
        ),
    ],
)
def test_lasting_fault(server: Server, shared: Path, tmp_path: Path, fault: str, attempts: int, message: str):
    server.faults[ANATOMY] = [fault] * 3
    with pytest.raises(InputError) as error:
        fetch.get("jmmlu", tmp_path, mirror=server.address)
    wrong = tmp_path / "wrong"
    wrong.write_bytes((shared / ANATOMY).read_bytes()[:-1] + b"?")
    values = {
        "url": f"{server.address}/{ANATOMY}",
        "expected": SOURCES["jmmlu"].files[0].sha256,
        "found": fetch.hash_file(wrong),
    }
    assert str(error.value) == message.format(**values)
    assert server.asked == [ANATOMY] * attempts
    assert files(tmp_path) == ["wrong"]  # nothing half-written


def test_a_wrong_file_does_not_replace_what_was_there(server: Server, tmp_path: Path):
    (tmp_path / "jmmlu").mkdir()
    (tmp_path / ANATOMY).write_text("an older edition", encoding="utf-8")
    server.faults[ANATOMY] = ["wrong"]
    with pytest.raises(InputError, match="has another checksum"):
        fetch.get("jmmlu", tmp_path, mirror=server.address)
    assert (tmp_path / ANATOMY).read_text(encoding="utf-8") == "an older edition"


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transport, "PAUSES", ())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as closed:
        port = closed.server_port
    with pytest.raises(InputError, match=r"Connection refused \(1 attempts\); try again later"):
        fetch.get("jmmlu", tmp_path, mirror=f"http://127.0.0.1:{port}")


def test_incomplete_folder(shared: Path, tmp_path: Path):
    mirror = tmp_path / "mirror"
    (mirror / "jmmlu").mkdir(parents=True)
    shutil.copyfile(shared / ANATOMY, mirror / ANATOMY)
    with pytest.raises(InputError, match=r"clinical_knowledge\.csv.*No such file.*; complete the mirror"):
        fetch.get("jmmlu", tmp_path / "data", mirror=str(mirror))
    assert files(tmp_path / "data") == [ANATOMY]


def test_unwritable_data_directory(shared: Path, tmp_path: Path):
    (tmp_path / "jmmlu").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(InputError) as error:
        fetch.get("jmmlu", tmp_path, mirror=str(shared))
    assert str(error.value) == (f"cannot write {tmp_path}/{ANATOMY}: File exists; free space or choose another --data")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("igakuq", {}, "unknown data source 'igakuq': did you mean igakuqa or igakuqa119 or yakugakuqa?"),
        (
            "medmcqa",
            {},
            "medmcqa cannot be downloaded from upstream; "
            "give --mirror: unpack dev.json of the original archive into MIRROR/medmcqa/",
        ),
        (
            "jmmlu",
            {"mirror": "/no/such/folder"},
            "--mirror /no/such/folder: no such folder; give a folder or an http, https or file address",
        ),
        (
            "jmmlu",
            {"mirror": "ftp://host"},
            "--mirror ftp://host: cannot fetch from there; give a folder or an http, https or file address",
        ),
        (
            "jmmlu",
            {"revision": "main"},
            "--revision main: a mirror or checksums fix the files of jmmlu; leave it out",
        ),
    ],
)
def test_what_cannot_be(tmp_path: Path, name: str, options: dict[str, str], message: str):
    with pytest.raises(InputError) as error:
        fetch.get(name, tmp_path, **options)
    assert str(error.value) == message


TEMPLATES = 'from liquid import Template\n\nalpaca = Template("""Do {{instruction}}\n""")\nother = 3\n'


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An upstream with a file that needs conversion and one that no checksum pins."""
    place = tmp_path / "upstream" / "abc"
    place.mkdir(parents=True)
    (place / "template.py").write_text(TEMPLATES, encoding="utf-8")
    base = place.as_uri()
    source = Source(
        name="toy",
        title="toy",
        licence="none",
        upstream="nowhere",
        revision="abc",
        files=(File("toy/t.json", None, f"{base}/template.py", catalogue.templates_as_json),),
    )
    monkeypatch.setattr(catalogue, "SOURCES", {"toy": source})
    return tmp_path


def test_upstream_is_converted(upstream: Path):
    fetch.get("toy", upstream / "data")
    assert '"alpaca": "Do {{instruction}}\\n"' in (upstream / "data/toy/t.json").read_text(encoding="utf-8")


def test_a_mirror_is_not_converted(upstream: Path):
    (upstream / "mirror/toy").mkdir(parents=True)
    (upstream / "mirror/toy/t.json").write_text("{}", encoding="utf-8")
    fetch.get("toy", upstream / "data", mirror=str(upstream / "mirror"))
    assert (upstream / "data/toy/t.json").read_text(encoding="utf-8") == "{}"


def test_another_revision_is_fetched_again(upstream: Path):
    fetch.get("toy", upstream / "data")
    assert [one.new for one in fetch.get("toy", upstream / "data")] == [False]
    (upstream / "upstream/v2").mkdir()
    (upstream / "upstream/v2/template.py").write_text("new = Template('x')", encoding="utf-8")
    assert [one.new for one in fetch.get("toy", upstream / "data", revision="v2")] == [True]
    assert '"new": "x"' in (upstream / "data/toy/t.json").read_text(encoding="utf-8")


def test_invalid_upstream_templates_are_refused(upstream: Path):
    (upstream / "upstream/abc/template.py").write_text("<html>no such page</html>", encoding="utf-8")
    with pytest.raises(InputError, match=r"the upstream templates are not a Python file: .*; use --mirror"):
        fetch.get("toy", upstream / "data")
    assert files(upstream / "data") == []


JUNK = {
    "junk of 28 bytes": b"<html>not what it was</html>",
    "no file of lines": b"[1, 2]\n",
    "nothing": b"",
    "one good line, then junk": b'{"question": "?"}\njunk\n',
}


@pytest.mark.parametrize("content", JUNK.values(), ids=JUNK)
def test_junk_is_not_kept_where_no_checksum_is_known(tmp_path: Path, content: bytes):
    for file in SOURCES["jmedbench"].files:
        (tmp_path / "mirror" / file.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / file.path).write_bytes(content)
    with pytest.raises(InputError, match=r"^jmedbench/usmleqa_jp/train.jsonl from file:\S+ is (not JSON Lines|empty)"):
        fetch.get("jmedbench", tmp_path / "data", mirror=str(tmp_path / "mirror"))
    assert files(tmp_path / "data") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk(shared: Path, tmp_path: Path):
    with pytest.raises(OSError, match="No space left"):
        transport.download((shared / ANATOMY).resolve().as_uri(), Path("/dev/full"), ClientOptions())


ATTACKS: dict[str, tuple[Attack, str]] = {
    "redirect to a file": (redirect("file:///etc/passwd"), "redirects to file:///etc/passwd, which is not followed"),
    "redirects for ever": (redirect("/jmmlu/anatomy.csv"), "more than 5 redirects"),
    "gzip bomb": (bomb("gzip"), "compresses its reply \\(gzip\\)"),
    "endless": (endless(BODY, b" " * 65536), "its reply is larger than 1 MiB"),
    "dripping": (endless(BODY, b" ", 0.02), "its reply has not ended after 2 seconds"),
    "stops": (endless(BODY + b"a", b"", 0.02), "nothing came for 0.2 seconds"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_server_that_attacks_is_one_line_and_leaves_nothing(
    tmp_path: Path, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "PAUSES", ())
    monkeypatch.setattr(transport, "FILE_MB", 1)
    monkeypatch.setattr(transport, "IDLE_S", 0.2 if attack == "stops" else 60.0)
    does, words = ATTACKS[attack]
    limit = ClientOptions(timeout_s=2.0 if attack == "dripping" else 60.0)
    with attacking(does, polite=False) as server, pytest.raises(InputError, match=f"cannot fetch .*{words}"):
        fetch.get("jmmlu", tmp_path, mirror=server.url, options=limit)
    assert files(tmp_path) == []


def test_a_redirect_to_another_host_is_followed(server: Server, shared: Path, tmp_path: Path) -> None:
    with attacking(redirect(f"{server.address}/{ANATOMY}"), polite=False) as first:
        transport.download(f"{first.url}/{ANATOMY}", tmp_path / "file", ClientOptions())
    assert (tmp_path / "file").read_bytes() == (shared / ANATOMY).read_bytes()


@pytest.mark.parametrize(
    ("place", "location", "to"),
    [
        ("https://a.example/x/y", "z", "https://a.example/x/z"),
        ("https://a.example/x", "https://cdn.example/x?signed=1", "https://cdn.example/x?signed=1"),
        ("http://a.example/x", "https://a.example/x", "https://a.example/x"),
        ("https://a.example/x", "http://a.example/x", None),
        ("https://a.example/x", "http://127.0.0.1/x", None),
        ("http://a.example/x", "http://127.0.0.1:8080/x", None),
        ("http://a.example/x", "http://localhost/x", None),
        ("http://a.example/x", "http://127.1/x", None),
        ("http://a.example/x", "http://2130706433/x", None),
        ("http://a.example/x", "http://0x7f.1:8080/x", None),
        ("http://a.example/x", "http://0.0.0.0/x", None),
        ("http://a.example/x", "http://[::ffff:127.0.0.1]/x", None),
        ("http://a.example/x", "http://127.0.0.1.b.example/x", "http://127.0.0.1.b.example/x"),
        ("http://a.example/x", "ftp://a.example/x", None),
        ("http://a.example/x", "//[", None),
    ],
)
def test_where_a_redirect_may_lead(place: str, location: str, to: str | None) -> None:
    if to is not None:
        assert transport.next_place("the file", place, location) == to
        return
    with pytest.raises(InputError, match=r"cannot fetch the file: redirects to .* not followed"):
        transport.next_place("the file", place, location)
