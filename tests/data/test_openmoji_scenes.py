"""Pictures, masks and boxes of the embedded world."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fgclip2.data.openmoji import COLOURS, SceneConfig, World, WorldConfig
from fgclip2.data.openmoji.compose import GROUNDS, ground
from fgclip2.errors import Fgclip2Error

ROOT = Path(__file__).resolve().parents[2]
SMALL = SceneConfig(size=160)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 10**6)


def digest(scene) -> str:
    said = [(o.box, o.visible, o.phrases, o.negatives, o.negative_kinds) for o in scene.objects]
    content = repr([said, scene.short, scene.long, scene.hard_caption]).encode()
    return hashlib.sha256(scene.pixels.tobytes() + scene.labels.tobytes() + content).hexdigest()


def test_same_seed_same_scene_in_another_process(world):
    mine = [digest(world.scene(seed, SMALL)) for seed in (0, 17)]
    assert mine == [digest(World().scene(seed, SMALL)) for seed in (0, 17)]
    code = (
        "from tests.data.test_openmoji_scenes import *\nprint([digest(World().scene(seed, SMALL)) for seed in (0, 17)])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(mine)


def test_order_of_asking_does_not_matter(world):
    first = digest(world.scene(5, SMALL))
    later = world.scene(5, SMALL)
    assert later.hard_caption.text
    assert later.long
    assert digest(later) == first
    assert digest(world.scene(6, SMALL)) != first
    assert digest(World(WorldConfig(seed=1)).scene(5, SMALL)) != first


def test_no_global_random_state_is_used(world):
    np.random.seed(0)
    first = digest(world.scene(9, SMALL))
    np.random.seed(1)
    assert digest(world.scene(9, SMALL)) == first


def test_scenes_travel_between_processes(world):
    scene = world.scene(3, SMALL)
    assert digest(pickle.loads(pickle.dumps(scene))) == digest(scene)


@few
@given(seed=seeds)
def test_boxes_are_tight_on_the_visible_masks(world, seed):
    scene = world.scene(seed, SMALL)
    assert scene.pixels.shape == (160, 160, 3)
    assert scene.pixels.dtype == np.uint8
    assert 4 <= len(scene.objects) <= 8
    for thing in scene.objects:
        rows, columns = np.nonzero(thing.mask)
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@few
@given(seed=seeds)
def test_masks_do_not_overlap_and_hold_the_glyph(world, seed):
    scene = world.scene(seed, SMALL)
    total = np.zeros(scene.labels.shape, int)
    for thing in scene.objects:
        total += thing.mask
        assert (thing.mask | thing.glyph_mask).sum() == thing.mask.sum()
        if thing.style != "badge":
            assert (thing.mask == thing.glyph_mask).all()
    assert total.max() == 1
    assert ((total == 0) == (scene.labels == 0)).all()


@few
@given(seed=seeds)
def test_at_least_half_of_everything_is_visible(world, seed):
    for thing in world.scene(seed, SMALL).objects:
        assert 0.5 <= thing.visible <= 1
        assert thing.glyph_mask.any()


def test_visible_share_is_exact_for_an_uncovered_object(world):
    scene = world.scene(11, SMALL)
    assert scene.objects[-1].visible == 1.0


def test_nothing_outside_the_masks_is_painted(world):
    seed = 21
    scene = world.scene(seed, SMALL)
    outside = scene.labels == 0
    near = np.zeros_like(outside)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near |= np.roll(~outside, (dy, dx), (0, 1))
    # Pale and nearly grey: edges of less than half coverage are at most one pixel wide.
    ground_pixels = scene.pixels[~near].astype(int)
    assert ground_pixels.min() >= 140
    assert (ground_pixels.max(1) - ground_pixels.min(1)).max() <= 30


@few
@given(seed=seeds)
def test_badges_have_their_colour(world, seed):
    names = np.array([c.rgb for c in COLOURS], float)
    for thing in world.scene(seed, SceneConfig(size=320, objects=(1, 3), styles=(0, 1, 0))).objects:
        badge = thing.labels == 2 * thing.index + 1
        colour = np.median(world.scene(seed, SceneConfig(size=320, objects=(1, 3), styles=(0, 1, 0))).pixels[badge], 0)
        assert int(((names - colour) ** 2).sum(1).argmin()) == thing.colour


def test_tints_have_their_colour(world):
    names = np.array([c.rgb for c in COLOURS], float)
    right = []
    for seed in range(60):
        scene = world.scene(seed, SceneConfig(size=160, objects=(1, 1), scale=(0.7, 0.9), styles=(0, 0, 1)))
        (thing,) = scene.objects
        inside = scene.pixels[thing.mask].astype(float)
        inside = inside[inside.max(1) > 90]
        nearest = ((inside[:, None] - names) ** 2).sum(-1).argmin(1)
        right.append(np.bincount(nearest, minlength=len(COLOURS)).argmax() == thing.colour)
        assert thing.colour not in thing.natural
    assert np.mean(right) >= 0.85


def test_styles_come_in_their_shares(world):
    found = Counter(o.style for seed in range(150) for o in world.scene(seed, SceneConfig(size=96)).objects)
    total = sum(found.values())
    assert found["plain"] / total == pytest.approx(0.4, abs=0.06)
    assert found["badge"] / total == pytest.approx(0.4, abs=0.06)
    assert found["tint"] / total == pytest.approx(0.2, abs=0.06)


@few
@given(seed=seeds)
def test_stated_sizes_show(world, seed):
    things = world.scene(seed, SMALL).objects
    for thing in things:
        if thing.size == "small":
            assert max(o.scale for o in things) >= 1.5 * thing.scale
        if thing.size == "large":
            assert min(o.scale for o in things) <= thing.scale / 1.5


def test_withheld_pairs_never_show_or_only(world):
    for seed in range(60):
        for thing in world.scene(seed, SceneConfig(size=96)).objects:
            assert (thing.colour, thing.category.id) not in world.withheld
            for said in (thing.attributes, *thing.negative_attributes):
                assert (said.colour, said.category) not in world.withheld
        for thing in world.scene(seed, SceneConfig(size=96, withheld="only")).objects:
            assert (thing.colour, thing.category.id) in world.withheld


def test_categories_can_be_restricted(world):
    base, novel = world.split(0.25)
    config = SceneConfig(size=96, category_ids=tuple(novel))
    for seed in range(20):
        for thing in world.scene(seed, config).objects:
            assert thing.category.id in novel
            far = [a for k, a in zip(thing.negative_kinds, thing.negative_attributes, strict=True) if k == "category"]
            assert not {a.category for a in far} & set(base)


def test_wide_pictures_and_crops(world):
    scene = world.scene(1, SceneConfig(size=(200, 120)))
    assert scene.pixels.shape == (120, 200, 3)
    assert scene.image.size == (200, 120)
    crop = world.object_crop(4, size=64)
    (thing,) = crop.objects
    x1, y1, x2, y2 = thing.box
    assert crop.pixels.shape == (64, 64, 3)
    assert max(x2 - x1, y2 - y1) >= 0.6 * 64


def test_more_categories_than_there_are_repeat(world):
    scene = world.scene(0, SceneConfig(size=160, objects=(5, 5), category_ids=(10, 20)))
    assert {thing.category.id for thing in scene.objects} <= {10, 20}


def test_many_objects_keep_their_masks(world):
    scene = world.scene(2, SceneConfig(size=320, objects=(40, 40), scale=(0.05, 0.12)))
    assert len(scene.objects) == 40
    assert all(thing.mask.any() for thing in scene.objects)


@pytest.mark.parametrize("kind", range(len(GROUNDS)))
def test_grounds_are_pale(kind):
    from fgclip2.data.openmoji.attributes import Draws

    for seed in range(5):
        picture = ground(kind, 70, 50, Draws(seed)).astype(int)
        assert picture.shape == (50, 70, 3)
        assert 145 <= picture.min() <= picture.max() <= 255
        assert (picture.max(2) - picture.min(2)).max() <= 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objects": (3, 2)}, "least, most"),
        ({"objects": (0, 2)}, "1 <= least"),
        ({"size": 8}, "at least 16"),
        ({"scale": (0.5, 0.2)}, "least, most"),
        ({"withheld": "maybe"}, "'exclude', 'only' or 'any'"),
        ({"negatives": "hard"}, "'mixed', 'random' or 'near'"),
        ({"styles": (0, 0, 0)}, "three weights"),
    ],
)
def test_wrong_configurations_teach(arguments, message):
    with pytest.raises(Fgclip2Error, match=message):
        SceneConfig(**arguments)


def test_wrong_requests_teach(world):
    with pytest.raises(Fgclip2Error, match="integer from 0 on"):
        world.scene(-1)
    with pytest.raises(Fgclip2Error, match="ids between 0 and 863"):
        world.scene(0, SceneConfig(category_ids=(864,)))
    with pytest.raises(Fgclip2Error, match="'badge' or 'tint' a weight"):
        world.scene(0, SceneConfig(styles=(1, 0, 0), withheld="only"))
