"""What the model eats: pictures as NaFlex patches, texts as padded token ids.

Pictures keep their aspect: both sides are resized to multiples of the patch size so that the grid holds at most a given
number of patches. That number is one of five buckets chosen from the picture's own size, as the released code does, or
the ``max_patches`` that was asked for - which is obeyed, where the released processor overrides it.

Texts are lower-cased, padded *on the right to full length* and given no attention mask: the text tower pools the last
position, which for most texts is padding, so a text that is not padded exactly so gets a wrong embedding. There is no
option to leave any of this out.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

import numpy as np
import torch
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.images import ImageLike, open_image

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from fgclip2.config import Fgclip2Config
    from fgclip2.network import NetworkConfig

__all__ = ["BUCKETS", "ImageProcessor", "Patches", "Processor", "TextKind", "TextProcessor", "bucket", "grid_size",
           "open_image"]  # fmt: skip

_log = logging.getLogger(__name__)

TextKind = Literal["short", "long", "box"]
TEXT_KINDS: Final[tuple[TextKind, ...]] = ("short", "long", "box")

BUCKETS: Final = (128, 256, 576, 784, 1024)
"""Patch budgets of the released models."""

MAX_PATCHES: Final = 16_384
"""Largest budget: a square picture of 2,048 px."""


def bucket(width: int, height: int, patch_size: int = 16) -> int:
    """Patch budget of a picture, as released: the first bucket that holds its whole patches, at most 1,024.

    Args:
        width, height: size of the picture in pixels.
        patch_size: side of a patch in pixels.

    Returns:
        One of ``BUCKETS``.
    """
    return _bucket_of((width // patch_size) * (height // patch_size))


def _bucket_of(patches: int) -> int:
    return next((size for size in BUCKETS if patches <= size), BUCKETS[-1])


@lru_cache(maxsize=4096)
def grid_size(width: int, height: int, max_patches: int, patch_size: int = 16) -> tuple[int, int]:
    """Grid that a picture is resized to: the largest with its aspect and at most ``max_patches`` patches.

    The scale is found by the bisection of transformers' SigLIP 2 processor, with its bounds and its tolerance, because
    a closed form lands on another grid for a few sizes. As there, a picture is enlarged by at most 100.

    Args:
        width, height: size of the picture in pixels, at least 1.
        max_patches: budget, at least 1.
        patch_size: side of a patch in pixels.

    Returns:
        Rows and columns (h, w), each at least 1, with ``h * w <= max_patches``.
    """

    def grid(scale: float) -> tuple[int, int]:
        rows, columns = (max(1, math.ceil(side * scale / patch_size)) for side in (height, width))
        return rows, columns

    tolerance = 1e-5
    fits, too_large = tolerance / 10, 100.0
    while too_large - fits >= tolerance:
        middle = (fits + too_large) / 2
        rows, columns = grid(middle)
        if rows * columns <= max_patches:
            fits = middle
        else:
            too_large = middle
    rows, columns = grid(fits)
    if rows * columns > max_patches:
        # The bisection never tests its lower bound, where a strip of millions of pixels still overflows a small budget.
        return (max_patches, 1) if rows > columns else (1, max_patches)
    return rows, columns


class Patches(NamedTuple):
    """One resized picture, still in bytes (a quarter of the size of the model's input)."""

    values: np.ndarray
    """(h * w, patch_size * patch_size * 3) uint8, patches row by row, each (row, column, RGB)."""
    grid: tuple[int, int]
    """Rows and columns (h, w)."""


class ImageProcessor:
    """Pictures to the vision tower's input; equal bit by bit to the released processor.

    Args:
        patch_size: side of a patch in pixels.
    """

    def __init__(self, patch_size: int = 16) -> None:
        self.patch_size = patch_size
        # (x / 255 - 0.5) / 0.5 for the 256 possible bytes, rounded where transformers' processor rounds: the product
        # with 1/255 in double precision, the rest in single.
        scaled = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
        self._normalised = torch.from_numpy((scaled - np.float32(0.5)) / np.float32(0.5))

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], max_patches: int | None = None, *, pad: bool = True
    ) -> dict[str, torch.Tensor]:
        """Process a batch of pictures.

        Args:
            images: one picture or several; anything that ``open_image`` takes.
            max_patches: budget of every picture, 1 to 16,384. ``None`` takes the bucket of the largest, as released.
            pad: pad to the budget, as released; ``False`` pads to the largest grid of the batch only, which gives the
                same features for less work.

        Returns:
            ``pixel_values`` (B, N, patch_size * patch_size * 3) float32 in -1..1, zero where padded;
            ``pixel_attention_mask`` (B, N) int32, 1 for real patches; ``spatial_shapes`` (B, 2) int64 rows and columns.

        Raises:
            Fgclip2Error: a picture or ``max_patches`` cannot be used, or there is no picture.
        """
        listed = images if isinstance(images, (list, tuple)) else [images]
        opened = [open_image(image) for image in cast("Sequence[ImageLike]", listed)]
        if not opened:
            raise Fgclip2Error("there is no picture to process; give at least one")
        budget = self.budget(opened, max_patches)
        return self.collate([self.patches(image, budget) for image in opened], length=budget if pad else None)

    def budget(self, images: Sequence[Image.Image], max_patches: int | None = None) -> int:
        """Patch budget of a batch: what was asked for, checked, else the bucket of the picture with most patches."""
        if max_patches is None:
            return max(bucket(image.width, image.height, self.patch_size) for image in images)
        if isinstance(max_patches, bool) or not isinstance(max_patches, (int, np.integer)):
            raise Fgclip2Error(
                f"max_patches is {max_patches!r}; give a whole number from 1 to {MAX_PATCHES:,}, or None"
            )
        if not 1 <= max_patches <= MAX_PATCHES:
            side = math.isqrt(MAX_PATCHES) * self.patch_size
            raise Fgclip2Error(
                f"max_patches is {max_patches:,}; allowed are 1 to {MAX_PATCHES:,} (a square of {side:,} px). Cut "
                "larger pictures into tiles"
            )
        return int(max_patches)

    def patches(self, image: Image.Image, max_patches: int) -> Patches:
        """Resize one RGB picture (bilinear, antialiased) to at most ``max_patches`` patches and cut it up."""
        size = self.patch_size
        rows, columns = grid_size(image.width, image.height, max_patches, size)
        resized = image.resize((columns * size, rows * size), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized).reshape(rows, size, columns, size, 3)
        flat = pixels.transpose(0, 2, 1, 3, 4).reshape(rows * columns, size * size * 3)
        # Of one column the reshape is a view of Pillow's read-only memory, which torch does not take.
        return Patches(np.require(flat, requirements="W"), (rows, columns))

    def collate(self, batch: Sequence[Patches], length: int | None = None) -> dict[str, torch.Tensor]:
        """Normalise and pad to one batch of ``length`` patches (``None``: of the largest); returns as ``__call__``."""
        length = max(len(item.values) for item in batch) if length is None else length
        values = torch.zeros(len(batch), length, 3 * self.patch_size**2)
        mask = torch.zeros(len(batch), length, dtype=torch.int32)
        for row, item in enumerate(batch):
            count = len(item.values)
            values[row, :count] = self._normalised[torch.from_numpy(item.values).int()]
            mask[row, :count] = 1
        shapes = torch.tensor([item.grid for item in batch], dtype=torch.int64)
        return {"pixel_values": values, "pixel_attention_mask": mask, "spatial_shapes": shapes}


