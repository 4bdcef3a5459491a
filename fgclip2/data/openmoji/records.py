"""The embedded world as a source of training records: composed when asked for, nothing on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fgclip2.data.openmoji.attributes import Attributes, truth
from fgclip2.data.openmoji.config import SceneConfig
from fgclip2.data.openmoji.contrasts import region_contrasts
from fgclip2.data.openmoji.scenes import Scene, SceneObject
from fgclip2.data.openmoji.world import World
from fgclip2.data.records import LANGUAGES, Language, Record, RegionRecord, check_index
from fgclip2.errors import Fgclip2Error


@dataclass(frozen=True, slots=True)
class SceneFacts:
    """The object behind a region: tells whether another region's text is true, or arguably true, of it."""

    thing: SceneObject

    @property
    def key(self) -> int:
        """Category id: every text names the category."""
        return self.thing.category.id

    def admits(self, other: SceneFacts, bare: bool) -> bool:
        """Whether the phrase of ``other`` (``bare``: its category name alone) is not false of this object."""
        said = Attributes(other.thing.category.id) if bare else other.thing.attributes
        return truth(said, self.thing) is not False


class SceneSource:
    """Record i is the scene of seed ``first_seed + i``; languages take turns.

    Labels are category ids, names the categories' names, and the short caption is each of the scene's four in turn.
    Which (colour, category) pairs are shown and said is ``config.withheld``'s matter.

    Args:
        world: where scenes come from.
        config: how they look.
        first_seed: seed of record 0. Training must not see the seeds that a test uses.
        count: number of records.
        languages: record i is in ``languages[i % len(languages)]``.
    """

    def __init__(
        self,
        world: World,
        config: SceneConfig,
        first_seed: int,
        count: int,
        languages: Sequence[Language] = LANGUAGES,
    ) -> None:
        if first_seed < 0 or count < 1:
            raise Fgclip2Error(f"first_seed {first_seed}, count {count}: give a seed from 0 on and at least one scene")
        if not languages or not set(languages) <= set(LANGUAGES):
            raise Fgclip2Error(f"languages {tuple(languages)!r}: choose from 'en' and 'zh'")
        self.world, self.config, self.first_seed = world, config, first_seed
        cycle = np.array([LANGUAGES.index(language) for language in languages], np.uint8)
        self._turns = len(cycle)
        self.languages = np.resize(cycle, count)

    def __len__(self) -> int:
        return len(self.languages)

    def __getitem__(self, index: int) -> Record:
        check_index(index, len(self))
        scene = self.world.scene(self.first_seed + index, self.config)
        language = LANGUAGES[self.languages[index]]
        captions = scene.short[language]
        return scene_record(scene, language, caption=index // self._turns % len(captions))


def scene_record(scene: Scene, language: Language, caption: int = 0) -> Record:
    """A scene as a training record.

    Args:
        scene: the scene.
        language: of all texts.
        caption: which of its four short captions.
    """
    height, width = scene.labels.shape
    return Record(
        name=f"scene {scene.seed}",
        image=scene.pixels,
        language=language,
        short=scene.short[language][caption],
        long=scene.long[language],
        hard=(scene.hard_caption.text[language], *scene.hard_caption.negatives[language]),
        contrasts=tuple(contrast.said(language) for contrast in scene.contrasts),
        regions=tuple(
            RegionRecord(
                box=(thing.box[0] / width, thing.box[1] / height, thing.box[2] / width, thing.box[3] / height),
                texts=(thing.phrases[language],),
                negatives=tuple(thing.negatives[language]),
                contrasts=tuple(contrast.said(language) for contrast in region_contrasts(thing)),
                label=thing.category.id,
                name=thing.names[language],
                facts=SceneFacts(thing),
            )
            for thing in scene.objects
        ),
    )
