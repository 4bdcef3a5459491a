"""Training-free detection in mmdetection's terms: a stock detector's boxes, named by FG-CLIP 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import FusionConfig, FusionRescorer
from fgclip2.predictor import FGCLIP2
from fgclip2.vocabulary import Vocabulary

from .inference import Detections

Proposals = Callable[[Sequence[Image.Image]], list[tuple[Tensor, Tensor]]]
"""Pictures to boxes (M, 4) xyxy in pixels and scores (M,) 0..1 of each, such as `MMDetProposals`."""


class FusionInferencer:
    """Detects any classes with any detector's boxes; no training. The counterpart of `OpenVocabInferencer`.

    Args:
        proposals: where boxes come from.
        predictor: FG-CLIP 2.
        config: how scores are joined.
    """

    def __init__(self, proposals: Proposals, predictor: FGCLIP2, config: FusionConfig | None = None) -> None:
        self.proposals, self.predictor, self.config = proposals, predictor, config or FusionConfig()
        self.classes: tuple[str, ...] = ()
        self._rescorer: FusionRescorer | None = None

    def set_classes(self, names: Sequence[str] | Vocabulary) -> None:
        """Choose what to look for: names in either language, or a vocabulary that was made before.

        Raises:
            Fgclip2Error: names that are empty or repeat, or a vocabulary of another model.
        """
        self._rescorer = FusionRescorer(self.predictor, names, self.config)
        self.classes = self._rescorer.vocabulary.names

    def __call__(self, images: Sequence[Image.Image], score_thr: float = 0.3) -> list[Detections]:
        """Detect in a batch of upright RGB pictures of any sizes.

        Args:
            images: pictures.
            score_thr: lowest fused score to keep, 0..1.

        Raises:
            Fgclip2Error: no classes were chosen.
        """
        if self._rescorer is None:
            raise Fgclip2Error("there are no classes to look for; call set_classes(names) first")
        found = []
        for image, (boxes, scores) in zip(images, self.proposals(images), strict=True):
            rescored = self._rescorer(image, boxes, scores)
            kept = rescored.scores >= score_thr
            labels = tuple(self.classes[label] for label in rescored.labels[kept].tolist())
            found.append(Detections(rescored.boxes[kept].cpu().numpy(), rescored.scores[kept].cpu().numpy(), labels))
        return found
