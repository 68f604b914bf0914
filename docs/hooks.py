"""What the site needs beyond Markdown: formulas without a script, outside pages, the gallery."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

_ROOT = Path(__file__).parent.parent
_AT_THE_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Documents of the root, whose links start there, in the place of the pages that name them.

    And behind what a page of the gallery says what its script draws and prints, and the script.
    """
    name = _AT_THE_ROOT.get(page.file.src_uri)
    if name:
        return (_ROOT / name).read_text().replace("](docs/", "](")
    script = (_ROOT / "docs" / page.file.src_uri).with_suffix(".py")
    is_shown = script.parent.name == "gallery" and script.is_file()
    return markdown + _shown(script) if is_shown else markdown


def _shown(script: Path) -> str:
    code, printed = script.read_text(), script.with_suffix(".txt").read_text()
    alt = code[3 : code.index('"""', 3)]
    return f"""
![{alt}](../images/gallery/{script.stem}.png)

It prints

```text
{printed.rstrip()}
```

## The script

[{script.name}]({script.name}), as it was run:

```python
{code.rstrip()}
```
"""


def on_page_content(content: str, **_: Any) -> str:
    """TeX to MathML, which browsers draw by themselves."""
    content = _BLOCK.sub(lambda tex: _mathml(tex[1], "block"), content)
    return _INLINE.sub(lambda tex: _mathml(tex[1], "inline"), content)


def _mathml(tex: str, display: str) -> str:
    return f'<span class="formula-{display}">{convert(html.unescape(tex), display=display)}</span>'
