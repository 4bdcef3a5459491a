"""LLaVA's training data: a JSON list of pictures and what is said about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from fgclip2.data.failures import Failure
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.readers.files import read_list, text
from fgclip2.names import CJK
from fgclip2.processing import Patches

from .processing import IMAGE, Encoded, LlavaProcessor

_ROLES = ("human", "gpt")


@dataclass(frozen=True, slots=True)
class Example:
    """A picture and what is said about it; the placeholder is where the picture comes."""

    image: Path
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """An example that the model can eat."""

    encoded: Encoded
    picture: Patches
    name: str = ""


def read_examples(file: Path, image_root: Path) -> tuple[list[Example], int]:
    """Read ``[{"image": ..., "conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", ...}]}]``.

    Args:
        file: the JSON list.
        image_root: folder that ``image`` is relative to.

    Returns:
        Examples, and how many entries have no picture: they say nothing to a projector and are left out.

    Raises:
        Fgclip2Error: an entry is of another form (the message says which), or none has a picture.
    """
    examples, without = [], 0
    for number, item in enumerate(read_list(file, "conversations")):
        where = f"{file}, entry {number}"
        turns = _turns(item["conversations"], where)
        if item.get("image") is None:
            without += 1
            continue
        if sum(said.count(IMAGE) for said, _ in turns) != 1:
            raise Fgclip2Error(f"{where}: a picture needs {IMAGE} once in what the human says; mend the entry")
        examples.append(Example(image_root / text(item["image"], where), turns))
    if not examples:
        raise Fgclip2Error(f"{file} has no entry with a picture; a projector is trained on pictures")
    return examples, without


def _turns(listed: Any, where: str) -> tuple[tuple[str, str], ...]:
    found = [(item.get("from"), item.get("value")) if isinstance(item, dict) else (None, None)
             for item in (listed if isinstance(listed, list) else ())]  # fmt: skip
    roles = [role for role, _ in found]
    if not found or roles != [*_ROLES] * (len(found) // 2):
        raise Fgclip2Error(f"{where}: conversations must alternate from human to gpt; these are {roles[:6]}")
    values = [text(value, where) for _, value in found]
    return tuple(zip(values[::2], values[1::2], strict=True))


class LlavaDataset(Dataset[Loaded | Failure]):
    """Examples opened one by one; what cannot be used comes as a `Failure`.

    Args:
        examples: see `read_examples`.
        processor: of the model.
        max_tokens: longest conversation, image tokens included; longer ones are failures, none is cut.
    """

    def __init__(self, examples: Sequence[Example], processor: LlavaProcessor, max_tokens: int = 2048) -> None:
        self.examples, self.processor, self.max_tokens = examples, processor, max_tokens

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Loaded | Failure:
        example = self.examples[index]
        try:
            picture = self.processor.patches(example.image)
            encoded = self.processor.encode(example.turns, [picture])
            if len(encoded.ids) > self.max_tokens:
                raise Fgclip2Error(f"has {len(encoded.ids)} tokens, allowed are {self.max_tokens}")
        except Fgclip2Error as error:
            answers = "".join(answer for _, answer in example.turns)
            return Failure(str(example.image), str(error), "zh" if CJK.search(answers) else "en")
        return Loaded(encoded, picture, str(example.image))


class LlavaCollator:
    """Examples to a batch, with their ``names``, the ``failures`` among them and how many were ``seen``."""

    def __init__(self, processor: LlavaProcessor) -> None:
        self.processor = processor

    def __call__(self, items: Sequence[Loaded | Failure]) -> dict[str, Tensor | list[Failure] | list[str] | int]:
        failures = [item for item in items if isinstance(item, Failure)]
        loaded = [item for item in items if isinstance(item, Loaded)]
        if not loaded:
            raise Fgclip2Error(
                f"not one of the {len(items)} examples of a batch can be used: {failures[0].name}: {failures[0].reason}"
            )
        batch = self.processor.batch([item.encoded for item in loaded], [item.picture for item in loaded])
        return {**batch, "failures": failures, "seen": len(items), "names": [item.name for item in loaded]}
