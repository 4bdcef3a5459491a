"""A missing package is one line with the extra that brings it; a broken one keeps its reason."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import EXTRAS, extras, missing_package, need

ROOT = Path(__file__).parents[1]
# What torch and transformers bring themselves cannot be missing.
_ALWAYS = ("filelock", "jinja2")
_HIDING = """
import runpy, sys
hidden = set(sys.argv[1].split(","))
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
program, sys.argv = sys.argv[2], sys.argv[2:]
if program == "-c":
    exec(sys.argv[1])
elif program.endswith(".py"):
    runpy.run_path(program, run_name="__main__")
else:
    runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


def without(hidden: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program, or ``-c CODE``, as if packages were not installed."""
    command = [sys.executable, "-W", "ignore", "-c", _HIDING, hidden, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_the_table_is_what_the_project_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brings = {extra: " ".join(needs).lower() for extra, needs in project["optional-dependencies"].items()}
    of_module = packages_distributions()
    for module, named in EXTRAS.items():
        for extra in named:
            if module == "detectron2":  # no wheel for every Python; `make setup` installs it
                continue
            distributions = [name.lower().replace("_", "-") for name in of_module[module]]
            assert any(name in brings[extra] for name in distributions), (module, extra)


LEAN = ",".join(module for module in EXTRAS if module not in _ALWAYS)


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("fgclip2", "index", "IMAGES", "--out", "OUT", "--model", "tiny"), "search"),
        (("fgclip2", "search", "OUT", "dog"), "search"),
        (("fgclip2", "train", "--data", "x.jsonl", "--model", "tiny", "--out", "OUT"), "train"),
        (("fgclip2", "export", "--format", "onnx", "--model", "tiny", "--out", "OUT"), "export"),
        (("demos/app.py",), "demo"),
        (("apps/ovd_train.py", "--work-dir", "OUT"), "mmdet"),
        (("apps/ovd_detect.py", "IMAGES", "--classes", "狗", "--out", "OUT"), "mmdet"),
        (("apps/seg_train.py",), "detectron2"),
        (("apps/train_tiny.py", "--out", "OUT"), "train"),
        (("apps/llava_train.py", "--language-model", "x", "--data", "x.json", "--out", "OUT"), "train"),
    ],
)
def test_programs_name_the_extra_and_leave_nothing(command: tuple[str, ...], extra: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.png")
    places = {"IMAGES": str(tmp_path / "images"), "OUT": str(tmp_path / "out")}
    done = without(LEAN, *(places.get(word, word) for word in command))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert f"pip install 'fgclip2[{extra}]'" in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import fgclip2; fgclip2.Index.open('x')", "fgclip2[search]"),
        ("from fgclip2.data.openmoji import World; World().scene(0)", "fgclip2[scenes]"),
        ("import fgclip2_mmdet", "fgclip2[mmdet]"),
        ("import fgclip2_detectron2", "fgclip2[detectron2]"),
        ("from fgclip2.data.tables import _arrow; _arrow()", "fgclip2[train]"),
        (
            "import numpy as np; from fgclip2.fusion import Detections; "
            "Detections(np.zeros((0, 4)), np.zeros(0), ()).to_supervision()",
            "fgclip2[supervision]",
        ),
    ],
)
def test_python_names_the_extra(code: str, told: str) -> None:
    done = without(LEAN, "-c", f"import sys; sys.path.insert(0, 'adapters'); {code}")
    assert done.stderr.splitlines()[-1].startswith("fgclip2.errors.Fgclip2Error: the package")
    assert told in done.stderr.splitlines()[-1]


def test_the_core_needs_no_extra() -> None:
    """Features and fusion with names in two languages, of an environment with the core's dependencies alone."""
    code = (
        "import fgclip2, numpy as np; m = fgclip2.load('tiny', device='cpu'); image = np.zeros((48, 64, 3), np.uint8); "
        "r = fgclip2.FusionRescorer(m, ['狗'], contrast=['dog', 'cat']); print(r.left_out, r.contrast, "
        "m.dense_features(image).map.shape, len(r(image, [[0, 0, 20, 20]], [0.5])))"
    )
    done = without(LEAN, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "('dog',) ('cat',) torch.Size([9, 12, 192]) 0"  # the black image is no dog


def test_a_broken_package_is_told_from_a_missing_one() -> None:
    missing = missing_package(ModuleNotFoundError("No module named 'faiss'", name="faiss"))
    assert str(missing) == "the package faiss is missing; install what this needs: pip install 'fgclip2[search]'"
    broken = missing_package(ImportError("libGL.so.1: cannot open shared object file", name="cv2.cv2"))
    assert "cv2 is installed but cannot be imported (libGL.so.1" in str(broken)
    part = missing_package(ModuleNotFoundError("No module named 'ray.data'", name="ray.data"))
    assert "ray has no ray.data" in str(part)
    assert missing_package(ModuleNotFoundError("No module named 'fgclip2.x'", name="fgclip2.x")) is None
    unknown = missing_package(ModuleNotFoundError("No module named 'shapely'", name="shapely"))
    assert str(unknown) == "the package shapely is missing; install it: pip install shapely"
    with (
        pytest.raises(Fgclip2Error, match=r"no_such_package is missing.*pip install 'fgclip2\[train\]'"),
        extras("train"),
    ):
        import no_such_package  # noqa: F401
    with pytest.raises(Fgclip2Error, match="the packages no_such_a, no_such_b are missing"):
        need("demo", "no_such_a", "json", "no_such_b")
