"""Environment variables that make libraries connect. Their names are reported and never their values."""

import re
from collections.abc import Iterator, Mapping

from jmedllm.doctor.check import Check
from jmedllm.offline import VARIABLES

_SECTION = "variables"

_KINDS = {
    "proxies": (
        re.compile(r"(?i)(https?|all|ftp|socks)_proxy"),
        "libraries send requests to the proxy; jmedllm does not, but unset them for other tools",
    ),
    "trackers": (
        re.compile(r"(WANDB|COMET|NEPTUNE|CLEARML|MLFLOW|SENTRY|OTEL|LANGFUSE|LANGCHAIN|LANGSMITH|AIM|POSTHOG)_.*"),
        "these libraries send what they log; unset them: jmedllm uses none of them",
    ),
    "keys": (
        re.compile(r"(?i)(.*_)?(api_?key|token|secret|secret_(access_)?key|access_key(_id)?|passwd|credentials)|.*password"),
        "every program that you start can read them; unset those that this work does not need",
    ),
    "remote places": (
        re.compile(r"(HF_ENDPOINT|HF_HUB_ENDPOINT|OPENAI_(BASE_URL|API_BASE)|PIP_(EXTRA_)?INDEX_URL|ANTHROPIC_BASE_URL)"),
        "libraries connect to them when they are online; jmedllm keeps them offline",
    ),
}  # fmt: skip
"""Kinds of variables: the names, and what to do."""

_OURS = "JMEDLLM_"


def check_variables(environment: Mapping[str, str]) -> Iterator[Check]:
    """Name the variables that make libraries connect, or that contain secrets."""
    names = [name for name, value in environment.items() if value and not name.startswith(_OURS)]
    left = sorted(set(names) - VARIABLES.keys())
    for kind, (pattern, fix) in _KINDS.items():
        found = [name for name in left if pattern.fullmatch(name)]
        left = [name for name in left if name not in found]
        if found:
            yield Check(_SECTION, kind, "warning", f"{', '.join(found)} (set; the values are not shown)", fix)
        else:
            yield Check(_SECTION, kind, "ok", "none is set")
    yield Check(_SECTION, "offline", "ok", f"jmedllm sets {len(VARIABLES)} variables that keep libraries offline")
