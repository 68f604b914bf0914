"""What the documents say is true: tables, files, links, commands, settings, targets of make."""

import ast
import importlib
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from markdown.extensions.toc import slugify
from omegaconf import OmegaConf

import conf
from envs.allocation.market import allocation_features
from envs.hedging.market import HedgingSettings
from envs.hedging.observation import hedging_features
from envs.market.clock import CLOSED_DAY_WEIGHT, VarianceClock
from envs.option_portfolio.observation import MARKET, option_features_by, portfolio_features
from envs.options.chain import ChainSettings, slots
from experiments.runs.config import plain_config
from experiments.runs.settings import run_settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
ENVIRONMENTS = DOCS / "environments"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def named(document: Path) -> str:
    return str(document.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


# --- tables ---------------------------------------------------------------------------------------


def cells(feature, name: str) -> str:
    low, high = f"{feature.low:g}", f"{feature.high:g}"
    raw = feature.raw if not feature.center else f"{feature.raw}, minus {feature.center:g}"
    return f"| {name} | {raw} | {feature.scale:.4g} | {low} to {high} |"


def option_table() -> list[str]:
    rows = [f"| {i} {cells(feature, feature.name)}" for i, feature in enumerate(MARKET)]
    option = option_features_by(VarianceClock(CLOSED_DAY_WEIGHT, 252.0))
    rows += [f"| {7 + j} + 8 k {cells(feature, feature.name)}" for j, feature in enumerate(option)]
    portfolio = portfolio_features(slots(ChainSettings()))
    start = 7 + 160
    for i, feature in enumerate(portfolio):
        kind, _, slot = feature.name.partition(".")
        if not slot:
            rows.append(f"| {start + i} {cells(feature, kind)}")
        elif slot.startswith("30D_Call_0.90"):
            rows.append(f"| {start + i} + k {cells(feature, kind)}")
    return rows


def hedging_table() -> list[str]:
    options = HedgingSettings()
    features = hedging_features(options.legs, options.episode.sessions)
    return [f"| {i} {cells(feature, feature.name)}" for i, feature in enumerate(features)]


TABLES = {
    "option_portfolio": option_table(),
    "portfolio_allocation": [cells(each, each.name) for each in allocation_features(("A",))],
    "option_hedging": hedging_table(),
}


@pytest.mark.parametrize("name", TABLES)
def test_an_environments_page_lists_every_feature_with_its_scale_and_range(name):
    page = (ENVIRONMENTS / f"{name}.md").read_text()
    assert [line for line in TABLES[name] if line not in page] == []


# --- files and links ------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_file_that_a_document_names_exists(document):
    folders = "agents|callbacks|conf|docs|envs|experiments|risk|tests"
    files = re.findall(rf"`((?:{folders})/[\w./]*)`", document.read_text())
    assert [name for name in files if "yours" not in name and not (ROOT / name).exists()] == []


@cache
def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", without_code(document.read_text()), flags=re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {slugify(heading.replace("`", ""), "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_to_a_page_and_a_heading(document):
    dead = []
    for link in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", without_code(document.read_text())):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        is_missing = not target.is_file() or (bool(anchor) and anchor not in anchors(target))
        dead += [link] if is_missing else []
    assert dead == []


@pytest.mark.parametrize("document", sorted(DOCS.rglob("*.md")), ids=named)
def test_every_link_into_the_reference_is_documented_there(document):
    reference = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    for name in re.findall(r"\]\[([\w.]+)\]", document.read_text()):
        module, _, member = name.rpartition(".")
        assert hasattr(importlib.import_module(module), member), name
        assert f"::: {module}\n" in reference, name


def test_the_site_shows_every_page_once_and_no_other():
    def pages(part) -> list[str]:
        inner = part.values() if isinstance(part, dict) else part
        return [part] if isinstance(part, str) else [page for each in inner for page in pages(each)]

    shown = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(shown) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


# --- commands and settings ------------------------------------------------------------------------


def commands() -> list[str]:
    texts = [document.read_text() for document in DOCUMENTS]
    modules = [ast.parse(file.read_text()) for file in (ROOT / "experiments").glob("*.py")]
    text = "\n".join([*texts, *(ast.get_docstring(module) or "" for module in modules)])
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^\$.*\nerror: .*$", "", text, flags=re.MULTILINE))
    found = re.findall(r"python -m (experiments\.[a-z]\w+[^`\n]*)", joined)
    return sorted(
        {shlex.join(shlex.split(re.sub("[<>]", "", each), comments=True)) for each in found}
    )


