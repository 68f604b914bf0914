"""What the documents say is true: the observation table, the commands, the files, the settings."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from envs.market.clock import CLOSED_DAY_WEIGHT, VarianceClock
from envs.option_portfolio.observation import MARKET, option_features_by, portfolio_features
from envs.options.chain import ChainSettings, slots

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def row(index: str, feature, name: str) -> str:
    low, high = f"{feature.low:g}", f"{feature.high:g}"
    raw = feature.raw if not feature.center else f"{feature.raw}, minus {feature.center:g}"
    return f"| {index} | {name} | {raw} | {feature.scale:.4g} | {low} to {high} |"


def observation_table() -> list[str]:
    rows = [row(str(i), feature, feature.name) for i, feature in enumerate(MARKET)]
    option = option_features_by(VarianceClock(CLOSED_DAY_WEIGHT, 252.0))
    rows += [row(f"{7 + j} + 8 k", feature, feature.name) for j, feature in enumerate(option)]
    portfolio = portfolio_features(slots(ChainSettings()))
    start = 7 + 160
    for i, feature in enumerate(portfolio):
        kind, _, slot = feature.name.partition(".")
        if not slot:
            rows.append(row(str(start + i), feature, kind))
        elif slot.startswith("30D_Call_0.90"):
            rows.append(row(f"{start + i} + k", feature, kind))
    return rows


def test_the_readme_lists_every_feature_with_its_scale_and_range():
    missing = [line for line in observation_table() if line not in README]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document):
    text = document.read_text()
    folders = "agents|callbacks|conf|envs|experiments|risk|tests|docs"
    named = re.findall(rf"`((?:{folders})/[\w./]*)`", text)
    named += re.findall(r"\]\(((?!http)[\w./]+)\)", text)
    places = (ROOT, document.parent)
    missing = [name for name in named if not any((place / name).exists() for place in places)]
    assert [name for name in missing if "yours" not in name] == []


def commands() -> list[str]:
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    return sorted(set(re.findall(r"python -m (experiments\.\w+[^`\n#]*)", text)))


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_documents_composes(command):
    module, *overrides = command.replace("\\", " ").split()
    name = module.removeprefix("experiments.")
    config = "config" if name == "train" else name
    overrides = [text.replace("<", "").replace(">", "") for text in overrides if text != "-m"]
    overrides = [re.sub(r"=(\w+),[\w,]+$", r"=\1", text) for text in overrides]
    with initialize_config_module("conf", version_base="1.3"):
        compose(config, overrides=overrides)
