"""The commands ``fgclip2 index`` and ``fgclip2 search``; light, so that ``--help`` does not wait for torch."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fgclip2.console import load_model
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import need
from fgclip2.search.config import BuildConfig, ClusterConfig

if TYPE_CHECKING:
    from fgclip2.search.hits import Hit


@dataclass
class IndexArguments:
    """Make a collection of pictures searchable, or bring its store up to date; a run that was killed goes on."""

    pictures: Annotated[Path, tyro.conf.Positional]
    """A folder; a .tar shard, several ("part-{000..499}.tar") or a folder of them; or a list: .txt, .jsonl,
    .json (also COCO), .csv, .tsv, .parquet."""
    out: Path
    """Folder of the store."""
    model: str | None = None
    """tiny, a directory or a hub id; without one the store's, else $FGCLIP2_MODEL, else the released base model."""
    root: Path | None = None
    """Folder that the names of a list are relative to; the list's own when not given. Where the images of a store were
    moved, their new folder."""
    config: Annotated[BuildConfig, tyro.conf.arg(name="")] = field(default_factory=BuildConfig)
    engine: Literal["local", "ray"] = "local"
    """Where it is embedded: in this process, or by workers of a Ray cluster; the store is the same."""
    cluster: Annotated[ClusterConfig, tyro.conf.arg(name="")] = field(default_factory=ClusterConfig)
    repair: bool = False
    """First drop what is damaged in the store; those pictures are then indexed again."""

    def run(self) -> None:
        """Index and say what was done."""
        need("search", "faiss", "pyarrow", "filelock")
        from fgclip2.search import manifest
        from fgclip2.search.build import build_store
        from fgclip2.search.store import Store

        if self.engine == "local" and self.cluster != ClusterConfig():
            raise Fgclip2Error("--address, --workers, --worker-cpus and --worker-gpus need --engine ray")
        cluster = self.cluster if self.engine == "ray" else None
        there = (self.out / manifest.NAME).exists()
        if self.repair and there:
            lost = Store.repair(self.out)
            print(f"dropped {len(lost)} damaged parts: {', '.join(lost)}" if lost else "nothing is damaged")
        name = self.model or (manifest.Manifest.read(self.out).model_name if there else None)
        done = build_store(self.pictures, self.out, load_model(name), self.config, root=self.root, cluster=cluster)
        counts = {
            "embedded": done.embedded,
            "renamed or copied": done.reused,
            "with new metadata": done.described,
            "unchanged": done.unchanged,
            "deleted" if self.config.prune else "not in the collection any more (--prune deletes them)": done.missing,
            "kept of folders or shards that cannot be read, or are links": done.unknown,
        }
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        print(f"{self.out}: {done.total:,} pictures ({told}) in {done.seconds:.1f} s")
        if done.others:
            print(f"{done.others:,} other files in the collection are no pictures by their names, and were left alone")
        for sentence in done.left_out:
            print(sentence)
        if done.failed:
            listing = self.out / "failures.jsonl"
            print(f"{done.failed:,} pictures could not be read, see {listing}; first: {done.first_failure}")


@dataclass
class SearchArguments:
    """Find pictures by what is in them, small things too, in English and Chinese.

    Several texts, and the parts of one between commas, must all be in a picture. Quotes inside a text keep a phrase
    whole: '"red car, blue roof", dog'.
    """

    index: Annotated[Path, tyro.conf.Positional]
    """Folder that fgclip2 index has made."""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """What to look for, each in quotes."""
    minus: tuple[str, ...] = ()
    """Texts to take away from it."""
    cut: bool = True
    """Take the parts of a text between commas and full stops apart; --no-cut looks for every text as it is."""
    image: Path | None = None
    """Look for pictures like this one, in place of texts."""
    box: tuple[float, float, float, float] | None = None
    """x1 y1 x2 y2 in pixels: look for this region of --image."""
    top: int = 20
    """Pictures to show."""
    where: tuple[str, ...] = ()
    """Conditions on the metadata, e.g. "width >= 640" "taken < 2024-05" "tags contains cat" "tags has none"."""
    rerank: int | None = None
    """The best so many are looked at again, patch by patch; 0 leaves that out. Without it 50, on a processor as many as
    take about three seconds."""
    region_weight: float | None = None
    """Share of regions in the score, 0 (whole pictures alone) to 1; without it by the kind of query."""
    html: Path | None = None
    """Write a contact sheet with boxes and heat-maps."""
    json: bool = False
    """Print one JSON object."""
    model: str | None = None
    """The model that made the index, if it is not to be found under its name."""
    root: Path | None = None
    """Where the pictures are, if they have been moved."""
    verify: bool = True
    """Read every file of the store first, to see that it is whole."""

    def run(self) -> None:
        """Search, print and write."""
        need("search", "faiss", "pyarrow", "filelock")
        from fgclip2.search.conditions import parse_condition
        from fgclip2.search.manifest import Manifest
        from fgclip2.search.query import Query
        from fgclip2.search.search import Index

        if not self.texts and self.image is None:
            raise Fgclip2Error('nothing to look for; give texts ("a red car" "黑猫") or --image')
        if self.image is None and self.box is not None:
            raise Fgclip2Error("--box is a region of --image; give that too, or leave --box out")
        if self.image is not None and (self.texts or self.minus):
            what = "texts" if self.texts else "--minus, which belongs to texts"
            raise Fgclip2Error(f"--image and {what}: look for pictures like one, or for texts; leave one out")
        query = Query(self.texts, self.minus, self.image, self.box, cut=self.cut)
        conditions = [parse_condition(text) for text in self.where]
        model = load_model(self.model or Manifest.read(self.index).model_name)
        index = Index.open(self.index, model, root=self.root, verify=self.verify)
        hits = index.search(
            query, top=self.top, where=conditions, rerank=self.rerank, region_weight=self.region_weight,
            progress=True,
        )  # fmt: skip
        # Hits first, and the sheet then: where it cannot be drawn or written, the answer is there all the same.
        if self.json:
            print(json.dumps(hits.to_json(), ensure_ascii=False, indent=1))
        else:
            for number, hit in enumerate(hits, 1):
                print(_line(number, hit))
        if not len(hits):
            print("no hits", file=sys.stderr if self.json else sys.stdout)
        if self.html is not None:
            hits.write_html(self.html)
            if not self.json:
                print(self.html)


def _line(number: int, hit: Hit) -> str:
    places = "; ".join(
        f"{text} {score:.3f} at {', '.join(f'{value:.0f}' for value in box)}"
        for text, score, box in zip(hit.parts, hit.part_scores, hit.boxes, strict=True)
    )
    return f"{number:3} {hit.score:6.2f}  {hit.name}  [{places}]{'  ' + hit.problem if hit.problem else ''}"
