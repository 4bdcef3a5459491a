"""What stands before Gradio: no request makes the server fetch an address, and none is larger than it may be."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.formparsers import MultiPartException

from demos.limits import KEPT_BYTES, REQUEST_BYTES, UPLOAD_BYTES

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_OVERHEAD: Final = 1 << 16  # bytes of headers around an uploaded file
_DRAINED: Final = 4 * UPLOAD_BYTES  # read and thrown away, so that a browser hears why it is refused
_UPLOADS: Final = ("/gradio_api/upload", "/upload")
_ADDRESSES: Final = ("http:", "https:", "ftp:", "file:", "//")

# The page loads nothing from elsewhere either.
_POLICY: Final = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "frame-ancestors 'self'"
)


class Guard:
    """An ASGI application around another one.

    It refuses with 403 what would make the server fetch an address (``/proxy=``, ``/file=http...``, or a file in a
    request whose path is an address), and with 413 an upload over ``UPLOAD_BYTES`` or another request over
    ``REQUEST_BYTES``. While Gradio's folder of uploads and answers, which keeps each for an hour, holds more than
    ``KEPT_BYTES``, uploads get 507.

    Args:
        app: what is asked when nothing speaks against it.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = unquote(scope["path"])
        # The page asks for files by `/file=` only; `/file/` is the same to Gradio.
        if any(part in path for part in ("/proxy=", "/file/", "/process_recording")) or any(
            path.partition("/file=")[2].lower().startswith(start) for start in _ADDRESSES
        ):
            return await _answer(send, 403, "addresses are not fetched")
        if scope["method"] != "POST":
            return await self.app(scope, receive, _with_policy(send))
        # These paths alone: `/run/upload` and `/api/upload` are events to Gradio, which takes files by address.
        uploads = path.rstrip("/") in _UPLOADS
        limit = UPLOAD_BYTES + _OVERHEAD if uploads else REQUEST_BYTES
        if _announced(scope) > limit:
            await _drain(receive)
            return await _answer(send, 413, f"more than {limit:,} bytes")
        if uploads and await run_in_threadpool(_kept) > KEPT_BYTES:
            await _drain(receive)
            return await _answer(send, 507, "too many pictures were uploaded within the last hour; try again later")
        if uploads:
            return await self._upload(scope, receive, send, limit)
        body = await _read(receive, limit)
        if body is None:
            await _drain(receive)
            return await _answer(send, 413, f"more than {limit:,} bytes")
        if _names_an_address(body):
            return await _answer(send, 403, "addresses are not fetched")
        await self.app(scope, _replayed(body, receive), send)

    async def _upload(self, scope: Message, receive: Receive, send: Send, limit: int) -> None:
        """Pass an upload on while it is read; for one that grows too large Gradio answers 413 and removes its files."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise MultiPartException(f"The upload is over the maximum allowed size of {limit:,} bytes.")
            return message

        await self.app(scope, counted, send)


def _kept() -> int:
    """Bytes in Gradio's folder; what goes while it is counted counts nothing."""
    total, folder = 0, os.environ.get("GRADIO_TEMP_DIR")
    for file in Path(folder).rglob("*") if folder else ():
        with suppress(OSError):
            total += file.stat().st_size
    return total


def _announced(scope: Message) -> int:
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The body, or ``None`` when it is larger."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body"):
            return bytes(body)


async def _drain(receive: Receive) -> None:
    seen = 0
    while seen < _DRAINED:
        message = await receive()
        seen += len(message.get("body", b""))
        if not message.get("more_body"):
            return


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever follows it: that the visitor went away."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _names_an_address(body: bytes) -> bool:
    """Whether a JSON body has a file whose path is an address."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False  # the application refuses it
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and path.strip().lower().startswith(_ADDRESSES):
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


def _with_policy(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"content-security-policy", _POLICY.encode())]
        await send(message)

    return sent


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
