"""Class names given with a call of mmdetection's inferencers: ``texts`` and ``custom_entities``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.names import check_names

KEYS: Final = ("text", "custom_entities", "tokens_positive", "stuff_text")
"""Under which mmdetection hands the texts of a call to its pipeline."""


def let_texts_through(cfg: Any) -> None:
    """Add `KEYS` to what the test pipeline of a config packs, in place; without a test pipeline do nothing."""
    pipeline = ((cfg.get("test_dataloader") or {}).get("dataset") or {}).get("pipeline") or []
    for step in pipeline:
        keys = step.get("meta_keys") if isinstance(step, dict) else None
        if keys is not None and str(step.get("type")).endswith("PackDetInputs"):
            step["meta_keys"] = (*keys, *(key for key in KEYS if key not in keys))


def asked_names(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The class names that a call gives for one image; ``None`` for none.

    ``texts`` holds a list of names for each image. One string is read as mmdetection reads it with
    ``custom_entities=True``: names between full stops, such as ``"bench . red car ."``. Where blanks stand before the
    stops, stops inside names ("St. Bernard") do not part them.

    Args:
        meta: of a data sample.

    Raises:
        Fgclip2Error: a caption to be parsed, positions of tokens, or names that are empty or repeat.
    """
    for key, option in (("tokens_positive", "tokens_positive"), ("stuff_text", "stuff_texts")):
        if meta.get(key) is not None:
            raise Fgclip2Error(f"{option} would do nothing with this detector; give class names as texts")
    text = meta.get("text")
    if text is None:
        return None
    if isinstance(text, str):
        if not meta.get("custom_entities"):
            raise Fgclip2Error(
                f"texts {text!r:.60}: captions are not parsed here; give 'dog . red car .' and custom_entities=True"
            )
        parts = text.split(" . ") if " . " in text else text.split(". ")
        names = [name for name in (part.strip().removesuffix(" .").strip() for part in parts) if name not in ("", ".")]
        if names and " . " not in text:
            names[-1] = names[-1].removesuffix(".").strip()
    else:
        names = [name.strip() if isinstance(name, str) else name for name in text]
    return check_names(names)


def refuse_texts(texts: Any, stuff_texts: Any, custom_entities: bool, tokens_positive: Any) -> None:
    """Refuse the texts of a call where classes are chosen otherwise.

    Raises:
        Fgclip2Error: any was given.
    """
    given = {
        "texts": texts is not None,
        "stuff_texts": stuff_texts is not None,
        "custom_entities": custom_entities,
        "tokens_positive": tokens_positive is not None,
    }
    named = [name for name, there in given.items() if there]
    if named:
        raise Fgclip2Error(
            f"{' and '.join(named)} would do nothing: boxes get the names of set_classes; call set_classes(names)"
        )
