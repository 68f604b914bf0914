"""What `envs`, `agents` and `risk` offer by name, and what asking for it costs."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import agents
import envs
import risk

ROOT = Path(__file__).parent.parent
PACKAGES = (agents, envs, risk)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_name_is_there_listed_and_the_one_of_its_module(package):
    assert set(package.__all__) <= set(dir(package))
    imports = [
        node
        for node in ast.walk(ast.parse(Path(package.__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{package.__name__}.")
    ]
    homes = {a.asname: str(node.module) for node in imports for a in node.names if a.asname}
    assert sorted(homes) == package.__all__
    for name, home in homes.items():
        found = getattr(package, name)
        assert found is getattr(importlib.import_module(home), name)
        assert found.__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def imported_by(code: str) -> set[str]:
    """The heavy packages among the modules that a fresh process has after running the code."""
    heavy = {"torch", "pandas", "scipy", "stable_baselines3", "matplotlib", "sklearn", "arch"}
    shown = f"import sys\n{code}\nprint(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_packages_and_pricing_an_option_stay_light():
    assert imported_by("import agents, envs, risk; dir(agents)") == set()
    pricing = "from envs import price; price(100.0, 100.0, 0.5, 0.2, 0.02, 0.0, True)"
    assert imported_by(pricing) == {"scipy"}


def test_every_package_is_installed_and_tells_type_checkers_that_it_is_typed():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    roots = {name.partition(".")[0] for name in tool["packages"]}
    folders = [file.parent for root in roots for file in (ROOT / root).rglob("__init__.py")]
    assert tool["packages"] == sorted(".".join(p.relative_to(ROOT).parts) for p in folders)
    for package in roots:
        assert (ROOT / package / "py.typed").is_file()
        assert "py.typed" in tool["package-data"][package]
