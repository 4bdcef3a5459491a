"""The error meant for the person at the keyboard."""

from __future__ import annotations


class Fgclip2Error(Exception):
    """Something the user gave cannot be used.

    The message says what was given, what is allowed and what to do next; programs print it as one line ``error: ...``
    and leave with exit code 2. Anything else that escapes is a bug of the toolkit.
    """