class TextProcessor:
    """Texts to token ids, by the ``tokenizer.json`` of a model directory.

    ``tokenizer_config.json`` beside it is honoured where it has ``add_bos_token``, ``add_eos_token`` or ``pad_token``.
    A text that is too long is cut so that the closing special tokens stay, and a warning names it.

    Args:
        directory: model directory with ``tokenizer.json``.
        short_length: length of short and box texts; the model's ``max_position_embeddings``.
        long_length: length of long texts; the model's ``longtext_len``.
        pad_id: padding id when the tokenizer does not name one.

    Raises:
        Fgclip2Error: there is no readable tokenizer, or nobody names the padding id.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        short_length: int = 64,
        long_length: int = 196,
        pad_id: int | None = None,
    ) -> None:
        directory = Path(directory)
        config = (
            _read_json(directory / "tokenizer_config.json") if (directory / "tokenizer_config.json").exists() else {}
        )
        self.lengths: dict[TextKind, int] = {"short": short_length, "long": long_length, "box": short_length}
        self.tokenizer = _load_tokenizer(directory / "tokenizer.json")
        self.pad_id = _pad_id(self.tokenizer, config, pad_id, directory)
        self._prefix, self._suffix = _special_tokens(self.tokenizer, config, directory)
        # Lengths are handled here: the tokenizer's own settings are whatever its file happens to say.
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def __call__(self, texts: str | Iterable[str], kind: TextKind = "short") -> torch.Tensor:
        """Lower-case, tokenize, cut and pad; a warning tells when a text loses its end.

        Args:
            texts: one text or several, English or Chinese, none empty.
            kind: ``"short"`` and ``"box"`` have the short length (64 in the released models), ``"long"`` the long
                (196).

        Returns:
            (T, L) int64 ids. No attention mask exists: padding is part of the input.

        Raises:
            Fgclip2Error: unknown ``kind``, or a text that is empty or no string.
        """
        if not isinstance(texts, Iterable):
            raise Fgclip2Error(
                f"the texts are {type(texts).__name__} ({texts!r:.60}); give one string or a list of them"
            )
        listed = [texts] if isinstance(texts, str) else list(texts)
        ids, cut = self.encode(listed, kind)
        if cut:
            advice = {"short": "shorten it or use kind='long'", "box": "shorten it", "long": "split it"}[kind]
            tokens, room = self.count(listed[cut[0]]), self.lengths[kind]
            _log.warning(
                "%d of %d texts are too long for kind=%r and lose their end; the first has %d tokens of %d (%s): %.80r",
                len(cut), len(listed), kind, tokens, room, advice, listed[cut[0]],
            )  # fmt: skip
        return ids

    def encode(self, texts: Iterable[str], kind: TextKind) -> tuple[torch.Tensor, list[int]]:
        """As calling the processor, without a warning.

        Returns:
            (T, L) int64 ids, and which texts were too long.
        """
        length = self.lengths[check_kind(kind)]
        checked = [_checked_text(text, i) for i, text in enumerate(texts)]
        ids = torch.full((len(checked), length), self.pad_id, dtype=torch.int64)
        encodings = self.tokenizer.encode_batch([text.lower() for text in checked], add_special_tokens=False)
        room = length - len(self._prefix) - len(self._suffix)
        for row, encoding in enumerate(encodings):
            tokens = [*self._prefix, *encoding.ids[:room], *self._suffix]
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids, [row for row, encoding in enumerate(encodings) if len(encoding.ids) > room]

    def count(self, text: str) -> int:
        """Tokens of a text before padding and cutting, special tokens included; compare with ``lengths[kind]``."""
        encoding = self.tokenizer.encode(_checked_text(text, 0).lower(), add_special_tokens=False)
        return len(self._prefix) + len(encoding.ids) + len(self._suffix)


class Processor:
    """Both sides of a model's input: ``.image`` (an ``ImageProcessor``) and ``.text`` (a ``TextProcessor``)."""

    def __init__(self, image: ImageProcessor, text: TextProcessor) -> None:
        self.image = image
        self.text = text

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> Processor:
        """Read patch size, text lengths and tokenizer of a model directory.

        Raises:
            Fgclip2Error: ``config.json`` or the tokenizer is missing or unusable, or the tokenizer has ids that the
                model has no row for.
        """
        from fgclip2.network import MODEL_TYPE, read_config

        directory = Path(directory)
        fields = _read_json(directory / "config.json")
        if fields.get("model_type") != MODEL_TYPE:
            raise Fgclip2Error(
                f"{directory} holds a model of type {fields.get('model_type')!r}, not {MODEL_TYPE!r}; "
                "give an FG-CLIP 2 model, or start one from SigLIP 2 with Fgclip2Model.from_siglip2()"
            )
        plain = read_config(fields)
        if plain is not None:
            return cls.from_config(plain, directory)
        # transformers knows more than plain configurations, and checks them; it takes seconds to import.
        from huggingface_hub.errors import StrictDataclassError

        from fgclip2.config import Fgclip2Config

        try:
            config = Fgclip2Config.from_dict(fields)
        except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise Fgclip2Error(f"{directory / 'config.json'} is not a usable configuration ({reason})") from error
        return cls.from_config(config, directory)

    @classmethod
    def from_config(cls, config: Fgclip2Config | NetworkConfig, directory: str | os.PathLike[str]) -> Processor:
        """Patch size and text lengths from a configuration, the tokenizer from a directory, SigLIP 2's for instance.

        Raises:
            Fgclip2Error: the tokenizer is missing or unusable, or has ids that the model has no row for.
        """
        text = config.text_config
        processor = TextProcessor(directory, text.max_position_embeddings, text.longtext_len, text.pad_token_id)
        largest = max(processor.tokenizer.get_vocab(with_added_tokens=True).values())
        if largest >= text.vocab_size:
            raise Fgclip2Error(
                f"the tokenizer in {directory} has ids up to {largest:,}, but the model's vocabulary ends at "
                f"{text.vocab_size - 1:,}; put the tokenizer.json that belongs to these weights beside them"
            )
        return cls(ImageProcessor(config.vision_config.patch_size), processor)


