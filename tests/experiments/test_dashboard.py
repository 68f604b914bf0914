"""TensorBoard opens tidy: every chart of the layout shows a scalar that training really writes."""

import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from callbacks.criterion import SHARPE
from callbacks.dashboard import flat, layout, result_scalars


@pytest.fixture(scope="module")
def events(finished_run):
    accumulator = EventAccumulator(str(finished_run / "tensorboard"))
    accumulator.Reload()
    return accumulator


def written_layout(events):
    content = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    return layout_pb2.Layout.FromString(content)


def test_every_chart_shows_exactly_one_scalar_that_a_run_writes(events):
    tags = events.Tags()["scalars"]
    charts = [chart for category in written_layout(events).category for chart in category.chart]
    assert len(charts) >= 25
    for chart in charts:
        (pattern,) = chart.multiline.tag
        assert len([tag for tag in tags if re.search(pattern, tag)]) == 1, chart.title


def test_categories_are_sorted_by_their_number(events):
    titles = [category.title for category in written_layout(events).category]
    assert titles == sorted(titles)
    assert [title[0] for title in titles] == ["1", "2", "3", "4", "5"]


def test_hyperparameters_are_logged_with_scalars_that_exist(events):
    metadata = events.summary_metadata["_hparams_/session_start_info"].plugin_data
    start = plugin_data_pb2.HParamsPluginData.FromString(metadata.content).session_start_info
    assert start.hparams["agent.learning_rate"].number_value == pytest.approx(1e-3)
    assert start.hparams["seed"].number_value == 0
    assert start.hparams["costs.kind"].string_value == "realistic"
    assert set(result_scalars(SHARPE)) <= set(events.Tags()["scalars"])


def test_an_anchored_tag_matches_no_other_scalar():
    ((_, [pattern]),) = [layout(SHARPE, [], ["pnl"], [])["4 Reward, mean a step"]["pnl"]]
    assert re.search(pattern, "reward/pnl")
    assert not re.search(pattern, "reward/pnl_squared")
    assert not re.search(pattern, "old/reward/pnl")


def test_nested_settings_become_dotted_names():
    assert flat({"a": {"b": 1, "c": [1, 2]}, "d": None}) == {"a.b": 1, "a.c": "[1, 2]", "d": "None"}
