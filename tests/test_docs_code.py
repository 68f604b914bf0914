"""Every Python block of the documents runs; one that would train is compiled, its imports run."""

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRAINS = "<!-- trains -->"
BLOCK = re.compile(rf"({TRAINS}\n)?^```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if BLOCK.search(page.read_text())
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_python_blocks_of_a_page_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for trains, code in BLOCK.findall(page.read_text()):
        tree = ast.parse(code)
        if trains:
            imports = (ast.Import, ast.ImportFrom)
            tree.body = [node for node in tree.body if isinstance(node, imports)]
        exec(compile(tree, page.name, "exec"), names)


def test_the_pictures_are_those_that_the_environments_pages_show():
    pictures = runpy.run_path(str(ROOT / "docs" / "pictures.py"))["PICTURES"]
    for name in pictures:
        assert (ROOT / "docs" / "images" / f"{name}.png").is_file()
        page = (ROOT / "docs" / "environments" / f"{name}.md").read_text()
        assert f"(../images/{name}.png)" in page
