"""What a visitor may ask for, and how a refusal reaches them in their language."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import re
from abc import ABCMeta
from collections.abc import Callable
from html import escape
from typing import Any, Final, TypeVar

import gradio as gr
from gradio.component_meta import ComponentMeta

from demos.labels import LANGUAGES, text
from fgclip2.errors import Fgclip2Error
from fgclip2.images import open_image
from fgclip2.search.problems import REASONS, PictureError, QueryError

_log = logging.getLogger(__name__)
_PATH: Final = re.compile(r"(?<![A-Za-z0-9_.])(?:/[^\s/'\"]|[A-Za-z]:\\|\\\\)")
"""The start of an absolute path."""

UPLOAD_BYTES: Final = 20 << 20
"""Of one picture."""
KEPT_BYTES: Final = 4 << 30
"""Of all uploads and answers that are kept, each for an hour or two."""
REQUEST_BYTES: Final = 1 << 20
"""Of any other request: texts and settings."""
PIXELS: Final = 40_000_000
"""Of a picture."""
CHARACTERS: Final = 2_000
"""Of a query, of filters, or of all phrases together."""
PHRASES: Final = 16
TOP: Final = 60
WAITING: Final = 32
"""Requests that may wait for the model; more are told to come back."""
SESSIONS: Final = 64
"""Visitors whose results are kept."""

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Refusal(Fgclip2Error):
    """A refusal in the words of ``TEXTS``.

    Args:
        key: of the text.
        values: to fill in.
    """

    def __init__(self, key: str, **values: Any) -> None:
        super().__init__(text(key, LANGUAGES[0], **values))
        self.key, self.values = key, values

    def told(self, language: str) -> str:
        """It in one language."""
        return text(self.key, language, **self.values)


def explained(handler: Handler) -> Handler:
    """Let a handler with an argument ``language`` tell a visitor what is wrong; anything else that escapes is a bug.

    Where the files of this machine lie is not for visitors: messages that say so go to the console.
    """
    signature = inspect.signature(handler)

    @functools.wraps(handler)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        language = signature.bind(*arguments, **named).arguments["language"]
        try:
            return handler(*arguments, **named)
        except Fgclip2Error as error:
            if isinstance(error, Refusal):
                message = error.told(language)
            elif isinstance(error, QueryError):
                message = error.chinese if language == "zh" else str(error)
            elif isinstance(error, PictureError) or _PATH.search(str(error)):
                _log.warning("%s: %s", handler.__name__, error)
                message = text("see_console", language)
                if isinstance(error, PictureError):
                    message = text("unusable", language, reason=REASONS[error.reason][language])
            else:
                message = text("refused", language, reason=str(error))
            # The page takes messages for HTML, and they quote what visitors and files say.
            shown = escape(message, quote=False)
            raise gr.Error(shown, title=text("error", language), print_exception=False) from error

    return wrapped  # type: ignore[return-value]


def check_text(given: Any) -> str:
    """A text that is not too long, without spaces around it.

    Raises:
        Refusal: it is longer than ``CHARACTERS``.
    """
    stripped = str(given or "").strip()
    if len(stripped) > CHARACTERS:
        raise Refusal("too_long", length=f"{len(stripped):,}", most=f"{CHARACTERS:,}")
    return stripped


def check_number(given: Any, low: float, high: float) -> float:
    """A number within its limits.

    Raises:
        Refusal: it is none, or outside.
    """
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not low <= given <= high:
        shown = given if isinstance(given, (int, float)) and math.isfinite(given) else repr(given)[:20]
        raise Refusal("out_of_range", value=shown, low=f"{low:g}", high=f"{high:g}")
    return given


def _uploaded(_: gr.Image, payload: Any) -> str | None:
    """The path of an uploaded file, not decoded yet; Gradio has checked that it is in the folder of uploads."""
    if payload is None:
        return None
    if not payload.path or (payload.url or "").startswith("data:"):
        raise gr.Error("upload the picture as a file", print_exception=False)
    return str(payload.path)


# Gradio itself would decode it, with every reader that Pillow has and whatever its size. A class of its own, since
# visitors who switch the language get components made anew; not by a class statement, for which Gradio writes a file
# beside this one. ``is_template`` lets the browser show a gr.Image.
Picture: Any = ABCMeta.__new__(
    ComponentMeta, "Picture", (gr.Image,), {"preprocess": _uploaded, "is_template": True, "__module__": __name__}
)
"""A ``gr.Image`` whose events are given the path of the visitor's file."""


def read_upload(path: str | None) -> Any:
    """The picture of an uploaded file, upright RGB.

    Raises:
        Refusal: none was chosen, it is no picture, damaged, or has more than ``PIXELS``.
    """
    if not path:
        raise Refusal("no_picture")
    try:
        with open(path, "rb") as stream:
            return open_image(stream.read(), max_pixels=PIXELS)
    except OSError as error:
        raise Refusal("picture_gone") from error
    except Fgclip2Error as error:
        raise Refusal("bad_picture", pixels=PIXELS // 1_000_000, reason=f"({error})") from error


def clicked(event: gr.EventData | None) -> Any:
    """What was clicked: a number, or x and y; ``None`` when a program calls without a click.

    Gradio's SelectData cannot be made of no click.
    """
    return (getattr(event, "_data", None) or {}).get("index")
