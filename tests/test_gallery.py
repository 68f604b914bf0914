"""The scripts of the gallery: each has its page and picture, and runs in an empty folder."""

import ast
import importlib
import io
import runpy
from pathlib import Path

import pytest
from PIL import Image

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
RENDER = runpy.run_path(str(GALLERY / "render.py"))
SCRIPTS = RENDER["SCRIPTS"]
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


@each_script
def test_a_script_is_short_and_all_that_it_imports_exists(script):
    code = script.read_text()
    tree = ast.parse(code)
    compile(tree, script.name, "exec")
    assert ast.get_docstring(tree)
    assert 30 <= len(code.splitlines()) <= 72
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            missing = [name.name for name in node.names if not hasattr(module, name.name)]
            assert missing == []


@each_script
def test_a_script_has_a_page_an_output_and_a_small_picture(script):
    picture = RENDER["IMAGES"] / f"{script.stem}.png"
    assert picture.stat().st_size < 150_000
    assert script.with_suffix(".txt").read_text().strip()
    assert script.with_suffix(".md").is_file()
    index = (GALLERY / "index.md").read_text()
    assert f"(../images/gallery/{script.stem}.png)" in index
    assert f"]({script.stem}.md)" in index


def test_there_are_eight_and_no_page_without_a_script():
    pages = {page.stem for page in GALLERY.glob("*.md")} - {"index"}
    assert pages == {script.stem for script in SCRIPTS}
    assert len(pages) == 8


@pytest.mark.slow
@each_script
def test_a_script_runs_in_an_empty_folder_and_saves_its_picture(script, tmp_path):
    printed, picture = RENDER["run"](script, tmp_path)
    assert printed.strip()
    assert Image.open(io.BytesIO(RENDER["compressed"](picture))).width > 1000
