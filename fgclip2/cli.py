"""The command ``fgclip2``: what is installed, features, where a phrase is, class names, training, search, benchmarks,
exports.

    fgclip2 info --model tiny
    fgclip2 embed photos/ --texts "a red car" "黑猫" --out features.safetensors
    fgclip2 dense fgclip2/assets/images/scene.png --texts "a backpack" "面包" --model tiny --out maps
    fgclip2 vocabulary --classes "dog, 红色汽车" --out vocabulary.safetensors
    fgclip2 train --data my.jsonl --model qihoo360/fg-clip2-base --stage 2
    fgclip2 index photos/ --out photos.idx
    fgclip2 search photos.idx "骑自行车的人, red helmet" --html page.html
    fgclip2 eval --tasks all --model qihoo360/fg-clip2-base --data-root data
    fgclip2 export --format openvino --head dense text --model qihoo360/fg-clip2-base --out base.openvino

``fgclip2 COMMAND --help`` tells all options.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import tyro

from fgclip2.commandline import parse
from fgclip2.console import exit_code, load_model
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.arguments import EvalArguments
from fgclip2.files import write_atomically
from fgclip2.pretrained import DEFAULT_MODEL, ENVIRONMENT_VARIABLE
from fgclip2.search.commands import IndexArguments, SearchArguments
from fgclip2.train.arguments import TrainArguments

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

_PACKAGES: Final = (
    "torch",
    "torchvision",
    "transformers",
    "pillow",
    "onedl-mmcv",
    "onedl-mmdetection",
    "sal-detectron2",
    "faiss-cpu",
    "gradio",
)


@dataclass
class Info:
    """What is installed, where it would compute, and, with --model, what that model is."""

    model: str | None = None
    """tiny, a directory or a hub id; without one no model is loaded."""

    def run(self) -> None:
        """Print it."""
        import torch

        import fgclip2
        from fgclip2.fonts import find_cjk_font

        cuda = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        rows = {
            "fgclip2": fgclip2.__version__,
            "python": platform.python_version(),
            **{package: _version(package) for package in _PACKAGES},
            "devices": f"cpu ({torch.get_num_threads()} threads)" + (f", cuda ({cuda})" if cuda else ""),
            "font for Chinese": str(find_cjk_font() or "none: pip install cvttf-notosanscjk-regular"),
            "default model": os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_MODEL,
        }
        if self.model is not None:
            loaded = fgclip2.load(self.model)
            parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
            rows |= {
                "model": f"{loaded.name}, {parameters / 1e6:.1f} M parameters, features of {loaded.width} numbers",
                "computes on": f"{loaded.device} in {str(loaded.dtype).removeprefix('torch.')}",
                "directory": str(loaded.directory),
                "hash": loaded.hash,
            }
        for name, value in rows.items():
            print(f"{name:18} {value}")


@dataclass
class Embed:
    """Features of whole pictures and of texts, float32 of unit length, into one .safetensors file."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Pictures, and folders of pictures."""
    texts: tuple[str, ...] = ()
    """Texts, English or Chinese, each in quotes."""
    kind: Literal["short", "long", "box"] = "short"
    """Head for the texts: short or long to compare with pictures, box to compare with dense and region features."""
    model: str | None = None
    """tiny, a directory or a hub id; without one $FGCLIP2_MODEL, else the released base model."""
    out: Path = Path("features.safetensors")
    """The file: image_features (N, D), text_features (T, D); what they are of stands in its metadata."""

    def run(self) -> None:
        """Compute and write."""
        if not self.images and not self.texts:
            raise Fgclip2Error("nothing to embed; name pictures or folders, or give --texts")
        pictures = _pictures(self.images)
        model = load_model(self.model)
        tensors: dict[str, Tensor] = {}
        used: list[Path] = []
        failures: list[dict[str, str]] = []
        if pictures:
            tensors["image_features"] = model.image_features(_readable(pictures, used, failures))
            if not used:
                raise Fgclip2Error(f"not one picture could be read; the first: {failures[0]['error']}")
        if self.texts:
            tensors["text_features"] = model.text_features(self.texts, kind=self.kind)
        meta = {
            "images": list(map(str, used)),
            "texts": list(self.texts),
            "kind": self.kind,
            "model_hash": model.hash,
        }
        _write(self.out, tensors, meta)
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        print(f"{self.out}: {shapes}")
        if failures:
            listing = self.out.with_name("failures.jsonl")
            write_atomically(
                listing, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in failures).encode()
            )
            print(f"{len(failures)} pictures could not be read, see {listing}; first: {failures[0]['error']}")


