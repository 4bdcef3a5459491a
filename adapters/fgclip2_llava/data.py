"""Conversations about pictures, as tensors: what cannot be used is named, and left out of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

from fgclip2.data.failures import Failure
from fgclip2.errors import Fgclip2Error
from fgclip2.names import CJK
from fgclip2.processing import Patches

from .conversations import Example
from .processing import Encoded, LlavaProcessor


@dataclass(frozen=True, slots=True)
class Loaded:
    """An example that the model can eat."""

    encoded: Encoded
    picture: Patches
    name: str = ""


class LlavaDataset(Dataset[Loaded | Failure]):
    """Examples opened one by one; what cannot be used comes as a `Failure`.

    Args:
        examples: see `read_conversations`.
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