@pytest.fixture(scope="module")
def configuration():
    """Hydra keeps the files that it has read as long as it stays open."""
    with initialize_config_module("conf", version_base="1.3"):
        yield


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_documents_composes(configuration, command):
    module, *overrides = shlex.split(command)
    name = module.removeprefix("experiments.")
    overrides = [re.sub(r"=(\w+),[\w,]+$", r"=\1", text) for text in overrides if text != "-m"]
    composed = compose("config" if name == "train" else name, overrides=overrides)
    if name == "train" and not any(text.startswith("resume=") for text in overrides):
        values = plain_config(composed)
        run_settings({key: value for key, value in values.items() if "resume" not in key})


@cache
def known_settings() -> set[str]:
    """Dotted names in the files of conf/: those of a group begin with its name."""

    def dotted(values, prefix: str) -> set[str]:
        inner = values.items() if isinstance(values, dict) else ()
        return {prefix}.union(*(dotted(value, f"{prefix}.{key}") for key, value in inner))

    folder, names = Path(conf.__file__).parent, set()
    for file in folder.rglob("*.yaml"):
        values = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        parts = file.relative_to(folder).parts
        prefix = "" if parts[0] == "exp" or len(parts) == 1 else f".{parts[0]}"
        names |= dotted(values, prefix)
    return {name.removeprefix(".") for name in names}


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_setting_that_a_document_names_exists(document):
    prose = without_code(document.read_text())
    groups = "agent|callbacks|costs|data|env|parallel|pretrain|reward|risk|surface|walk_forward"
    settings = re.findall(rf"`((?:{groups})(?:\.[a-z_]+)+)[=`]", prose)
    unknown = {name for name in settings if not name.endswith(".py")} - known_settings()
    # Those that the guide to a reward term adds.
    assert unknown <= {"reward.weights.squared_vega", "reward.free_vega"}


def test_the_page_of_commands_offers_every_choice_and_no_other():
    page = (DOCS / "howto" / "commands.md").read_text()
    rows = [*re.findall(r"^\| `(\w+)=` \| (.*) \|$", page, flags=re.MULTILINE)]
    experiments = page[page.index("| `+exp=` |") : page.index("## Groups")]
    rows.append(("exp", "".join(re.findall(r"^\| (.*?) \|", experiments, flags=re.MULTILINE)[1:])))
    folder = Path(conf.__file__).parent
    for group, choices in rows:
        offered = set(re.findall(r"`(\w+)`", choices))
        assert offered == {file.stem for file in (folder / group).glob("*.yaml")}, group
    assert len(rows) == 10


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_target_of_make_that_a_document_names_exists(document):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = document.read_text()
    asked = re.findall(r"(?:^|`|   )make (?:\w+=\S+ )?([a-z][\w-]*)", text, flags=re.MULTILINE)
    assert set(asked) <= targets


def test_the_workflow_does_what_make_does_on_every_python_that_is_supported():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    job = workflow["jobs"]["checks"]
    steps = [step["run"] for step in job["steps"] if "run" in step]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    made = [step for step in steps if step.startswith("make ")]
    assert made == ["make lint", "make test", "make coverage", "make docs"]
    assert {step.removeprefix("make ") for step in made} <= set(targets)
    by_coverage = {step["if"] for step in job["steps"] if step.get("run") in made[1:3]}
    assert by_coverage == {"matrix.python != '3.13'", "matrix.python == '3.13'"}
    assert {"run": "make test-slow"} in workflow["jobs"]["slow"]["steps"]
    assert f">={job['strategy']['matrix']['python'][0]}" == PROJECT["requires-python"]
    assert {"run": "make wheel"} in workflow["jobs"]["wheel"]["steps"]
    assert "wheel" in targets


def test_the_image_is_given_what_the_wheel_is_made_of():
    given = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    needed = {name.partition(".")[0] for name in packages}
    needed |= {"pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]}
    assert set(given) == needed


def test_the_citation_is_of_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]