@dataclass
class Dense:
    """Where each text is in a picture: a heat-map a text, and the dense features."""

    image: Annotated[Path, tyro.conf.Positional]
    """The picture."""
    texts: tuple[str, ...]
    """Phrases, English or Chinese, each in quotes."""
    max_patches: int | None = None
    """Detail: number of 16 x 16 patches the picture is cut into, up to 16,384; without it the picture's own bucket."""
    model: str | None = None
    """tiny, a directory or a hub id; without one $FGCLIP2_MODEL, else the released base model."""
    out: Path = Path("outputs/dense")
    """Folder for 0.png, 1.png, ... (one a text) and dense.safetensors: map (h, w, D), similarity (T, h, w)."""

    def run(self) -> None:
        """Compute, draw and write."""
        import fgclip2

        if not self.texts:
            raise Fgclip2Error('nothing to look for; give --texts "a red car" "黑猫"')
        picture = fgclip2.open_image(self.image)
        model = load_model(self.model)
        features = model.dense_features(picture, max_patches=self.max_patches)
        texts = model.text_features(self.texts, kind="box")
        maps = features.similarity_map(texts)
        self.out.mkdir(parents=True, exist_ok=True)
        for index, (text, found) in enumerate(zip(self.texts, maps, strict=True)):
            file = self.out / f"{index}.png"
            fgclip2.heat_map(picture, found, label=text).save(file)
            print(f"{file}: {text!r}, cosine {float(found.min()):.3f} to {float(found.max()):.3f}")
        tensors = {"map": features.map, "similarity": features.similarity(texts)}
        meta = {"image": str(self.image), "texts": list(self.texts), "model_hash": model.hash}
        _write(self.out / "dense.safetensors", tensors, meta)
        print(f"{self.out / 'dense.safetensors'}: map {tuple(features.map.shape)}")


@dataclass
class MakeVocabulary:
    """Embed class names once, into one .safetensors file that detectors take in place of the names."""

    classes: str = ""
    """Names, English or Chinese, separated by commas."""
    classes_file: Path | None = None
    """The same from a file: .txt with one name a line, or .json with a list of names, of {"name": "sofa", "synonyms":
    ["couch", "沙发"]}, or COCO's categories."""
    templates: Path | None = None
    """JSON: prompts with {} for the name, as a list or, each language its own, as {"en": [...], "zh": [...]}."""
    model: str | None = None
    """tiny, a directory or a hub id; without one $FGCLIP2_MODEL, else the released base model."""
    out: Path = Path("vocabulary.safetensors")
    """The file."""

    def run(self) -> None:
        """Embed and write."""
        from fgclip2.vocabulary import Vocabulary, load_classes, load_templates, parse_names

        if bool(self.classes) == bool(self.classes_file):
            raise Fgclip2Error("give the class names with --classes or with --classes-file")
        names = load_classes(self.classes_file) if self.classes_file else parse_names(self.classes)
        templates = None if self.templates is None else load_templates(self.templates)
        model = load_model(self.model)
        vocabulary = Vocabulary.build(model, names, templates)
        vocabulary.save(self.out)
        print(f"{self.out}: {len(vocabulary)} classes by {model.name} (hash {model.hash[:12]})")


