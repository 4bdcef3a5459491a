"""A toolkit around FG-CLIP 2: dense, bilingual vision-language features.

    >>> import fgclip2
    >>> model = fgclip2.load("tiny")
    >>> features = model.dense_features("fgclip2/assets/images/scene.png")
    >>> features.similarity(model.text_features(["黑猫", "a red car"], kind="box"))

Names are imported when they are first used, so that ``import fgclip2`` costs no more than the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fgclip2 import losses
    from fgclip2.config import Fgclip2Config, Fgclip2TextConfig, Fgclip2VisionConfig, preset
    from fgclip2.errors import Fgclip2Error
    from fgclip2.features import DenseFeatures
    from fgclip2.fusion import FusionConfig, FusionInferencer, FusionRescorer
    from fgclip2.images import open_image
    from fgclip2.modeling import Fgclip2Model
    from fgclip2.predictor import FGCLIP2, dense_features, load
    from fgclip2.processing import ImageProcessor, Processor, TextProcessor
    from fgclip2.search.hits import Hit, Hits
    from fgclip2.search.query import Query
    from fgclip2.search.search import Index
    from fgclip2.spaces import Features, ImageFeatures, RegionFeatures, TextFeatures
    from fgclip2.tiles import TiledFinder, Tiling
    from fgclip2.visualize import draw_boxes, heat_map
    from fgclip2.vocabulary import Vocabulary

__version__: Final = "0.1.0"

_HOME: Final = {
    "FGCLIP2": "predictor",
    "DenseFeatures": "features",
    "Features": "spaces",
    "Fgclip2Config": "config",
    "Fgclip2Error": "errors",
    "Fgclip2Model": "modeling",
    "Fgclip2TextConfig": "config",
    "Fgclip2VisionConfig": "config",
    "FusionConfig": "fusion",
    "FusionInferencer": "fusion",
    "FusionRescorer": "fusion",
    "Hit": "search.hits",
    "Hits": "search.hits",
    "ImageFeatures": "spaces",
    "ImageProcessor": "processing",
    "Index": "search.search",
    "Processor": "processing",
    "Query": "search.query",
    "RegionFeatures": "spaces",
    "TextFeatures": "spaces",
    "TextProcessor": "processing",
    "TiledFinder": "tiles",
    "Tiling": "tiles",
    "Vocabulary": "vocabulary",
    "dense_features": "predictor",
    "draw_boxes": "visualize",
    "heat_map": "visualize",
    "load": "predictor",
    "open_image": "images",
    "preset": "config",
}
_MODULES: Final = ("data", "evaluation", "losses", "search", "train")

__all__ = [
    "FGCLIP2",
    "DenseFeatures",
    "Features",
    "Fgclip2Config",
    "Fgclip2Error",
    "Fgclip2Model",
    "Fgclip2TextConfig",
    "Fgclip2VisionConfig",
    "FusionConfig",
    "FusionInferencer",
    "FusionRescorer",
    "Hit",
    "Hits",
    "ImageFeatures",
    "ImageProcessor",
    "Index",
    "Processor",
    "Query",
    "RegionFeatures",
    "TextFeatures",
    "TextProcessor",
    "TiledFinder",
    "Tiling",
    "Vocabulary",
    "dense_features",
    "draw_boxes",
    "heat_map",
    "load",
    "losses",
    "open_image",
    "preset",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from fgclip2.extras import extras

        with extras():
            value = getattr(import_module(f"fgclip2.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"fgclip2.{name}")
    raise AttributeError(f"module 'fgclip2' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
