"""OpenCV, or an error that says which of its two builds to install."""

from __future__ import annotations

import importlib

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import missing_package


def require_opencv(extra: str = "mmdet") -> None:
    """Make sure that ``import cv2`` works.

    mmdetection's packages ask for both builds of OpenCV, which share one folder; pip installs the one with windows
    last, and that one needs libGL from the system.

    Args:
        extra: what to name where OpenCV is not installed at all.

    Raises:
        Fgclip2Error: it is not installed, or another build's libraries are missing; the message has the command that
            mends it.
    """
    try:
        importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        raise missing_package(error, extra) or error from error
    except ImportError as error:
        raise Fgclip2Error(
            f"OpenCV cannot be imported ({error}); put the build that needs nothing from the system in its place: "
            "pip install --force-reinstall --no-deps opencv-python-headless"
        ) from error
