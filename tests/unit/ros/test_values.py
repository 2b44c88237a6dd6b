"""Settings as ROS parameters: same names, help, ranges and messages; no rclpy needed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agents.settings import AgentSettings
from services.aggregator.settings import AggregatorSettings
from services.coordinator.settings import CoordinatorSettings
from services.metrics.settings import MetricsSettings
from tinyfleet.config import NUMBERS, TEXTS, check_address, setting
from tinyfleet.errors import InvalidInput
from tinyfleet.ros.values import declarations, setting_value, settings_from

ALL = (AgentSettings, AggregatorSettings, CoordinatorSettings, MetricsSettings)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Settings of every kind."""

    count: int = setting(3, help="how many", low=1)
    pause_s: float = setting(0.5, help="seconds", low=0, high=9)
    loud: bool = setting(False, help="whether to shout")
    folder: Path = setting(Path("here"), help="where")  # noqa: RUF009
    spare: Path | None = setting(None, help="another folder")  # noqa: RUF009
    mode: str = setting("slow", help="how", choices=("slow", "fast"))
    peer: str = setting("a:1", help="whom", check=check_address, metavar="HOST:PORT")
    friends: tuple[str, ...] = setting((), help="more of them", check=check_address)
    scale: tuple[float, ...] = setting((1.0,), help="factors", low=0)


DEFAULTS = {one.name: one.default for one in declarations(Demo)}


def test_each_field_is_a_parameter_of_its_name_kind_help_and_range() -> None:
    told = {one.name: one for one in declarations(Demo)}
    assert {name: one.kind for name, one in told.items()} == {
        "count": "int",
        "pause_s": "float",
        "loud": "bool",
        "folder": "str",
        "spare": "str",
        "mode": "str",
        "peer": "str",
        "friends": TEXTS,
        "scale": NUMBERS,
    }
    assert told["count"].range == (1, 2**63 - 1)
    assert told["pause_s"].range == (0, 9)
    assert told["mode"].constraint == "one of: slow, fast"
    assert told["peer"].constraint == "HOST:PORT"
    assert told["spare"].default == ""
    assert told["scale"].default == [1.0]
    assert told["loud"].help == "whether to shout"


def test_an_open_end_of_a_float_s_range_is_the_last_finite_number() -> None:
    told = {one.name: one.range for one in declarations(AgentSettings)}
    assert told["give_up_s"] == (0, sys.float_info.max)


@pytest.mark.parametrize("settings", [Demo, *ALL])
def test_defaults_as_parameters_are_the_defaults_as_settings(settings: type[Any]) -> None:
    values = {one.name: one.default for one in declarations(settings)}
    assert settings_from(settings, values) == settings()


def test_prefix_stands_before_names_and_in_messages() -> None:
    assert declarations(Demo, "stream.")[0].name == "stream.count"
    with pytest.raises(InvalidInput, match=r"^stream\.count must be at least 1, got 0$"):
        settings_from(Demo, DEFAULTS | {"count": 0}, "stream.")


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        ("pause_s", 2, 2.0),
        ("spare", "", None),
        ("spare", "there", Path("there")),
        ("friends", ("b:2", "c:3"), ("b:2", "c:3")),
        ("scale", [1, 2.5], (1.0, 2.5)),
    ],
)
def test_value_becomes_the_setting(name: str, value: Any, setting: Any) -> None:
    assert getattr(settings_from(Demo, DEFAULTS | {name: value}), name) == setting


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 1.5, "count must be a whole number, got '1.5'"),
        ("count", True, "count must be a whole number, got 'True'"),
        ("pause_s", 10.0, "pause_s must be at most 9, got 10.0"),
        ("pause_s", float("nan"), "pause_s must be a finite number, got nan"),
        ("loud", "yes", "loud must be true or false, got 'yes'"),
        ("mode", "idle", "mode must be one of slow, fast, got 'idle'"),
        ("peer", "nowhere", "peer must be host:port, got 'nowhere'"),
        ("friends", "b:2", "friends must be a list of texts, got 'b:2'"),
        ("friends", ["b"], "friends must be host:port, got 'b'"),
        ("scale", [1.0, -2.0], "scale must be at least 0, got -2.0"),
        ("scale", [float("inf")], "scale must be a finite number, got inf"),
        ("scale", ["x"], "scale must be a list of numbers, got 'x' in it"),
        ("scale", [1.0] * 4097, "scale takes at most 4096 numbers, got 4097"),
        ("folder", None, "folder must be a path, got 'None'"),
    ],
)
def test_value_of_no_use_is_refused_with_the_line_of_the_command_line(name, value, message) -> None:
    with pytest.raises(InvalidInput) as caught:
        settings_from(Demo, DEFAULTS | {name: value})
    assert str(caught.value) == message


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.one_of(st.text(), st.floats(), st.integers(), st.booleans()), max_size=5),
)


@given(name=st.sampled_from([entry.name for entry in fields(Demo)]), value=ANYTHING)
def test_any_value_is_a_setting_or_one_line(name: str, value: Any) -> None:
    entry = next(entry for entry in fields(Demo) if entry.name == name)
    message = ""
    try:
        setting_value(entry, value)
    except InvalidInput as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
