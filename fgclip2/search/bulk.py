"""Embedding a collection on a Ray cluster: runs of pictures in, their vectors out; the caller writes the store.

Workers hold the model and read the pictures; they write nothing. So a worker that dies takes nothing with it: its run
of pictures is given to another one, and a store gets each run once, in the order of the collection. The caller hashes
what it sees itself under each name, so a machine where another folder has the same path is found out.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras
from fgclip2.search.config import BuildConfig, ClusterConfig
from fgclip2.search.mapped import to_safetensors
from fgclip2.search.sources import Source, read_picture, span_of
from fgclip2.search.units import Digests, Outcome, Task, embed_unit

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_READERS: Final = 4  # threads that hash pictures
_RETRIES: Final = 3
"""How often a run of pictures may cost a worker its life before the whole stops."""


@dataclass(frozen=True)
class _Setup:
    """What a worker needs to do as the calling process would."""

    version: str
    directory: str
    name: str
    model_hash: str
    dtype: str
    threads: int
    gpu: bool
    root: str
    config: BuildConfig
    twins: Any  # reference to the array of a Digests

    def load(self) -> FGCLIP2:
        """The model, and the threads it computes with.

        Raises:
            Fgclip2Error: it is another one here, or the pictures are not here.
        """
        import torch

        import fgclip2

        if fgclip2.__version__ != self.version:
            raise Fgclip2Error(f"it has fgclip2 {fgclip2.__version__}, not {self.version}; install the same everywhere")
        if not Path(self.root).is_dir():
            raise Fgclip2Error(f"it does not see the picture folder {self.root!r}; mount it there on every machine")
        torch.set_num_threads(self.threads)
        name = self.directory if Path(self.directory).is_dir() else self.name
        model = fgclip2.load(name, device="cuda" if self.gpu else "cpu", dtype=self.dtype)
        if model.hash != self.model_hash:
            raise Fgclip2Error(
                f"its model {name!r} has hash {model.hash[:12]}, not {self.model_hash[:12]}; copy the same "
                "weights to every machine, or give a folder that all of them see"
            )
        return model


class _Worker:
    """What Ray keeps in a process of its own; what is wrong with it comes out as an answer, not as a crash."""

    def __init__(self, setup: _Setup) -> None:
        self.setup, self.problem = setup, ""
        try:
            self.model = setup.load()
        except Fgclip2Error as error:
            self.problem = f"the worker on {platform.node()} cannot embed: {error}"
            return
        self.twins = Digests(_ray().get(setup.twins))

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
        """Embed one run of pictures."""
        machine = [platform.node()]
        if self.problem:
            return {"problem": [self.problem], "machine": machine, "outcomes": [b""]}
        tasks = [_task(fields) for fields in json.loads(str(batch["tasks"][0]))]
        done = embed_unit(tasks, self.model, self.setup.config, Path(self.setup.root), self.twins)
        return {"problem": [""], "machine": machine, "outcomes": [pack(done)]}


def embed_on_cluster(
    units: Sequence[Sequence[Task]],
    model: FGCLIP2,
    config: BuildConfig,
    root: Path,
    twins: Digests,
    cluster: ClusterConfig,
    step: Callable[[int], object] = lambda count: None,
) -> Iterator[list[Outcome]]:
    """``embed_unit`` for many runs of pictures, by Ray Data.

    Args:
        units: the runs of pictures.
        model: the one that workers load by its folder, or its name where they do not see that.
        config: how pictures are embedded.
        root: of the collection; workers read the pictures there.
        twins: contents that are in the store.
        cluster: where, and by how many workers.
        step: called with the number of pictures of every run that is done.

    Yields:
        What became of the tasks of each run, in order.

    Raises:
        Fgclip2Error: there is no such cluster, it has no room for a worker, a worker has no such model, does not see
            the pictures or sees others than this process, or workers die again and again.
    """
    if not units:
        return
    ray = _ray()
    if model.directory is None:
        raise Fgclip2Error("a model in memory cannot be sent to a cluster; save it to a folder, and load it from there")
    import fgclip2

    with _connected(cluster), ThreadPoolExecutor(_READERS) as readers:
        room = _room(ray.cluster_resources(), cluster)
        if cluster.workers and cluster.workers > room:
            raise Fgclip2Error(
                f"--workers {cluster.workers}: the cluster has room for {room} of these; give at most that"
            )
        workers = min(cluster.workers or room, len(units))
        setup = _Setup(
            fgclip2.__version__, str(model.directory.resolve()), model.name, model.hash,
            str(model.dtype).removeprefix("torch."), cluster.worker_cpus, cluster.worker_gpus > 0,
            str(root), config, ray.put(twins.array),
        )  # fmt: skip
        lines = [{"tasks": json.dumps([asdict(task) for task in unit])} for unit in units]
        with warnings.catch_warnings():
            # Ray says it will drop this way to bound the retries, and has no other yet: hence the bound in pyproject.
            warnings.filterwarnings("ignore", message=".*ray_remote_args_fn", category=DeprecationWarning)
            runs = ray.data.from_items(lines, override_num_blocks=len(lines)).map_batches(
                _Worker,
                batch_size=1,
                fn_constructor_args=(setup,),
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=cluster.worker_cpus,
                num_gpus=cluster.worker_gpus or None,
                ray_remote_args_fn=lambda: {"max_task_retries": _RETRIES},
            )
        context = runs.context
        context.execution_options.preserve_order = True
        context.enable_progress_bars = context.print_on_execution_start = False
        if hasattr(context, "execution_no_progress_timeout_s"):
            context.execution_no_progress_timeout_s = -1  # a run of large pictures may take an hour before it answers
        try:
            for unit, answer in zip(units, runs.iter_rows(), strict=True):
                if answer["problem"]:
                    raise Fgclip2Error(answer["problem"])
                done = unpack(answer["outcomes"])
                check_contents(unit, done, root, answer["machine"], readers, config.follow_links)
                step(len(unit))
                yield done
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise Fgclip2Error(
                f"the cluster has stopped ({type(error).__name__}: {reason:.300}); what was committed stays: mend it "
                "and give the same command again"
            ) from error


def check_contents(
    tasks: Sequence[Task],
    outcomes: Sequence[Outcome],
    root: Path,
    machine: str,
    readers: Executor,
    follow_links: bool = False,
) -> None:
    """See that a worker has read what this process reads under the same names.

    Args:
        tasks: a run of pictures.
        outcomes: what became of them.
        root: of the collection, on this machine.
        machine: that the worker runs on.
        readers: hash the pictures.
        follow_links: read also through links that lead out of the root.

    Raises:
        Fgclip2Error: a picture differs, or is on one of the two machines only.
    """

    def digest(task: Task) -> str:
        try:
            data = read_picture(root, task.source.name, span_of(task.source.extra), follow_links)
        except Fgclip2Error:
            return ""
        return hashlib.sha256(data).hexdigest()

    # A problem of the list is one on every machine, and no file is read for it.
    pairs = [pair for pair in zip(tasks, outcomes, strict=True) if not pair[0].source.problem]
    for (task, outcome), here in zip(pairs, readers.map(digest, [task for task, _ in pairs]), strict=True):
        if here == outcome.sha256:
            continue
        if not outcome.sha256:
            what = f"it cannot read it ({outcome.problem})"
        else:
            what = "it has other contents there" if here else "it can be read there only"
        raise Fgclip2Error(
            f"picture {task.source.name!r} is not the same for the worker on {machine} as on {platform.node()}: "
            f"{what}; mount the same folder at {str(root)!r} on every machine, let nobody write to it meanwhile, and "
            "give the same command again: nothing of this run of pictures was stored"
        )


def pack(outcomes: Sequence[Outcome]) -> bytes:
    """Outcomes as one .safetensors file: vectors in the float16 of a store, the rest as JSON in its metadata."""
    facts: list[dict[str, Any]] = []
    tensors: dict[str, np.ndarray] = {}
    for number, outcome in enumerate(outcomes):
        fields = {"done": outcome.done, "sha256": outcome.sha256, "size": outcome.size, "given": outcome.given}
        facts.append({**fields, "problem": outcome.problem})
        if outcome.arrays is not None:
            vector, regions, boxes = outcome.arrays
            tensors |= {
                f"{number} vector": vector.astype(np.float16),
                f"{number} regions": regions.astype(np.float16),
                f"{number} boxes": boxes.astype(np.float32),
            }
    return to_safetensors(tensors, {"outcomes": json.dumps(facts)})


def unpack(data: bytes) -> list[Outcome]:
    """The outcomes of ``pack``."""
    from safetensors.numpy import load

    length = int.from_bytes(data[:8], "little")
    facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["outcomes"])
    tensors = load(data)
    outcomes = []
    for number, fact in enumerate(facts):
        arrays = None
        if fact["done"] == "embedded":
            arrays = tensors[f"{number} vector"], tensors[f"{number} regions"], tensors[f"{number} boxes"]
        outcomes.append(Outcome(**{**fact, "size": tuple(fact["size"])}, arrays=arrays))
    return outcomes


def _task(fields: Mapping[str, Any]) -> Task:
    told = fields["source"]
    return Task(**{**fields, "source": Source(**{**told, "lost": tuple(told.get("lost", ()))})})


def _room(resources: Mapping[str, float], cluster: ClusterConfig) -> int:
    """Workers that a cluster can hold at a time."""
    room = resources.get("CPU", 0) // cluster.worker_cpus
    if cluster.worker_gpus:
        room = min(room, resources.get("GPU", 0) // cluster.worker_gpus)
    if room < 1:
        raise Fgclip2Error(
            f"the cluster has {resources.get('CPU', 0):g} processors and {resources.get('GPU', 0):g} GPUs, a worker "
            f"takes {cluster.worker_cpus} and {cluster.worker_gpus:g}; ask for less, or add machines"
        )
    return int(room)


@contextmanager
def _connected(cluster: ClusterConfig) -> Iterator[None]:
    """A connection to the cluster; one that is there already is used, and stays."""
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    # Workers started from a source tree find the package where this process has it.
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        ray.init(
            address=cluster.address
            or "local",  # None would join what $RAY_ADDRESS names, or any cluster that runs here
            runtime_env={"env_vars": {"PYTHONPATH": path}},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Fgclip2Error(
            f"no Ray cluster answers at {cluster.address!r} ({reason:.200}); start one: ray start --head"
            if cluster.address
            else f"a Ray cluster of this machine's own cannot be started ({reason:.200}); leave out --engine ray"
        ) from error
    told = logging.getLogger("ray.data")
    level = told.level
    told.setLevel(logging.ERROR)  # it tells of every run, and that it shows no progress bar of its own
    try:
        yield
    finally:
        told.setLevel(level)
        ray.shutdown()


def _ray() -> Any:
    with extras("search"):
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
