"""Records to batches: what is drawn, what is left out by name, and that every index points at the right thing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fgclip2.data.collate import Collator, TextShares, TrainBatch, TrainingDataset
from fgclip2.data.failures import Failure
from fgclip2.data.openmoji import SceneConfig, truth
from fgclip2.data.openmoji.records import SceneSource
from fgclip2.data.records import Record, RecordError, RegionRecord, open_records
from fgclip2.data.sampler import LanguageBatchSampler
from fgclip2.data.samples import Sample
from fgclip2.errors import Fgclip2Error
from fgclip2.processing import Processor
from fgclip2.train.patches import patchify

SCENES = SceneConfig(size=96, objects=(2, 4))


@pytest.fixture(scope="module")
def processor(tiny_dir: Path) -> Processor:
    return Processor.from_pretrained(tiny_dir)


class Listed:
    """Records from a list; an error stands for a record that cannot be used."""

    def __init__(self, *records: Record | RecordError, language: int = 0) -> None:
        self.records = records
        self.languages = np.full(len(records), language, np.uint8)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        found = self.records[index]
        if isinstance(found, RecordError):
            raise found
        return found


def pixels(height: int = 32, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def region(text: str = "red car", negatives: tuple[str, ...] = (), **more) -> RegionRecord:
    return RegionRecord((0.25, 0.0, 0.75, 0.5), (text,), negatives, **more)


def record(name: str = "x#0", language: str = "en", short: str = "A Car", **more) -> Record:
    return Record(name, more.pop("image", pixels()), language, short, **more)


def batch_of(processor: Processor, *records: Record | RecordError, language: str = "en", **options) -> TrainBatch:
    dataset = TrainingDataset(Listed(*records, language=("en", "zh").index(language)), **options)
    return Collator(processor)([dataset[0, k] for k in range(len(records))])


def ids(processor: Processor, *texts: str, kind: str = "short") -> list[list[int]]:
    return processor.text(texts, kind).tolist()


def test_every_index_points_at_its_text(processor):
    first = record(long="The Long One", regions=(region("Red CAR", ("blue car", "red bus"), label=7), region("wheel")))
    second = record("x#1", short="a car", regions=(region("red car", ("green car",)),))
    batch = batch_of(processor, first, second)
    texts = batch.texts.tolist()
    assert len(texts) == len({tuple(row) for row in texts}) == 6  # "red car" and the caption are there once
    caption, car, wheel, blue, bus, green = ids(
        processor, "a photo of a car", "red car", "wheel", "blue car", "red bus", "green car"
    )
    assert [texts[k] for k in batch.short] == [caption, caption]
    assert [texts[k] for k in batch.region_text] == [car, wheel, car]
    assert batch.labels.tolist() == [7, -1, -1]
    assert batch.hard_of.tolist() == [0, 2]
    assert [texts[k] for k in batch.hard_text[0]] == [car, blue, bus]
    assert [texts[k] for k in batch.hard_text[1, :2]] == [car, green]
    assert batch.hard_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.long_of.tolist() == [0]
    assert batch.long.tolist() == [0]
    assert batch.long_texts.tolist() == ids(processor, "the long one", kind="long")
    assert batch.boxes.tolist() == [[0, 0.25, 0, 0.75, 0.5], [0, 0.25, 0, 0.75, 0.5], [1, 0.25, 0, 0.75, 0.5]]
    assert batch.also_true.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    assert (len(batch), batch.seen, batch.language, batch.failures) == (2, 2, "en", ())
    assert not batch.bare.any()


def test_hard_captions_are_drawn_with_the_prefix_and_told_from_those_of_regions(processor):
    first = record(hard=("A Car", "a bus", "two cars"), regions=(region("red car", ("blue car",)),))
    batch = batch_of(processor, first, record("x#1", hard=("a cat", "a dog")), record("x#2"))
    texts = batch.texts.tolist()
    car, bus, cars, cat, dog = ids(
        processor, *(f"a photo of {x}" for x in ("a car", "a bus", "two cars", "a cat", "a dog"))
    )
    assert batch.hard_picture.tolist() == [0, 1]
    assert [texts[k] for k in batch.hard_caption[0]] == [car, bus, cars]
    assert [texts[k] for k in batch.hard_caption[1, :2]] == [cat, dog]
    assert batch.hard_caption_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.hard_of.tolist() == [0]
    fewer = batch_of(processor, first, negatives=1)
    assert fewer.hard_caption.shape == (1, 2)
    with pytest.raises(RecordError, match="a true one alone"):
        record(hard=("a car",))


def test_chinese_texts_and_boxes_are_used_and_get_no_prefix(processor):
    chinese = record(language="zh", short="红色的汽车", regions=(region("汽车", ("黑猫",)),))
    batch = batch_of(processor, chinese, language="zh")
    assert batch.language == "zh"
    assert batch.texts.tolist() == ids(processor, "汽车", "黑猫", "红色的汽车")
    assert batch.hard_text.tolist() == [[0, 1]]
    assert len(batch.boxes) == 1


def test_patches_are_those_of_the_image_processor(processor, tmp_path):
    sizes = [(100, 60), (16, 16), (40, 170)]
    pictures = [Image.fromarray(pixels(height, width)) for width, height in sizes]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    records = [record(f"x#{number}", image=tmp_path / f"{number}.png") for number in range(3)]
    batch = batch_of(processor, *records)
    assert batch.patches.dtype == torch.uint8
    moved = batch.to("cpu")
    expected = processor.image(pictures, pad=False)
    assert torch.equal(moved.patches, expected["pixel_values"])
    assert torch.equal(moved.mask, expected["pixel_attention_mask"].bool())
    assert torch.equal(moved.grids, expected["spatial_shapes"])
    assert torch.equal(moved.to("cpu").patches, moved.patches)  # once on the device, moving changes nothing
    dataset = TrainingDataset(Listed(*records))
    given = Collator(processor, max_patches=20)([dataset[0, k] for k in range(3)]).to("cpu")
    assert torch.equal(given.patches, processor.image(pictures, 20, pad=False)["pixel_values"])


def test_composed_pictures_are_not_resized(processor):
    records = [record(f"x#{seed}", image=pixels(seed=seed)) for seed in range(3)]
    batch = batch_of(processor, *records).to("cpu")
    values, grids = patchify(torch.from_numpy(np.stack([pixels(seed=seed) for seed in range(3)])))
    assert torch.equal(batch.patches, values)
    assert torch.equal(batch.grids, grids)
    assert batch.mask is None
    mixed = batch_of(processor, records[0], record("x#1", image=pixels(16, 16)), record("x#2", image=pixels(30, 30)))
    assert mixed.grids.tolist() == [[2, 3], [1, 1], [11, 11]]
    assert mixed.mask.sum(1).tolist() == [6, 1, 121]
    assert torch.equal(mixed.to("cpu").patches[0, :6], values[0])
    assert not mixed.to("cpu").patches[0, 6:].any()


def test_regions_are_sampled_anew_every_epoch_and_all_get_their_turn():
    many = record(regions=tuple(region(f"thing {k}", tuple(f"not {k} {j}" for j in range(10))) for k in range(9)))
    dataset = TrainingDataset(Listed(many), max_regions=4, negatives=3)
    drawn = [[item.text for item in dataset[epoch, 0].regions] for epoch in range(40)]
    assert all(len(set(texts)) == 4 for texts in drawn)
    assert {text for texts in drawn for text in texts} == {f"thing {k}" for k in range(9)}
    assert [item.text for item in dataset[3, 0].regions] == drawn[3]  # of the epoch and the number, not of the past
    other = TrainingDataset(Listed(many), max_regions=4, negatives=3, seed=1)
    assert [[item.text for item in other[epoch, 0].regions] for epoch in range(40)] != drawn
    for item in dataset[0, 0].regions:
        number = item.text.split()[-1]
        ((true, *false),) = item.hard
        assert true == item.text
        assert len(set(false)) == 3
        assert all(text.startswith(f"not {number} ") for text in false)
    everything = TrainingDataset(Listed(many), max_regions=None)[0, 0].regions
    assert [item.text for item in everything] == [f"thing {k}" for k in range(9)]
    assert TrainingDataset(Listed(many), max_regions=0)[0, 0].regions == []


def test_short_and_long_expressions_take_turns_but_hard_texts_are_short():
    both = RegionRecord((0, 0, 1, 1), ("cat", "a cat on a sofa"), ("dog",))
    dataset = TrainingDataset(Listed(record(regions=(both,))))
    items = [dataset[epoch, 0].regions[0] for epoch in range(200)]
    assert 70 < sum(item.text == "cat" for item in items) < 130
    assert {item.text for item in items} == {"cat", "a cat on a sofa"}
    assert {item.hard for item in items} == {(("cat", "dog"),)}


def test_contrasts_are_drawn_one_by_one_and_stand_beside_hard_negatives(processor):
    """Their rows name the same region or picture again; without a share nothing of them is drawn, as before."""
    sets = (("a cat on the left", "a cat on the right", "a cat at the top"), ("a small cat", "a large cat"))
    thing = region("cat", ("dog",), contrasts=sets)
    given = record(hard=("one cat", "two cats"), contrasts=(("黑猫", "白猫"),), regions=(region("sofa"), thing))
    shares = TextShares(contrasts=0.5, picture_contrasts=0.25)
    dataset = TrainingDataset(Listed(given), shares=shares, prefix_english="", max_regions=None)
    samples = [dataset[epoch, 0] for epoch in range(400)]
    assert all(
        sample.regions[1].hard[0] == ("cat", "dog") and sample.hard[0] == ("one cat", "two cats") for sample in samples
    )
    for each in sets:
        drawn = [each in sample.regions[1].hard for sample in samples]
        assert np.mean(drawn) == pytest.approx(0.5, abs=0.08)
    assert np.mean([("黑猫", "白猫") in sample.hard for sample in samples]) == pytest.approx(0.25, abs=0.07)
    assert {sample.regions[0].hard for sample in samples} == {()}

    everything = TextShares(contrasts=1, picture_contrasts=1)
    batch = batch_of(processor, given, shares=everything, prefix_english="", max_regions=None)
    assert batch.hard_of.tolist() == [1, 1, 1]
    assert batch.hard_mask.tolist() == [[True, True, False], [True, True, True], [True, True, False]]
    assert batch.texts[batch.hard_text[1]].tolist() == ids(processor, *sets[0])
    assert batch.texts[batch.hard_text[2, :2]].tolist() == ids(processor, *sets[1])
    assert batch.hard_picture.tolist() == [0, 0]
    assert batch.texts[batch.hard_caption[1]].tolist() == ids(processor, "黑猫", "白猫")
    none = TrainingDataset(Listed(given), max_regions=None)[0, 0]
    assert [len(none.hard), *(len(item.hard) for item in none.regions)] == [1, 0, 1]


@pytest.mark.parametrize("wrong", [("a cat",), ("a cat", " "), ()])
def test_a_contrast_without_a_false_text_is_refused(wrong):
    with pytest.raises(RecordError, match="x#0: a contrast is a true text alone, or a text in it is empty"):
        record(contrasts=(wrong,))
    with pytest.raises(RecordError, match="x#0: a contrast of box 0 is a true text alone, or a text is empty"):
        record(regions=(region(contrasts=(wrong,)),))


def test_shares_leave_texts_out_but_no_boxes(processor):
    things = tuple(region(f"red thing {k}", ("no",), name="thing", label=k) for k in range(4))
    dataset = TrainingDataset(
        Listed(record(long="long", regions=things)),
        shares=TextShares(short=0.25, long=0.5, regions=0.5, names=0.75, hard=0.1),
    )
    samples = [dataset[epoch, 0] for epoch in range(400)]
    items = [item for sample in samples for item in sample.regions]
    said = [item for item in items if item.text is not None]
    assert np.mean([sample.short is not None for sample in samples]) == pytest.approx(0.25, abs=0.07)
    assert np.mean([sample.long is not None for sample in samples]) == pytest.approx(0.5, abs=0.08)
    assert len(said) / len(items) == pytest.approx(0.5, abs=0.05)
    assert np.mean([item.bare for item in said]) == pytest.approx(0.75, abs=0.05)
    assert all((item.text == "thing") == item.bare for item in said)
    assert np.mean([bool(item.hard) for item in items]) == pytest.approx(0.1, abs=0.03)
    batch = Collator(processor)(samples[:50])
    assert len(batch.boxes) == len(batch.labels) == 200
    assert batch.text_of.tolist() == [row for row, item in enumerate(items[:200]) if item.text is not None]
    assert batch.short_of.tolist() == [row for row, sample in enumerate(samples[:50]) if sample.short is not None]
    assert len(batch.region_text) == len(batch.bare) == len(batch.also_true) == len(batch.text_of)
    assert len(batch.short) == len(batch.short_of)
    with pytest.raises(Fgclip2Error, match="TextShares.hard is 2"):
        TextShares(hard=2)


def test_samples_that_cannot_be_used_are_left_out_and_named(processor, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    bad = [
        RecordError("a#0", "its short caption is empty"),
        record("a#1", image=tmp_path / "torn.png"),
        record("a#2", image=tmp_path / "none.png"),
        record("a#3", image=pixels(1, 1)),
        record("a#4", image=np.zeros((4, 4), np.uint8)),
        record("a#5", language="zh"),
    ]
    batch = batch_of(processor, *bad[:3], record("good#0", regions=(region(),)), *bad[3:])
    assert [failure.name for failure in batch.failures] == [f"a#{k}" for k in range(6)]
    expected = (
        "caption is empty",
        "damaged|not a picture",
        "does not exist",
        "1 x 1 pixels",
        "shape",
        "listed as 'en'",
    )
    for failure, reason in zip(batch.failures, expected, strict=True):
        assert any(part in failure.reason for part in reason.split("|")), failure
    assert (len(batch), batch.seen) == (1, 7)
    assert batch.boxes[:, 0].tolist() == [0]
    nothing = batch_of(processor, RecordError("乙#0", "没有"), language="zh").to("cpu")
    assert (len(nothing), nothing.seen, nothing.language) == (0, 1, "zh")
    assert nothing.failures == (Failure("乙#0", "没有", "zh"),)
    assert nothing.patches.shape == (0, 1, 768)
    assert nothing.texts.shape == (0, 64)
    assert nothing.hard_text.shape == nothing.hard_mask.shape == (0, 2)
    assert nothing.boxes.shape == (0, 5)
    assert nothing.also_true.shape == (0, 0)
    assert len(Collator(processor)([])) == 0


def test_bad_fields_of_a_file_reach_the_batch_as_failures(processor, tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "p.png")
    good = {"f_path": "p.png", "short_caption": "猫", "is_cn": True}

    def with_box(box, negatives=None):
        return {**good, "bbox_info": [{"bbox": box, "short_expr": "黑猫", "flag_short_neg": int(negatives is not None),
                                       "short_expr_negs": negatives}]}  # fmt: skip

    rows = [good, with_box([0, 0, float("nan"), 1]), with_box([0.9, 0, 0.1, 1]), {**good, "short_caption": ""},
            with_box([0, 0, 1, 1], {}), with_box([0, 0, 1, 1], {"0": "白猫"})]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    dataset = TrainingDataset(open_records(tmp_path / "a.jsonl"))
    batch = Collator(processor)([dataset[0, k] for k in range(6)])
    assert [failure.name for failure in batch.failures] == ["a.jsonl#3"]
    assert [part.name for part in batch.left_out] == [f"a.jsonl#{k}" for k in (1, 2, 4)]
    assert {failure.language for failure in (*batch.failures, *batch.left_out)} == {"zh"}
    assert len(batch) == 5
    assert batch.boxes.tolist() == [[3, 0, 0, 1, 1], [4, 0, 0, 1, 1]]
    assert batch.hard_of.tolist() == [1]
    assert batch.hard_mask.tolist() == [[True, True]]
    without = TrainingDataset(dataset.source, max_regions=0)  # stage 1
    assert Collator(processor)([without[0, k] for k in (0, 1, 2, 4, 5)]).left_out == ()


def test_a_batch_of_both_languages_is_refused(processor):
    samples = [Sample("a", "en", pixels(), "cat", None), Sample("b", "zh", pixels(), "猫", None)]
    with pytest.raises(Fgclip2Error, match="LanguageBatchSampler"):
        Collator(processor)(samples)


def test_scenes_are_records_in_both_languages(world):
    source = SceneSource(world, SCENES, first_seed=40, count=6)
    assert source.languages.tolist() == [0, 1] * 3
    for index, language in enumerate(["en", "zh"] * 3):
        scene, found = world.scene(40 + index, SCENES), source[index]
        assert (found.name, found.language) == (f"scene {40 + index}", language)
        assert np.array_equal(found.image, scene.pixels)
        assert found.short == scene.short[language][index // 2 % 4]
        assert found.long == scene.long[language]
        for item, thing in zip(found.regions, scene.objects, strict=True):
            assert [96 * value for value in item.box] == pytest.approx(thing.box)
            assert item.texts == (thing.phrases[language],)
            assert item.negatives == tuple(thing.negatives[language])
            assert (item.label, item.name) == (thing.category.id, thing.names[language])
    assert SceneSource(world, SCENES, 0, 3, languages=("zh",)).languages.tolist() == [1, 1, 1]
    with pytest.raises(Fgclip2Error, match="choose from 'en' and 'zh'"):
        SceneSource(world, SCENES, 0, 3, languages=("fr",))
    with pytest.raises(Fgclip2Error, match="at least one scene"):
        SceneSource(world, SCENES, 0, 0)


@pytest.mark.parametrize("names", [0.0, 1.0])
def test_texts_that_are_true_of_other_scene_regions_are_marked(world, processor, names):
    few = dataclasses.replace(SCENES, category_ids=tuple(range(12)), repeat=1.0)
    dataset = TrainingDataset(SceneSource(world, few, 0, 8, ("zh",)), None, shares=TextShares(names=names))
    samples = [dataset[0, index] for index in range(8)]
    batch = Collator(processor)(samples)
    things = [item.facts.thing for sample in samples for item in sample.regions]
    for i, thing in enumerate(things):
        for j, other in enumerate(things):
            same = other.category == thing.category
            expected = i != j and (same if names else truth(other.attributes, thing) is not False)
            assert batch.also_true[i, j] == expected
    assert batch.bare.all() == bool(names)
    assert batch.also_true.any()


def same(a: TrainBatch, b: TrainBatch) -> bool:
    pairs = [(getattr(a, item.name), getattr(b, item.name)) for item in dataclasses.fields(TrainBatch)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_give_the_same_batches(world, processor, start):
    dataset = TrainingDataset(SceneSource(world, SCENES, 0, 12), shares=TextShares(regions=0.5))
    sampler = LanguageBatchSampler(dataset.source.languages, 3)
    collate = Collator(processor)
    alone = list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate))
    loader = DataLoader(
        dataset, batch_sampler=sampler, collate_fn=collate, num_workers=1, multiprocessing_context=start
    )
    assert len(loader) == len(alone) == 4
    assert all(same(a, b) for a, b in zip(alone, loader, strict=True))
    assert {batch.language for batch in alone} == {"en", "zh"}
