"""mmdetection's ``DetInferencer`` with FG-CLIP 2's names: any of its detectors, any classes, no training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import FusionConfig, FusionRescorer
from fgclip2.images import open_image
from fgclip2.predictor import FGCLIP2
from fgclip2.vocabulary import ClassNames, Vocabulary

from .asking import refuse_texts
from .drawing import let_it_draw
from .inference import open_config
from .proposals import build_detector, load_detector


class FusionDetInferencer(DetInferencer):
    """Called and configured as mmdetection's ``DetInferencer``; what it returns is named by FG-CLIP 2.

    ``inferencer("street.jpg")["predictions"][0]`` has ``bboxes``, fused ``scores`` and ``labels``, which index
    ``inferencer.classes``; ``out_dir``, ``return_vis``, ``return_datasamples`` and the rest do what they do there.

    Args:
        model: mmdetection config of a stock detector, a file or the config itself.
        weights: its checkpoint, a file; None keeps random ones, which is for tests.
        fgclip2: who names the boxes.
        classes: what to look for; change it with `set_classes`.
        contrast: names that compete; None takes the classes that the checkpoint names.
        config: how scores are joined.
        **kwargs: of ``DetInferencer``: ``device``, ``palette``, ``show_progress``, ...

    Raises:
        Fgclip2Error: a config or weights that cannot be used, or names that are empty or repeat.
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        *,
        fgclip2: FGCLIP2,
        classes: Vocabulary | ClassNames,
        contrast: Sequence[str] | None = None,
        config: FusionConfig | None = None,
        **kwargs: Any,
    ) -> None:
        self.trained_classes: tuple[str, ...] = ()
        self.fgclip2, self._config = fgclip2, config or FusionConfig()
        cfg = model if isinstance(model, Config) else open_config(Path(model), "give an mmdetection config")
        super().__init__(model=cfg, weights=None if weights is None else str(weights), **kwargs)
        self.set_classes(classes, contrast)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names that ``labels`` index; `set_classes` changes them."""
        return self._rescorer.vocabulary.names

    @property
    def config(self) -> FusionConfig:
        """How scores are joined; another one counts from then on."""
        return self._config

    @config.setter
    def config(self, value: FusionConfig) -> None:
        self._config = value
        self.set_classes(*self._asked)

    def set_classes(self, names: Vocabulary | ClassNames, contrast: Sequence[str] | None = None) -> int:
        """Choose what to look for; arguments as for the constructor.

        Returns:
            How many classes stand in contrast.
        """
        rivals = self.trained_classes if contrast is None else contrast
        self._rescorer = FusionRescorer(self.fgclip2, names, self.config, rivals)
        self._asked = names, contrast
        self.model.dataset_meta["classes"] = self.classes
        let_it_draw(self.classes)
        return len(self._rescorer.contrast)

    def __call__(
        self,
        inputs: Any,
        *args: Any,
        texts: Any = None,
        stuff_texts: Any = None,
        custom_entities: bool = False,
        tokens_positive: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Detect and name; arguments and result are those of mmdetection's ``DetInferencer``.

        Raises:
            Fgclip2Error: ``texts`` or what belongs to it: `set_classes` chooses the classes.
        """
        refuse_texts(texts, stuff_texts, custom_entities, tokens_positive)
        return super().__call__(inputs, *args, **kwargs)

    def preprocess(self, inputs: Any, batch_size: int = 1, **kwargs: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        """mmdetection's batches, with the pictures that FG-CLIP 2 will look at."""
        given = next((item for item in inputs if isinstance(item, dict) and "text" in item), {})
        refuse_texts(given.get("text"), given.get("stuff_text"), False, None)
        for originals, data in super().preprocess(inputs, batch_size, **kwargs):
            yield originals, {**data, "pictures": [_picture(original) for original in originals]}

    def forward(self, inputs: dict[str, Any], **kwargs: Any) -> list[Any]:
        """Detect, then name; ``pred_instances`` of every sample is replaced."""
        samples = super().forward({key: value for key, value in inputs.items() if key != "pictures"}, **kwargs)
        features = self.fgclip2.dense_features_of(inputs["pictures"], max_patches=self.config.max_patches)
        for sample, dense in zip(samples, features, strict=True):
            found = sample.pred_instances
            boxes = getattr(found.bboxes, "tensor", found.bboxes)
            named = self._rescorer(dense, boxes.float(), found.scores.float().clamp(0, 1))
            fused = InstanceData(bboxes=named.boxes, scores=named.scores, labels=named.labels)
            if "masks" in found:  # detectors with masks: every kept box keeps its own
                fused.masks = found.masks[named.source.to(found.scores.device)]
            sample.pred_instances = fused
        return samples

    def _init_model(self, cfg: Config, weights: str | None, device: str = "cpu") -> BaseModel:
        detector = build_detector(cfg, str(cfg.filename or "the given config"))
        if weights is not None:
            self.trained_classes = load_detector(detector, Path(weights))
        # mmdetection's visualizer keeps this very dictionary, so that other classes are drawn by their names as well.
        palette = "random" if self.palette == "none" else self.palette
        detector.dataset_meta = {"classes": self.trained_classes, "palette": palette}
        detector.cfg = cfg
        return detector.to(device).eval()


def _picture(original: Any) -> Image.Image:
    if isinstance(original, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(original[..., ::-1]))  # mmdetection's arrays are BGR
    if isinstance(original, str):
        return open_image(original)
    raise Fgclip2Error(f"a picture is given as {type(original).__name__}; give a path or a (H, W, 3) BGR array")
