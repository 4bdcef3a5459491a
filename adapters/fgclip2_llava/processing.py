"""Conversations about pictures to what the model eats, for training and for answering.

A placeholder ``<image>`` in a text becomes as many image tokens as its picture has patches. Every picture gets the
patch budget of its own size (or the one that was asked for), never that of its batch, so that an answer does not depend
on what else was asked at the same time.

Texts are tokenized turn by turn: what the model sees before an answer has the same ids in training and afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically
from fgclip2.images import ImageLike, open_image
from fgclip2.processing import MAX_PATCHES, ImageProcessor, Patches

IMAGE: Final = "<image>"
IGNORED: Final = -100
"""Label of what the loss does not look at."""

_SETTINGS: Final = "fgclip2_llava.json"

Turns: TypeAlias = Sequence[tuple[str, str | None]]
"""What a person says and what is answered; the last answer may be ``None``, to be given by the model."""


class Template(NamedTuple):
    """How a language model was taught to see a conversation; ``end`` closes an answer, ``None`` is the tokenizer's."""

    system: str
    human: str
    answer: str
    end: str | None
    behind: str = ""


TEMPLATES: Final = {
    "vicuna": Template(
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. ",
        "USER: {} ASSISTANT:",
        " {}",
        None,
    ),
    "chatml": Template(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
        "{}",
        "<|im_end|>",
        "\n",
    ),
}
"""``vicuna`` is LLaVA-1.5's (Vicuna, Llama 2), ``chatml`` Qwen's."""


class Encoded(NamedTuple):
    """A conversation: token ids, and labels, which are the ids of answers and `IGNORED` elsewhere."""

    ids: list[int]
    labels: list[int]


class LlavaProcessor:
    """Texts and pictures to tensors.

    Args:
        tokenizer: of the language model, as transformers' AutoTokenizer gives it; ``<image>`` is added when it lacks.
        template: one of `TEMPLATES`.
        max_patches: image tokens a picture, at most; ``None`` takes the released bucket of each picture's size.
            LLaVA-1.5 has 576.

    Raises:
        Fgclip2Error: an unknown template, one that the tokenizer has no tokens for, or a budget that cannot be.
    """

    def __init__(self, tokenizer: Any, template: str = "vicuna", max_patches: int | None = 576) -> None:
        if template not in TEMPLATES:
            raise Fgclip2Error(f"template {template!r}: choose one of {', '.join(TEMPLATES)}")
        if max_patches is not None and not 1 <= max_patches <= MAX_PATCHES:
            raise Fgclip2Error(f"max_patches {max_patches}: give 1 to {MAX_PATCHES:,}, or None for each picture's own")
        self.tokenizer, self.template, self.max_patches = tokenizer, template, max_patches
        self.image = ImageProcessor()
        if IMAGE not in tokenizer.get_vocab():
            tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
        self.image_token_id = int(tokenizer.convert_tokens_to_ids(IMAGE))
        end = TEMPLATES[template].end or tokenizer.eos_token
        if end is None or end not in tokenizer.get_vocab():
            raise Fgclip2Error(
                f"the tokenizer has no token {end or 'at the end of texts'!r}, with which {template} ends an answer; "
                f"take another of {', '.join(TEMPLATES)}"
            )
        self.end_id = int(tokenizer.convert_tokens_to_ids(end))
        self.pad_id = self.end_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        first = tokenizer("a")["input_ids"][:1]
        self._begin = [tokenizer.bos_token_id] if first == [tokenizer.bos_token_id] else []

    @classmethod
    def load(cls, directory: Path) -> LlavaProcessor:
        """What `save` has written.

        Raises:
            Fgclip2Error: files are missing or damaged.
        """
        from transformers import AutoTokenizer

        try:
            settings = json.loads((directory / _SETTINGS).read_text(encoding="utf-8"))
            template, patches = settings["template"], settings["max_patches"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Fgclip2Error(
                f"{directory / _SETTINGS} cannot be read ({error}); give a directory that apps/llava_train.py wrote"
            ) from error
        return cls(AutoTokenizer.from_pretrained(directory), template, patches)

    def save(self, directory: Path) -> None:
        """Write the tokenizer and how to ask."""
        self.tokenizer.save_pretrained(directory)
        settings = {"template": self.template, "max_patches": self.max_patches}
        write_atomically(directory / _SETTINGS, (json.dumps(settings) + "\n").encode())

    def patches(self, image: ImageLike) -> Patches:
        """A picture resized and cut up, with its own budget."""
        opened = open_image(image)
        return self.image.patches(opened, self.image.budget([opened], self.max_patches))

    def encode(self, turns: Turns, pictures: Sequence[Patches]) -> Encoded:
        """A conversation to ids and labels.

        Args:
            turns: what is said; placeholders stand in what the person says.
            pictures: one a placeholder, in order.

        Raises:
            Fgclip2Error: placeholders and pictures differ in number, or one stands in an answer.
        """
        template = TEMPLATES[self.template]
        wanted = sum(said.count(IMAGE) for said, _ in turns)
        if wanted != len(pictures) or any(IMAGE in (answer or "") for _, answer in turns):
            raise Fgclip2Error(
                f"{wanted} placeholders {IMAGE} for {len(pictures)} pictures; put one for each where a person speaks"
            )
        counts = iter([len(picture.values) for picture in pictures])
        found = Encoded(list(self._begin), [IGNORED] * len(self._begin))

        def add(ids: list[int], trained: bool) -> None:
            found.ids.extend(ids)
            found.labels.extend(ids if trained else [IGNORED] * len(ids))

        add(self._ids(template.system), trained=False)
        for said, answer in turns:
            before, *others = template.human.replace("{}", said).split(IMAGE)
            add(self._ids(before), trained=False)
            for text in others:
                add([self.image_token_id] * next(counts) + self._ids(text), trained=False)
            if answer is not None:
                add([*self._ids(template.answer.replace("{}", answer)), self.end_id], trained=True)
                add(self._ids(template.behind), trained=False)
        return found

    def batch(
        self, encoded: Sequence[Encoded], pictures: Sequence[Patches], generate: bool = False
    ) -> dict[str, Tensor]:
        """Several conversations in one batch.

        Args:
            encoded: of each.
            pictures: of all, in order.
            generate: pad at the left, where an answer is to follow, and give no labels; else at the right.

        Returns:
            ``input_ids``, ``attention_mask`` and, unless ``generate``, ``labels``, each ``(B, L)`` int64; where there
            are pictures ``pixel_values`` ``(P, N, 768)`` float32 and ``image_sizes`` ``(P, 2)`` in pixels.
        """
        length = max(len(item.ids) for item in encoded)
        ids = torch.full((len(encoded), length), self.pad_id)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for row, item in enumerate(encoded):
            count = len(item.ids)
            place = slice(length - count, length) if generate else slice(0, count)
            ids[row, place], mask[row, place] = torch.tensor(item.ids), 1
            labels[row, place] = torch.tensor(item.labels)
        batch = {"input_ids": ids, "attention_mask": mask}
        if not generate:
            batch["labels"] = labels
        if pictures:
            collated = self.image.collate(pictures)
            batch["pixel_values"] = collated["pixel_values"]
            batch["image_sizes"] = collated["spatial_shapes"] * self.image.patch_size
        return batch

    def decode(self, ids: Tensor) -> str:
        """What the model said, without special tokens and blanks around it."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
