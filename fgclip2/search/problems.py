"""What is wrong with a picture or a query: in full for who runs the program, and in both languages for all.

The full message about a picture names files of the machine; its few words are what a page may show to visitors.
"""

from __future__ import annotations

from typing import Final, Literal

from fgclip2.errors import Fgclip2Error

Reason = Literal["outside", "link", "gone", "changed", "damaged"]

REASONS: Final[dict[Reason, dict[str, str]]] = {
    "outside": {"en": "its name does not stay in the picture folder", "zh": "文件名指向图片文件夹之外"},
    "link": {"en": "it is a link that leads out of the picture folder", "zh": "它是指向图片文件夹之外的链接"},
    "gone": {"en": "the file is gone or cannot be read", "zh": "文件已不存在或无法读取"},
    "changed": {"en": "the file has changed since it was indexed", "zh": "文件在建立索引后已被更改"},
    "damaged": {"en": "the file is damaged or no picture", "zh": "文件已损坏或不是图片"},
}


class PictureError(Fgclip2Error):
    """A picture of a collection that cannot be used.

    Args:
        reason: key of ``REASONS``.
        message: in full.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class QueryError(Fgclip2Error):
    """A query or condition that cannot be used, in words that a page may show to visitors.

    Args:
        message: in English.
        chinese: the same in Chinese.
    """

    def __init__(self, message: str, chinese: str) -> None:
        super().__init__(message)
        self.chinese = chinese
