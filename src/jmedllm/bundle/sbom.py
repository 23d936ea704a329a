"""Software bill of materials in CycloneDX 1.6."""

from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from jmedllm import __version__
from jmedllm.bundle.component import Component
from jmedllm.bundle.licences import spdx
from jmedllm.files import to_json

NO_ASSERTION = "NOASSERTION"
"""Licence of a component whose author states none."""


def sbom(name: str, components: Sequence[Component]) -> dict[str, Any]:
    """Return the bill of materials of a bundle as JSON. The same components give the same one, without a date.

    Each component has its licence, and its SHA-256 if there is a file to hash. An unknown licence is NOASSERTION, the
    word of SPDX.

    Args:
        name: name of the bundle.
        components: its parts.
    """
    listed = [_component(each) for each in components]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, to_json([name, listed]))}",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": f"bundle:{name}", "name": name},
            "tools": {"components": [{"type": "application", "name": "jmedllm", "version": __version__}]},
        },
        "components": listed,
    }


def _component(component: Component, parent: str = "") -> dict[str, Any]:
    reference = f"{parent}{component.kind}:{component.name}" + (f"@{component.version}" if component.version else "")
    found: dict[str, Any] = {"type": component.kind, "bom-ref": reference, "name": component.name}
    if component.version:
        found["version"] = component.version
    if component.about:
        found["description"] = component.about
    if component.sha256:
        found["hashes"] = [{"alg": "SHA-256", "content": component.sha256}]
    licence = component.licence or NO_ASSERTION
    known = spdx(licence)
    found["licenses"] = [{"expression": known} if known else {"license": {"name": licence}}]
    if component.file and component.file.endswith(".whl"):
        found["purl"] = f"pkg:pypi/{component.name}@{component.version}"
    if component.file:
        found["properties"] = [{"name": "jmedllm:file", "value": component.file}]
    if component.parts:
        found["components"] = [_component(part, f"{reference}/") for part in component.parts]
    return found
