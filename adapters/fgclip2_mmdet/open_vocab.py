"""What the detectors have in common: one pass of the tower, and classes that are texts and can be changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from mmdet.models.detectors import BaseDetector
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.config import Config
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.vocabulary import ClassNames, Vocabulary

from .asking import asked_names, let_texts_through
from .backbone import FGCLIP2Backbone
from .drawing import let_it_draw
from .ensemble import TextClassifier
from .vocabulary import ClassTexts, as_vocabulary, novel_flags, shuffled, trained_words

MAIN = "main"


class OpenVocabDetector(BaseDetector):
    """A detector on an ``FGCLIP2Backbone`` whose `text_head` scores regions against vocabularies.

    A detector calls `configure` once its parts are built. ``vocabulary`` has ``train``: names that training labels
    index, or a dictionary of these with their synonyms; ``test``: names, or a dictionary of named vocabularies, each of
    either form, the first of which fills ``pred_instances`` (default: the training names); ``novel``: names or flags of
    the test classes without labels (default: those not in ``train``); ``templates``: prompts with ``{}``; ``control``:
    a name under which the first vocabulary is scored once more with its embeddings permuted.
    """

    backbone: FGCLIP2Backbone
    templates: Sequence[str] | None = None
    _cfg: Config | None = None
    words: Mapping[str, Collection[str]] = {}
    """Training classes with their words in all languages, see `trained_words`."""

    @property
    def text_head(self) -> TextClassifier:
        """The head that holds the vocabularies."""
        raise NotImplementedError

    def configure(self, vocabulary: Mapping[str, Any] | None) -> None:
        """Set the vocabularies of a config.

        Raises:
            Fgclip2Error: an unknown entry, or what `set_vocabulary` refuses.
        """
        self._dataset_meta: dict[str, Any] = {}
        vocabulary = dict(vocabulary or {})
        unknown = vocabulary.keys() - {"train", "test", "novel", "templates", "control"}
        if unknown:
            raise Fgclip2Error(
                f"vocabulary: unknown {', '.join(sorted(unknown))}; it has train, test, novel, templates and control"
            )
        self.templates = vocabulary.get("templates")
        self.words = trained_words(vocabulary)
        train = vocabulary.get("train")
        if train:
            built = as_vocabulary(train, self.backbone.predictor, self.templates)
            self.text_head.set_train_texts(ClassTexts(built))
        test = vocabulary.get("test")
        named: Mapping[str, Any] = test if test and isinstance(test, Mapping) else {MAIN: test or train}
        if not test and not train:
            return
        for name, classes in named.items():
            self.add_vocabulary(name, classes, vocabulary.get("novel"))
        if vocabulary.get("control"):
            first = as_vocabulary(next(iter(named.values())), self.backbone.predictor, self.templates)
            self.add_vocabulary(vocabulary["control"], shuffled(first), vocabulary.get("novel"))

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """Names the detector learned from; empty when it was built for inference only."""
        texts = getattr(self.text_head, "train_texts", None)
        return () if texts is None else texts.names

    def set_vocabulary(
        self,
        vocabulary: Vocabulary | ClassNames,
        novel: Collection[str] | Sequence[bool] | None = None,
        name: str = MAIN,
    ) -> None:
        """Choose what to look for, in place of every vocabulary so far; no training is needed.

        Args:
            vocabulary: class names, English or Chinese, with or without synonyms, or a ready
                `fgclip2.vocabulary.Vocabulary` of the same model.
            novel: names or flags of the classes that the detector was not trained on; ``None`` takes every class
                that has no word, in any language, of a training class. They are scored with ``beta`` instead of
                ``alpha``.
            name: what `add_vocabulary` and ``text_head.test_texts`` call it.

        Raises:
            Fgclip2Error: empty, from another model, or with novel names that are not classes.
        """
        texts = self._class_texts(vocabulary, novel)
        self.text_head.test_texts.clear()
        self.text_head.test_texts[name] = texts
        self._tell_classes()

    def add_vocabulary(
        self,
        name: str,
        vocabulary: Vocabulary | ClassNames,
        novel: Collection[str] | Sequence[bool] | None = None,
    ) -> None:
        """Look for a further vocabulary in the same pass; one of this name is replaced.

        The first vocabulary fills ``pred_instances``, every further one ``pred_<name>``. Arguments and errors are
        those of `set_vocabulary`.
        """
        self.text_head.test_texts[name] = self._class_texts(vocabulary, novel)
        self._tell_classes()

    def _class_texts(
        self, vocabulary: Vocabulary | ClassNames, novel: Collection[str] | Sequence[bool] | None = None
    ) -> ClassTexts:
        built = as_vocabulary(vocabulary, self.backbone.predictor, self.templates)
        known = {word for words in self.words.values() for word in words}.union(self.trained_classes)
        texts = ClassTexts(built, novel_flags(built.names, known, novel, built.synonyms))
        return texts.to(next(self.parameters()).device)

    @property
    def cfg(self) -> Config | None:
        """What mmdetection's ``init_detector`` and ``DetInferencer`` set: the config that the detector was built of.

        When it is set, the test pipeline learns to hand on the texts of a call (``texts``, ``custom_entities``), which
        it would drop in silence.
        """
        return self._cfg

    @cfg.setter
    def cfg(self, value: Config) -> None:
        self._cfg = value
        let_texts_through(value)

    def asked_texts(self, samples: SampleList) -> list[ClassTexts] | None:
        """The classes that a call of mmdetection's inferencer asks for, of each image; ``None`` where it asks for none.

        Raises:
            Fgclip2Error: texts that are not class names; see `fgclip2_mmdet.asking.asked_names`.
        """
        asked = [asked_names(sample.metainfo) for sample in samples]
        if not any(asked):
            return None
        own = {names: self._class_texts(names) for names in dict.fromkeys(asked) if names}
        if not all(asked) and not len(self.text_head.test_texts):
            raise Fgclip2Error(
                "texts are given for some images only; give texts for all, or call set_vocabulary(names)"
            )
        vocabularies = cast("dict[str, ClassTexts]", self.text_head.test_texts)
        texts = [own[names] if names else next(iter(vocabularies.values())) for names in asked]
        let_it_draw(name for item in texts for name in item.names)
        return texts

    def clear_vocabularies(self) -> None:
        """Forget every test vocabulary."""
        self.text_head.test_texts.clear()

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """What mmdetection's inferencer and visualizer read: always one dictionary, its classes the first vocabulary.

        Other entries are kept as they are set; classes that a checkpoint names, those of its training, are not.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, value: Mapping[str, Any]) -> None:
        self._dataset_meta.update(value)
        self._tell_classes()

    def _tell_classes(self) -> None:
        texts = cast("dict[str, ClassTexts]", self.text_head.test_texts)
        first = next(iter(texts.values()), None)
        self._dataset_meta["classes"] = self.trained_classes if first is None else first.names
        let_it_draw(self._dataset_meta["classes"])

    def extract_feat(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple[Tensor, ...]:
        """Pyramid levels followed by the dense map, from one pass of the tower over ``(B, 3, H, W)``."""
        sizes = None if batch_data_samples is None else picture_sizes(batch_data_samples)
        features = self.backbone.encode(batch_inputs, sizes)
        return (*features.pyramid, features.dense)

    def add_vocabularies(self, samples: SampleList, results: Mapping[str, InstanceList]) -> SampleList:
        """Put detections into the samples: ``pred_instances`` for the first vocabulary, ``pred_<name>`` for others."""
        for index, (name, detections) in enumerate(results.items()):
            for sample, instances in zip(samples, detections, strict=True):
                setattr(sample, "pred_instances" if index == 0 else f"pred_{name}", instances)
        return samples


def picture_sizes(samples: SampleList) -> list[tuple[int, int]]:
    """Height and width of every picture in pixels of the network's input, without padding."""
    return [(int(sample.img_shape[0]), int(sample.img_shape[1])) for sample in samples]


def for_tower(head: Mapping[str, Any], backbone: FGCLIP2Backbone) -> dict[str, Any]:
    """A copy of a head's config with the tower's width as ``embed_dims``, unless it has one."""
    return {"embed_dims": backbone.width, **head}
