"""`jmedllm doctor`, on files of Linux and answers of nvidia-smi as real machines have them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Cli
from jmedllm.doctor import Check, table, worst
from jmedllm.doctor import machine as machine_checks
from jmedllm.doctor import network as network_checks
from jmedllm.doctor import software as software_checks
from jmedllm.doctor.network import check_network
from jmedllm.doctor.permissions import check_permissions
from jmedllm.doctor.variables import check_variables

ROUTE = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
NEAR = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
OUT = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
OUT_6 = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 "
    "00000400 00000003 00000000 00000003     eth0\n"
)
LO_6 = f"{'0' * 31}1 80 {'0' * 32} 00 {'0' * 32} 00000000 00000002 00000000 80200001       lo\n"
TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
END = "00000000:00000000 00:00000000 00000000  1000        0 {} 1 0000000000000000 100 0 0 10 0\n"
LOCAL = f"   0: 0100007F:1F90 00000000:0000 0A {END.format(11)}"
OPEN = f"   1: 00000000:0016 00000000:0000 0A {END.format(12)}"
CONNECTED = f"   2: 0A0200C0:D431 0102A8C0:01BB 01 {END.format(13)}"
LOCAL_6 = f"   0: 00000000000000000000000001000000:1F91 {'0' * 32}:0000 0A {END.format(14)}"
MAPPED_6 = f"   0: 0000000000000000FFFF00000100007F:1F92 {'0' * 32}:0000 0A {END.format(15)}"
OPEN_6 = f"   1: {'0' * 32}:0050 {'0' * 32}:0000 0A {END.format(16)}"

NETWORKS = {
    "alone": ((ROUTE, "", TCP, TCP, ""), {"routes": ("ok", "none but this machine"), "listeners": ("ok", "none")}),
    "near": (
        (ROUTE + NEAR, LO_6, TCP + LOCAL, TCP + LOCAL_6 + MAPPED_6, "# nameserver 192.0.2.1\n"),
        {
            "routes": ("ok", "only near: 192.0.2.0/24 by eth0"),
            "name servers": ("ok", "none"),
            "listeners": ("ok", "3, all on this machine only"),
        },
    ),
    "open": (
        (ROUTE + OUT + NEAR, OUT_6, TCP + LOCAL + OPEN + CONNECTED, TCP + OPEN_6, "nameserver 10.0.0.53\n"),
        {
            "routes": ("warning", "to everywhere: eth0 by 192.0.2.1, eth0 by fd00::1"),
            "name servers": ("warning", "10.0.0.53"),
            "listeners": ("warning", "0.0.0.0:22 sshd (7), [::]:80 (of another user)"),
        },
    ),
}


@pytest.mark.skipif(sys.byteorder == "big", reason="the kernel prints addresses in the machine's byte order")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network(tmp_path: Path, name: str) -> None:
    contents, expected = NETWORKS[name]
    files = ("net/route", "net/ipv6_route", "net/tcp", "net/tcp6", "resolv.conf")
    for file, content in zip(files, contents, strict=True):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content, encoding="ascii")
    process = tmp_path / "7"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "3").symlink_to("socket:[12]")
    (process / "comm").write_text("sshd\n")
    (process / "cmdline").write_bytes(b"/usr/sbin/sshd\0-D\0")
    found = {check.name: (check.status, check.found) for check in check_network(tmp_path, tmp_path / "resolv.conf")}
    assert found == found | expected


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_program_that_listens_is_named() -> None:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        inode = str(os.fstat(opened.fileno()).st_ino)
        assert inode in {each.inode for each in network_checks._listening(Path("/proc/net/tcp"))}
        named = network_checks._programs(Path("/proc"), {inode})
    assert named[inode].endswith(f"({os.getpid()})")


VARIABLES = {
    "HTTPS_PROXY": "proxies",
    "all_proxy": "proxies",
    "WANDB_PROJECT": "trackers",
    "MLFLOW_TRACKING_URI": "trackers",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "trackers",
    "OPENAI_API_KEY": "keys",
    "HF_TOKEN": "keys",
    "HUGGING_FACE_HUB_TOKEN": "keys",
    "AWS_SECRET_ACCESS_KEY": "keys",
    "PGPASSWORD": "keys",
    "GITHUB_TOKEN": "keys",
    "HF_ENDPOINT": "remote places",
    "OPENAI_BASE_URL": "remote places",
    "PATH": None,
    "JMEDLLM_API_KEY": None,
    "WANDB_MODE": None,
}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_is_named_without_its_value(name: str) -> None:
    checks = list(check_variables({name: "s3cret-value"}))
    assert [check.name for check in checks if check.status == "warning"] == [VARIABLES[name]] * bool(VARIABLES[name])
    assert "s3cret" not in repr(checks)


MODES = {
    "private": ((0o700, 0o600), "ok"),
    "closed folder": ((0o700, 0o644), "ok"),
    "readable": ((0o755, 0o644), "fix"),
    "by the group": ((0o750, 0o640), "fix"),
    "open but private files": ((0o755, 0o600), "ok"),
    "writable folder": ((0o777, 0o600), "fix"),
}


@pytest.mark.parametrize("name", MODES)
def test_permissions_of_a_run(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder_mode, file_mode), status = MODES[name]
    monkeypatch.setattr(
        "jmedllm.doctor.permissions._may_enter",
        lambda path: not path.is_relative_to(tmp_path) or bool(path.stat().st_mode & 0o011),
    )  # the folders of pytest are closed
    tmp_path.chmod(0o755)
    run = tmp_path / "run"
    (run / "eval").mkdir(parents=True)
    file = run / "eval" / "samples.jsonl"
    file.write_text("{}")
    file.chmod(file_mode)
    for each in (run / "eval", run):
        each.chmod(folder_mode)
    check = check_permissions([run])[0]
    assert check.status == status, check
    assert (f"chmod -R go-rwx {run}" in check.fix) == (status == "fix")


GPUS = {
    "H200": (
        "NVIDIA H200, 580.95.05, 9.0, 143771, 0, Disabled",
        "13.0",
        "ok",
        "140 of 140 GiB free, compute 9.0, driver 580",
    ),
    "old driver": ("NVIDIA A100-SXM4-80GB, 470.82.01, 8.0, 81251, 0, Enabled", "12.8", "fix", "MIG enabled; torch"),
    "torch for CPUs": ("NVIDIA L4, 580.65.06, 8.9, 23034, 0, [N/A]", None, "fix", "MIG n/a; torch cannot use it"),
    "Pascal": ("Tesla P100-PCIE-16GB, 580.65.06, 6.0, 16384, 0, [N/A]", "12.6", "fix", "too old for torch"),
    "in use": ("NVIDIA L4, 580.65.06, 8.9, 23034, 20000, [N/A]", "13.0", "warning", "3 of 22 GiB free"),
}  # fmt: skip


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, cuda, status, words = GPUS[name]
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(machine_checks, "torch_build", lambda: ("2.13.0", cuda))
    [check] = machine_checks._gpus()
    assert (check.name, check.status) == ("GPU 0", status) and words in check.found


def test_swap(tmp_path: Path) -> None:
    header = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    cases = {"": "ok", "/dev/zram0 partition 8388604 0 100\n": "ok", "/swapfile file 2097148 0 -2\n": "warning"}
    for line, status in cases.items():
        (tmp_path / "swaps").write_text(header + line)
        assert machine_checks._swap(tmp_path / "swaps").status == status


def test_versions_are_compared_with_the_tested_ones() -> None:
    from importlib.metadata import version

    check = software_checks._tested({"numpy": "0.1", "typer": version("typer"), "no-such-package": "1"})
    assert check.status == "warning" and check.found == f"numpy {version('numpy')} (tested: 0.1)"


def test_this_machine(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    code, output, errors = cli("doctor", "--json")
    found = json.loads(output)
    assert code == int(found["status"] == "fix") and errors == "" and "s3cret" not in output
    names = {check["name"] for check in found["checks"]}
    assert {"Python", "torch", "licences", "memory", "disk", "clock", "routes", "listeners", "keys"} <= names
    assert [check["fix"] != "" for check in found["checks"]] == [check["status"] != "ok" for check in found["checks"]]
    code, output, errors = cli("doctor", tmp_path / "none")
    assert (code, output) == (2, "") and errors.endswith(
        "no such file or folder; give data and run directories that exist\n"
    )


def test_torch_is_not_imported() -> None:
    code = "import sys; from jmedllm.doctor import check_all; check_all([]); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_table_fits() -> None:
    checks = [
        Check("machine", "swap", "ok", "none"),
        Check("network", "listeners", "warning", "0.0.0.0:22 \x1b[31mevil (7), " * 4, "end those " * 9),
        Check("permissions", "runs of the year 2026", "fix", "other users can read 7 files", "chmod -R go-rwx runs"),
    ]  # fmt: skip
    text = table(checks, 80, lambda status, shown: shown)
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text
    assert text.splitlines()[:2] == ["machine", "  ok       swap          none"]
    assert text.splitlines()[-1] == "1 ok, 1 warning, 1 fix"
    assert [worst(checks[:count]) for count in range(4)] == ["ok", "ok", "warning", "fix"]
