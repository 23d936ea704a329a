"""Routes, name servers and listening programs, from the files of Linux; no packet is sent."""

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jmedllm.doctor.check import Check

_SECTION = "network"

_LISTENING = "0A"
_LOOPBACK = "lo"


def check_network(proc: Path = Path("/proc"), resolver: Path = Path("/etc/resolv.conf")) -> Iterator[Check]:
    """Check what could leave this machine, and what it accepts.

    Args:
        proc: the file system with the state of the kernel.
        resolver: file with the name servers.
    """
    if not (proc / "net").is_dir():
        yield Check(_SECTION, "network", "warning", "only Linux is supported here", "see the settings of your system")
        return
    yield _routes(proc)
    yield _name_servers(resolver)
    yield _listeners(proc)


def _routes(proc: Path) -> Check:
    ways = [*_routes_4(_lines(proc / "net" / "route")[1:]), *_routes_6(_lines(proc / "net" / "ipv6_route"))]
    out = [text for text, is_default in ways if is_default]
    near = sorted({text for text, is_default in ways if not is_default})
    if out:
        found = f"to everywhere: {', '.join(out)}"
        fix = "jmedllm sends nothing, and you can take the way out from any command: unshare -rn COMMAND"
        return Check(_SECTION, "routes", "warning", found, fix)
    return Check(_SECTION, "routes", "ok", f"only near: {', '.join(near)}" if near else "none but this machine")


def _routes_4(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield (description, whether it leads everywhere) for each route."""
    for interface, destination, gateway, _, _, _, _, mask, *_ in (line.split() for line in lines):
        if interface == _LOOPBACK:
            continue
        network = ipaddress.ip_network(f"{_address_4(destination)}/{_address_4(mask)}", strict=False)
        yield (
            f"{interface} by {_address_4(gateway)}" if network.prefixlen == 0 else f"{network} by {interface}",
            (network.prefixlen == 0),
        )


def _routes_6(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    for line in lines:
        destination, length, _, _, gateway, *_, interface = line.split()
        network = ipaddress.IPv6Network((bytes.fromhex(destination), int(length, 16)), strict=False)
        if interface == _LOOPBACK or network.is_link_local or network.is_multicast:
            continue
        is_default = network.prefixlen == 0
        by = ipaddress.IPv6Address(bytes.fromhex(gateway))
        yield f"{interface} by {by}" if is_default else f"{network} by {interface}", is_default


def _name_servers(resolver: Path) -> Check:
    words = [line.split() for line in _lines(resolver)]
    servers = [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]
    if not servers:
        return Check(_SECTION, "name servers", "ok", "none")
    fix = "names that a program looks up leave the machine; jmedllm looks none up"
    return Check(_SECTION, "name servers", "warning", ", ".join(servers), fix)


@dataclass(frozen=True, slots=True)
class _Listener:
    address: str
    port: int
    inode: str

    @property
    def is_near(self) -> bool:
        """Whether only this machine reaches it."""
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def _listeners(proc: Path) -> Check:
    found = [*_listening(proc / "net" / "tcp"), *_listening(proc / "net" / "tcp6")]
    far = [each for each in found if not each.is_near]
    if not far:
        return Check(_SECTION, "listeners", "ok", f"{len(found)}, all on this machine only" if found else "none")
    programs = _programs(proc, {each.inode for each in far})
    named = sorted(
        {f"{_joined(each.address, each.port)} {programs.get(each.inode, '(of another user)')}" for each in far}
    )
    is_ours = any("jmedllm" in program for program in programs.values())
    fix = "other machines reach these programs; end those that you do not need"
    return Check(_SECTION, "listeners", "fix" if is_ours else "warning", ", ".join(named), fix)


def _listening(file: Path) -> Iterator[_Listener]:
    for line in _lines(file)[1:]:
        _, local, _, state, *rest = line.split()
        if state == _LISTENING:
            address, port = local.split(":")
            decoded = _address_4(address) if len(address) == 8 else _address_6(address)
            yield _Listener(decoded, int(port, 16), rest[5])


def _address_4(text: str) -> str:
    return socket.inet_ntop(socket.AF_INET, struct.pack("=I", int(text, 16)))


def _address_6(text: str) -> str:
    """Decode an address of 16 bytes, which the kernel prints as four numbers in the machine's byte order."""
    numbers = (int(text[at : at + 8], 16) for at in range(0, 32, 8))
    return socket.inet_ntop(socket.AF_INET6, struct.pack("=4I", *numbers))


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _programs(proc: Path, inodes: set[str]) -> dict[str, str]:
    """Return inode → name of the program and its number, for sockets of processes that this user may see."""
    found = {}
    sought = {f"socket:[{inode}]": inode for inode in inodes}
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                inode = sought.get(str(descriptor.readlink()))
                if inode is not None:
                    found[inode] = f"{_program(process)} ({process.name})"
        except OSError:  # of another user, or ended meanwhile
            continue
    return found


def _program(process: Path) -> str:
    words = (process / "cmdline").read_bytes().split(b"\0")
    name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    return "jmedllm" if any(b"jmedllm" in word for word in words[:3]) else name


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