def check_kind(kind: str) -> TextKind:
    """``kind`` itself when it names a text head.

    Raises:
        Fgclip2Error: it does not.
    """
    for known in TEXT_KINDS:
        if kind == known:
            return known
    raise Fgclip2Error(
        f"kind is {kind!r}; choose 'short' or 'long' to compare with whole pictures, 'box' to compare with regions and "
        "dense features"
    )


def _checked_text(text: Any, index: int) -> str:
    if not isinstance(text, str):
        raise Fgclip2Error(f"text {index} is {type(text).__name__} ({text!r:.60}); every text must be a string")
    if not text.strip():
        raise Fgclip2Error(f"text {index} is empty ({text!r}); leave it out or give it words")
    return text


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Fgclip2Error(
            f"{path} is missing; a model directory holds config.json, tokenizer.json and weights"
        ) from error
    except (OSError, ValueError) as error:
        raise Fgclip2Error(f"{path} cannot be read ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise Fgclip2Error(f"{path} holds a JSON {type(content).__name__} instead of an object; fetch it again")
    return content


def _load_tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    if not path.is_file():
        packed = path.with_name(path.name + ".gz")
        hint = (
            f"unpack {packed.name} beside it"
            if packed.exists()
            else "copy the one of the released model beside the weights"
        )
        raise Fgclip2Error(f"{path} is missing; {hint}")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception for every kind of damage
        raise Fgclip2Error(f"{path} cannot be read as a tokenizer ({error}); fetch it again") from error


def _token_text(token: Any) -> str | None:
    """tokenizer_config.json writes a token as its text or as an object with the text in ``content``."""
    return token.get("content") if isinstance(token, dict) else token


def _pad_id(tokenizer: Tokenizer, config: dict[str, Any], fallback: int | None, directory: Path) -> int:
    named = _token_text(config.get("pad_token"))
    if named is None and fallback is None:
        raise Fgclip2Error(f"{directory} names no padding token; set pad_token in tokenizer_config.json")
    found: int | None = fallback if named is None else tokenizer.token_to_id(named)
    if found is None:
        raise Fgclip2Error(f"{directory}: pad_token {named!r} of tokenizer_config.json is not in tokenizer.json")
    return found


def _special_tokens(tokenizer: Tokenizer, config: dict[str, Any], directory: Path) -> tuple[list[int], list[int]]:
    """Ids put before and after every text: tokenizer.json's post-processor, overruled by the configuration's flags."""
    probe = "a"
    bare = tokenizer.encode(probe, add_special_tokens=False).ids
    full = tokenizer.encode(probe).ids
    start = next((i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare), None)
    if start is None:
        raise Fgclip2Error(f"{directory}/tokenizer.json puts special tokens inside a text; only around it is supported")
    prefix, suffix = full[:start], full[start + len(bare) :]

    def flagged(flag: str, token: str, current: list[int]) -> list[int]:
        if not isinstance(config.get(flag), bool):
            return current
        if not config[flag]:
            return []
        name = _token_text(config.get(token))
        token_id = None if name is None else tokenizer.token_to_id(name)
        if token_id is None:
            raise Fgclip2Error(f"{directory}: tokenizer_config.json sets {flag}, but its {token} {name!r} has no id")
        return [token_id]

    return flagged("add_bos_token", "bos_token", prefix), flagged("add_eos_token", "eos_token", suffix)