@dataclass
class Export:
    """Write the model for ONNX Runtime or OpenVINO, compared with torch; --model takes the directory like any other."""

    out: Path
    """The directory to write; must not exist, or be empty."""
    format: Literal["onnx", "openvino"] = "onnx"
    """onnx runs in float32, openvino also in bfloat16, where the processor has it."""
    head: tuple[Literal["image", "dense", "text"], ...] = ("image", "dense", "text")
    """What to export: features of whole pictures, of every patch (and regions), of texts."""
    vocabulary: Path | None = None
    """A .safetensors file of fgclip2 vocabulary to bake in; without the text head, its classes are the texts known."""
    opset: int = 18
    """Of ONNX, 18 to 23."""
    model: str | None = None
    """tiny, a directory or a hub id; without one $FGCLIP2_MODEL, else the released base model."""

    def run(self) -> None:
        """Write, compare, print how close it comes."""
        from fgclip2.export import export
        from fgclip2.vocabulary import Vocabulary

        model = load_model(self.model, device="cpu", dtype="float32")
        vocabulary = None if self.vocabulary is None else Vocabulary.load(self.vocabulary, model)
        exported = export(model, self.out, format=self.format, heads=self.head, vocabulary=vocabulary, opset=self.opset)
        manifest = exported.manifest
        for dtype, agreement in (("float32", manifest.agreement), ("bfloat16", manifest.half)):
            for head, found in agreement.items():
                print(
                    f"{head:6} in {dtype:8}: cosine to torch in float32 {found.mean:.6f} on average, "
                    f"{found.minimum:.6f} at least; largest difference {found.largest:.1e}"
                )
        baked = "" if exported.vocabulary is None else f", {len(exported.vocabulary):,} classes"
        size = sum(exported.manifest.files.values()) / 1e6
        print(f'{self.out}: {self.format}, {size:,.1f} MB{baked}; fgclip2.load("{self.out}") opens it')


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _pictures(inputs: Sequence[Path]) -> list[tuple[Path, bool]]:
    """Every picture, and whether it was named; those found in folders may turn out bad."""
    from fgclip2.data.media import find_pictures

    found: list[tuple[Path, bool]] = []
    for path in inputs:
        found += [(picture, False) for picture in find_pictures(path)[0]] if path.is_dir() else [(path, True)]
    return found


def _readable(
    pictures: Sequence[tuple[Path, bool]], used: list[Path], failures: list[dict[str, str]]
) -> Iterator[Image.Image]:
    """Open one after the other; bad ones of folders are listed and left out, a bad one that was named is an error."""
    import fgclip2

    for path, named in pictures:
        try:
            picture = fgclip2.open_image(path)
        except Fgclip2Error as error:
            if named:
                raise
            failures.append({"image": str(path), "error": str(error)})
            continue
        used.append(path)
        yield picture


def _write(file: Path, tensors: dict[str, Tensor], meta: Mapping[str, object]) -> None:
    """Write tensors; every value of the metadata is JSON."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(
        file, save(plain, metadata={key: json.dumps(value, ensure_ascii=False) for key, value in meta.items()})
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0, or 2 after an error that the user can mend."""

    def run() -> None:
        chosen = parse(
            Annotated[Info, tyro.conf.subcommand("info")]
            | Annotated[Embed, tyro.conf.subcommand("embed")]
            | Annotated[Dense, tyro.conf.subcommand("dense")]
            | Annotated[MakeVocabulary, tyro.conf.subcommand("vocabulary")]
            | Annotated[TrainArguments, tyro.conf.subcommand("train")]
            | Annotated[IndexArguments, tyro.conf.subcommand("index")]
            | Annotated[SearchArguments, tyro.conf.subcommand("search")]
            | Annotated[EvalArguments, tyro.conf.subcommand("eval")]
            | Annotated[Export, tyro.conf.subcommand("export")],
            argv,
            prog="fgclip2",
            description=__doc__,
        )
        chosen.run()

    return exit_code(run)
