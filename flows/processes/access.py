"""Refuse requests to our servers that do not come from their owner: an ASGI application in front of another one.

In: HTTP requests and WebSocket handshakes. Out: those of the wrapped application, or a refusal:
- 403 for a Host that is not this machine's loopback address with our port (DNS rebinding), for an Origin that is not the server's
  own (a page of another site, or of another port), and for what a browser marks as sent by another site without an Origin
  (images, scripts, forms; links to pages stay possible);
- 401 without the key, as HTTP basic authentication or as a bearer token, except for what the policy leaves open.
`/open#KEY` is a page that hands the key to the browser: the part behind # is never sent, and the page removes it from the address.

Does not cover: processes of the same user, which can read the key; encryption, which loopback does not need.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from flows.processes.credentials import USER, make_basic

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOGIN = "/open"
# Nothing of another site may frame a page of ours, read an answer or learn an address.
PROTECTION = (
    (b"content-security-policy", b"frame-ancestors 'self'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
# A browser keeps the basic authentication of a request that was challenged; Prefect's pages read theirs from localStorage.
LOGIN_PAGE = """<!doctype html><meta charset="utf-8"><title>MiniGPT</title>
<p id="text">Opening …</p>
<script nonce="{nonce}">
const key = location.hash.slice(1), basic = btoa("{user}:" + key), asks = {asks};
history.replaceState(null, "", "{path}");
addEventListener("hashchange", () => location.reload());
const request = new XMLHttpRequest();
if (asks) request.open("GET", "{probe}", true, "{user}", key);
else request.open("GET", "{probe}"), request.setRequestHeader("Authorization", "Basic " + basic);
request.onloadend = () => {{
  if (request.status !== 200) {{
    document.getElementById("text").textContent = "Another key: open the address that `make ui` printed last.";
  }} else {{
    if (!asks) localStorage.setItem("prefect-password", basic);
    location.replace("/");
  }}
}};
request.send();
</script>
"""


@dataclass(frozen=True)
class Policy:
    """What a server leaves open: paths that need no key, and WebSockets if the application checks the key itself.

    `guarded`: only paths with this prefix need the key (the rest is the code of a page). `probe`: a path that answers 200 to the
    right key, asked by the login page; "" if there is no page. `challenges`: whether a browser may ask its user for the key.
    """

    guarded: str
    health: tuple[str, ...]
    probe: str = ""
    checks_sockets: bool = False
    challenges: bool = False

    @property
    def login(self) -> str:
        """Return the path of the login page, or "" if there is none."""
        return LOGIN if self.probe else ""

    def is_open(self, method: str, path: str) -> bool:
        """Return whether a request needs no key."""
        is_health = path in self.health and method in ("GET", "HEAD")
        return is_health or path == self.login or not (path == self.guarded or path.startswith(f"{self.guarded}/"))


POLICIES = {
    "prefect": Policy("/api", ("/api/health", "/api/ready"), "/api/admin/version", checks_sockets=True),
    "mlflow": Policy("", ("/health",), "/version", challenges=True),
    "invocations": Policy("", ("/health", "/ping")),
}


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused, and the status of the answer."""

    status: int
    reason: str


class Access:
    """Wrap an ASGI application that listens on the loopback address with `port`."""

    def __init__(self, application: Application, policy: Policy, key: str, port: int) -> None:
        self.application, self.policy, self.key = application, policy, key
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.application(scope, receive, send)
        elif refusal := self.judge(scope):
            await _refuse(scope, send, refusal, self.policy.challenges)
        elif scope["type"] == "http" and scope["path"] == self.policy.login:
            await _send_login(send, self.policy)
        else:
            await self.application(scope, receive, _protect(send))

    def judge(self, scope: Message) -> Refusal | None:
        """Return why a request is refused, or None."""
        headers = list_headers(scope)
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return Refusal(403, "this server answers to its loopback address only")
        if origins and origins != [f"http://{hosts[0]}"]:
            return Refusal(403, "requests of other sites are refused")
        is_socket = scope["type"] == "websocket"
        method, path = scope.get("method", "GET"), scope["path"]
        is_open = self.policy.checks_sockets if is_socket else self.policy.is_open(method, path)
        if _is_from_another_site(headers) and not _is_link(headers, method, is_page=path == "/" or is_open):
            return Refusal(403, "requests of other sites are refused")
        if is_open or has_key(headers.get("authorization", []), self.key):
            return None
        return Refusal(401, "the key of this server is needed: see docs/security.md")


def list_headers(scope: Message) -> dict[str, list[str]]:
    """Return all values of each header, by lower-case name."""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def has_key(authorization: list[str], key: str) -> bool:
    """Return whether an Authorization header has the key, as basic authentication or as a bearer token."""
    if len(authorization) != 1:
        return False
    scheme, _, value = authorization[0].partition(" ")
    if scheme.lower() == "bearer":
        return hmac.compare_digest(value.strip().encode(), key.encode())
    try:
        sent = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(sent, make_basic(key).encode())


def _is_from_another_site(headers: dict[str, list[str]]) -> bool:
    """Return whether a browser marks the request as caused by another site (any other port, too), whatever its Origin."""
    return any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", []))


def _is_link(headers: dict[str, list[str]], method: str, *, is_page: bool) -> bool:
    """Return whether a browser opens a page of ours in a tab because its user has clicked on a link."""
    mode, target = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return is_page and method == "GET" and mode == ["navigate"] and target == ["document"]


def _protect(send: Send) -> Send:
    """Add the protecting headers to the answers."""

    async def send_protected(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *PROTECTION]}
        await send(message)

    return send_protected


async def _refuse(scope: Message, send: Send, refusal: Refusal, challenges: bool) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.reason})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="MiniGPT"' if challenges else b"Bearer"))
    await _send(send, refusal.status, headers, f"{refusal.reason}\n")


async def _send_login(send: Send, policy: Policy) -> None:
    nonce = secrets.token_urlsafe(16)
    content = f"default-src 'none'; script-src 'nonce-{nonce}'; connect-src 'self'; frame-ancestors 'none'"
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", content.encode()),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
    ]
    asks = "true" if policy.challenges else "false"
    page = LOGIN_PAGE.format(nonce=nonce, path=LOGIN, user=USER, probe=policy.probe, asks=asks)
    await _send(send, 200, headers, page)


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], text: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
