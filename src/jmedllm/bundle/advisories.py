"""Known security advisories of packages, read from a file in the format of OSV (https://ossf.github.io/osv-schema).

Two sources publish such files: osv.dev exports a zip file of all advisories of PyPI, and the Python Packaging
Authority keeps a repository of YAML files. Nothing is asked over a network.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import yaml
from packaging.version import InvalidVersion, Version

from jmedllm.bounded_yaml import load_yaml
from jmedllm.bundle.constraints import canonical
from jmedllm.errors import InputError
from jmedllm.parsing import decode_utf8, parse_json

_ENDINGS = (".json", ".yaml", ".yml")
_LARGEST = 20_000_000
"""Bytes of the largest single advisory file; those of osv.dev are below 1 MB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An advisory that affects a package.

    Attributes:
        package: canonical name of the package.
        version: its version.
        id: id of the advisory.
        aliases: its other ids, such as that of CVE.
        affected: the affected versions in words.
        fixed: versions that fix it; may be empty.
        summary: what it is about; may be empty.
    """

    package: str
    version: str
    id: str
    aliases: tuple[str, ...]
    affected: str
    fixed: tuple[str, ...]
    summary: str


def read_advisories(path: Path) -> list[dict[str, Any]]:
    """Read advisories from a zip file, a directory, or a file of one advisory or of a list of them.

    Raises:
        InputError: there is none, or one is not in the format of OSV.
    """
    found = [advisory for name, content in _documents(path) for advisory in _advisories(name, content)]
    if not found:
        raise InputError(f"{path}: has no advisory; give all.zip of osv.dev or the files of PyPA's advisory database")
    return found


def _documents(path: Path) -> Iterator[tuple[Path, bytes]]:
    try:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.suffix in _ENDINGS and file.is_file():
                    yield file, file.read_bytes()
        elif path.suffix == ".zip":
            with ZipFile(path) as archive:
                for info in archive.infolist():
                    if info.filename.endswith(_ENDINGS):
                        if info.file_size > _LARGEST:
                            raise InputError(f"{path}: {info.filename}: {info.file_size} bytes are no advisory")
                        yield Path(f"{path}: {info.filename}"), archive.read(info)
        else:
            yield path, path.read_bytes()
    except (OSError, BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}; download it again") from error


def _advisories(name: Path, content: bytes) -> list[dict[str, Any]]:
    text = decode_utf8(content, name)
    if name.suffix in (".yaml", ".yml"):
        try:
            value = load_yaml(text)
        except yaml.YAMLError as error:
            raise InputError(f"{name}: is not valid YAML: {error}".replace("\n", " ")) from error
    else:
        value = parse_json(text, name)
    listed = value.get("vulns", [value]) if isinstance(value, dict) else value
    for each in listed if isinstance(listed, list) else [None]:
        if not isinstance(each, dict) or not isinstance(each.get("id"), str) or "modified" not in each:
            raise InputError(f"{name}: has an entry without the keys id and modified of an OSV advisory")
    return list(listed)


def find_advisories(advisories: Iterable[Mapping[str, Any]], packages: Mapping[str, str]) -> list[Finding]:
    """Return the advisories that affect these packages, by package and id. Withdrawn ones do not count.

    Args:
        advisories: in the format of OSV.
        packages: version by canonical name.
    """
    found = [
        finding
        for advisory in advisories
        if not advisory.get("withdrawn")
        for affected in advisory.get("affected") or ()
        for finding in _findings(advisory, affected, packages)
    ]
    return sorted(found, key=lambda finding: (finding.package, finding.id))


def _findings(
    advisory: Mapping[str, Any], affected: Mapping[str, Any], packages: Mapping[str, str]
) -> Iterator[Finding]:
    package = affected.get("package") or {}
    name = canonical(str(package.get("name")))
    if package.get("ecosystem") != "PyPI" or name not in packages:
        return
    version = Version(Version(packages[name]).public)  # advisories name no builds, such as +cpu
    ranges = [each for each in affected.get("ranges") or () if each.get("type") == "ECOSYSTEM"]
    listed = {str(each) for each in affected.get("versions") or ()}
    if not any(_is_in(version, each.get("events") or ()) for each in ranges) and not _is_listed(version, listed):
        return
    yield Finding(
        name,
        packages[name],
        str(advisory["id"]),
        tuple(map(str, advisory.get("aliases") or ())),
        "; ".join(_in_words(each.get("events") or ()) for each in ranges) or f"{len(listed)} listed versions",
        tuple(str(event["fixed"]) for each in ranges for event in each.get("events") or () if "fixed" in event),
        str(advisory.get("summary") or str(advisory.get("details") or "").partition("\n")[0])[:200],
    )


def _is_listed(version: Version, listed: Iterable[str]) -> bool:
    return any(_version(each) == version for each in listed)


def _is_in(version: Version, events: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a version is in a range: the last event at or before it decides."""
    affected = False
    for place, kind, _ in sorted(_placed(events)):
        if kind == "introduced" and version >= place:
            affected = True
        elif (kind == "fixed" and version >= place) or (kind == "last_affected" and version > place):
            affected = False
    return affected


def _placed(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Version, str, str]]:
    for event in events:
        for kind, text in event.items():
            place = _version(str(text))
            if place is not None:
                yield place, kind, str(text)


def _in_words(events: Iterable[Mapping[str, Any]]) -> str:
    signs = {"introduced": ">=", "fixed": "<", "last_affected": "<="}
    return ", ".join(f"{signs[kind]}{text}" for _, kind, text in sorted(_placed(events)) if kind in signs)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:  # an old scheme that pip does not install either
        return None
