"""Serve the page: three files, read once, under a content-security policy that lets nothing else in.

Scripts and styles come from the service alone, nothing is inline, nobody may frame the page, and a script can't turn a text into
markup (trusted types are required and none is allowed). The files are compressed once and revalidated by their hash.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

FOLDER = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class PageFile:
    """A file of the page, as it is and compressed."""

    body: bytes
    compressed: bytes
    etag: str
    media_type: str


def read_page_file(name: str, media_type: str) -> PageFile:
    """Read a file of the page."""
    body = (FOLDER / name).read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return PageFile(body, gzip.compress(body, 9, mtime=0), etag, media_type)


def make_router() -> APIRouter:
    """Return the routes of the page's files."""
    router = APIRouter(include_in_schema=False)
    for path, (name, media_type) in FILES.items():
        _add_file(router, path, read_page_file(name, media_type))
    return router


def _add_file(router: APIRouter, path: str, file: PageFile) -> None:
    async def send_file(request: Request) -> Response:
        return respond_with_file(file, request)

    router.add_api_route(path, send_file, methods=["GET", "HEAD"], name=f"page {path}")


def respond_with_file(file: PageFile, request: Request) -> Response:
    """Return the file, compressed where the client takes that; or 304 if the client has it already."""
    headers = {**SECURITY_HEADERS, "ETag": file.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    if takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(file.compressed, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.body, media_type=file.media_type, headers=headers)


def takes_gzip(accepted: str) -> bool:
    """Return whether an Accept-Encoding allows gzip (`gzip;q=0` does not)."""
    for part in accepted.split(","):
        name, _, weight = part.strip().partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
