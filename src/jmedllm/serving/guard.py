"""Who may use a server: this user, from this machine, with the key. Everything else is refused before it is read."""

import re
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from jmedllm.serving.key import cookie_of, matches
from jmedllm.serving.page import sign_in_page, sign_in_policy

COOKIE = "jmedllm"
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_YEAR_S = 365 * 24 * 3600

SIGN_IN = sign_in_page()
"""The page of a browser without the key."""


def foreign(headers: Headers) -> str | None:
    """Return why a request comes from elsewhere than this machine; None if it does not.

    A page of another site can reach a loopback server through a host name of its own (DNS rebinding), or directly.
    """
    host = headers.get("host", "")
    if not _LOOPBACK.fullmatch(host):
        return f"the host {host[:100]!r} is not this machine; use 127.0.0.1 or localhost"
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return f"pages of {origin[:100]!r} may not use this server"
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
        return "pages of other sites may not use this server"
    return None


def is_allowed(headers: Headers, key: str, port: int) -> bool:
    """Return whether a request has the key, as a bearer token or in the cookie."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return matches(token.strip(), key)
    return matches(_cookie(headers.getlist("cookie"), f"{COOKIE}-{port}"), cookie_of(key))


def _cookie(lines: Iterable[str], name: str) -> str:
    try:
        found: Any = SimpleCookie("; ".join(lines)).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def sign_in(request: Request, key: str, port: int) -> Response | None:
    """Answer a visit with `?key=KEY`: set the cookie and continue without the key. None if there is no key in it."""
    given = request.query_params.get("key")
    if given is None:
        return None
    if not matches(given, key):
        return HTMLResponse(SIGN_IN, status_code=401, headers=PAGE_HEADERS)
    answer = RedirectResponse("/", status_code=303, headers=PAGE_HEADERS)
    answer.set_cookie(f"{COOKIE}-{port}", cookie_of(key), max_age=_YEAR_S, httponly=True, samesite="strict", path="/")
    return answer


PAGE_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": sign_in_policy(),
}
"""Headers of pages; the policy is that of the page for the key."""
