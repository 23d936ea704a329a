"""Licences: as package metadata and model cards state them, and their texts in a bundle."""

import re
from collections.abc import Iterable, Mapping
from email.message import Message

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from jmedllm.bundle.component import Component

UNKNOWN = "not stated"

_CLASSIFIERS = {
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""SPDX ids of the classifiers that name one licence."""

_FAMILIES = (
    ("Apache Software License", b"Version 2.0, January 2004", "Apache-2.0"),
    ("BSD License", b"Neither the name of", "BSD-3-Clause"),
)
"""Classifiers that name several licences, words of the text of one of them, and its SPDX id."""

_LONGEST_NAME = 100
"""Number of characters from which the field License is a text and not a name."""


def licence_of_package(metadata: Message, texts: Iterable[bytes]) -> str | None:
    """Return the licence of a package as an SPDX expression, or in its author's words; None if unknown.

    Args:
        metadata: core metadata of the package.
        texts: texts of its licence, which decide where a classifier names a family of licences.
    """
    if expression := metadata.get("License-Expression"):
        return str(expression)
    prefix = "License :: OSI Approved :: "
    classifiers = [str(each) for each in metadata.get_all("Classifier") or ()]
    classified = [each.removeprefix(prefix) for each in classifiers if each.startswith(prefix)]
    named = str(metadata.get("License") or "").strip()
    if spdx(named):
        return spdx(named)
    if classified:
        return " AND ".join(_CLASSIFIERS.get(each) or _from_texts(each, texts) for each in classified)
    return named if named and "\n" not in named and len(named) < _LONGEST_NAME and named != "UNKNOWN" else None


def _from_texts(classifier: str, texts: Iterable[bytes]) -> str:
    for name, words, licence in _FAMILIES:
        if name == classifier and any(words in b" ".join(text.split()) for text in texts):
            return licence
    return classifier


def spdx(named: str) -> str | None:
    """Return a licence as a canonical SPDX expression; None if it is not one."""
    try:
        return str(canonicalize_license_expression(named))
    except InvalidLicenseExpression:
        return None


def licence_files(components: Iterable[Component]) -> dict[str, bytes]:
    """Return the licence texts of all components by their path in a bundle."""
    return {
        f"licences/{_label(each)}/{name}": text
        for each in flat(components)
        for name, text in _short_names(each.texts).items()
    }


def flat(components: Iterable[Component]) -> Iterable[Component]:
    """Yield components, each followed by those inside it, without the files of a model."""
    for each in components:
        yield each
        yield from flat(part for part in each.parts if part.kind != "file")


def _label(component: Component) -> str:
    return "-".join(filter(None, (re.sub(r"[^\w.-]+", "-", component.name).strip("-"), component.version)))


def _short_names(texts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Name texts by their file; by their path where two files have the same name."""
    names = [path.rpartition("/")[2] for path in texts]
    return {
        name if names.count(name) == 1 else path.replace("/", "_"): text
        for name, (path, text) in zip(names, texts.items(), strict=True)
    }


def licence_table(components: Iterable[Component]) -> str:
    """Format the licence of every component as Markdown, with the place of its text."""
    lines = ["| Component | Version | Licence | Text |", "|---|---|---|---|"]
    for each in flat(components):
        place = f"licences/{_label(each)}/" if each.texts else "-"
        name = each.name if each.about is None else f"{each.name}: {each.about}"
        lines.append(f"| {name} | {each.version or '-'} | {each.licence or UNKNOWN} | {place} |".replace("\n", " "))
    return "\n".join(lines) + "\n"
