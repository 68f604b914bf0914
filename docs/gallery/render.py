"""Runs the scripts of the gallery, each in an empty folder, and keeps their pictures and outputs.

    python docs/gallery/render.py              # all, or: python docs/gallery/render.py 03 07

Pictures go to docs/images/gallery/, what is printed into a text file beside each script, and
docs/hooks.py makes a page of them when the site is built.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

GALLERY = Path(__file__).parent
IMAGES = GALLERY.parent / "images" / "gallery"
SCRIPTS = sorted(GALLERY.glob("[0-9][0-9]_*.py"))

NO_DITHER = Image.Dither.NONE


def run(script: Path, folder: Path) -> tuple[str, bytes]:
    """What a script prints, and its picture; CalledProcessError where it fails."""
    root = str(GALLERY.parent.parent)
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    printed = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=env, stdout=subprocess.PIPE, check=True
    ).stdout
    return printed.decode(), (folder / f"{script.stem}.png").read_bytes()


def compressed(picture: bytes) -> bytes:
    """The same picture in 256 colours, the nearest to its own."""
    content = io.BytesIO()
    few = Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, kmeans=10, dither=NO_DITHER)
    few.save(content, format="png", optimize=True)
    return content.getvalue()


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    for script in SCRIPTS:
        if sys.argv[1:] and script.stem[:2] not in sys.argv[1:]:
            continue
        began = time.perf_counter()
        with TemporaryDirectory() as folder:
            printed, picture = run(script, Path(folder))
        script.with_suffix(".txt").write_text(printed)
        (IMAGES / f"{script.stem}.png").write_bytes(compressed(picture))
        print(f"{script.name}: {time.perf_counter() - began:.0f} s")
