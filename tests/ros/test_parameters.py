"""Parameters: the settings of the programs, described, guarded and refused with the same lines."""

from __future__ import annotations

import pytest
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter

from edge_agents.settings import AgentSettings
from services.aggregator.settings import AggregatorSettings
from services.coordinator.settings import CoordinatorSettings
from services.metrics.settings import MetricsSettings
from tinyfleet.config import NUMBERS, TEXTS
from tinyfleet.ros.values import declarations

SETTINGS = {
    "agent": AgentSettings,
    "aggregator": AggregatorSettings,
    "coordinator": CoordinatorSettings,
    "metrics": MetricsSettings,
}
TYPES = {
    "bool": ParameterType.PARAMETER_BOOL,
    "int": ParameterType.PARAMETER_INTEGER,
    "float": ParameterType.PARAMETER_DOUBLE,
    "str": ParameterType.PARAMETER_STRING,
    TEXTS: ParameterType.PARAMETER_STRING_ARRAY,
    NUMBERS: ParameterType.PARAMETER_DOUBLE_ARRAY,
}
FREE = {"listen": "127.0.0.1:0", "storage": "memory"}


def set_parameter(observer, node, name, value, kind=None):
    chosen = Parameter(name, kind or Parameter.Type.from_parameter_value(value), value)
    request = SetParameters.Request(parameters=[chosen.to_parameter_msg()])
    (result,) = observer.call(SetParameters, f"{node}/set_parameters", request).results
    return result


def get_parameter(observer, node, name):
    request = GetParameters.Request(names=[name])
    (value,) = observer.call(GetParameters, f"{node}/get_parameters", request).values
    return Parameter.from_parameter_msg(_named(name, value)).value


def _named(name, value):
    from rcl_interfaces.msg import Parameter as Message

    return Message(name=name, value=value)


@pytest.mark.parametrize("which", SETTINGS)
def test_every_setting_is_declared_with_type_description_and_range(which, start, observer):
    start(which)
    declared = {one.name: one for one in declarations(SETTINGS[which])}
    listed = observer.call(ListParameters, f"{which}/list_parameters").result.names
    assert set(declared) | {"autostart", "use_sim_time"} <= set(listed)
    request = DescribeParameters.Request(names=list(declared))
    described = observer.call(DescribeParameters, f"{which}/describe_parameters", request)
    for told in described.descriptors:
        one = declared[told.name]
        assert (told.type, told.description) == (TYPES[one.kind], one.help)
        assert told.additional_constraints == one.constraint
        ranges = [*told.integer_range, *told.floating_point_range]
        assert [(r.from_value, r.to_value) for r in ranges] == ([one.range] if one.range else [])
        value = get_parameter(observer, which, told.name)
        assert (list(value) if isinstance(one.default, list) else value) == one.default


def test_a_whole_number_will_do_for_a_float_and_a_list_may_be_empty(start, observer):
    start("agent", drain_s=3)
    assert get_parameter(observer, "agent", "drain_s") == 3.0
    device = ["tcp://a:1", "tcp://b:2"]
    assert set_parameter(observer, "agent", "device", device).successful
    assert list(get_parameter(observer, "agent", "device")) == device
    kind = Parameter.Type.STRING_ARRAY
    assert set_parameter(observer, "agent", "device", [], kind).successful


@pytest.mark.parametrize(
    ("which", "name", "given", "line", "good"),
    [
        ("coordinator", "drain_s", -1.0, "drain_s must be at least 0, got -1.0", 2.0),
        ("coordinator", "listen", "nowhere", "listen must be host:port, got 'nowhere'", "::1:0"),
        ("coordinator", "max_runs", "many", "max_runs must be a whole number, got 'many'", 3),
        ("metrics", "storage", "disk", "storage must be one of sqlite, memory", "memory"),
        (
            "metrics",
            "listen",
            "0.0.0.0:1",
            "refusing to listen on '0.0.0.0' without TLS",
            "[::1]:0",
        ),
        ("agent", "name", "a b", "name must be ", "pi-1"),
        ("agent", "no_host_training", True, "with --no-host-training something else", False),
    ],
)
def test_a_bad_parameter_fails_configure_with_the_line_until_it_is_put_right(
    which, name, given, line, good, start, observer
):
    node = start(which, **(({} if which == "agent" else FREE) | {name: given}))
    assert not observer.change(which, "configure")
    assert observer.state(which) == "unconfigured"
    assert line in node.printed()
    assert "Traceback" not in node.printed()
    assert set_parameter(observer, which, name, good).successful
    assert observer.change(which, "configure")


def test_a_value_that_cannot_be_is_refused_when_it_is_set(start, observer):
    start("agent")
    for name, value, line in (
        ("coordinator", "nowhere", "coordinator must be host:port, got 'nowhere'"),
        ("engine", "steam", "engine must be one of auto, native, reference, got 'steam'"),
        ("drain_s", 601.0, "out of range"),
        ("holder", -1, "out of range"),
        ("holder", "one", "Wrong parameter type"),
    ):
        result = set_parameter(observer, "agent", name, value)
        assert (result.successful, line in result.reason) == (False, True), result.reason
    assert observer.change("agent", "configure")


def test_settings_are_read_only_while_configured_and_the_log_level_is_not(start, observer):
    node = start("coordinator", autostart=True, **FREE)
    observer.until(lambda: observer.state("coordinator") == "active")
    refused = set_parameter(observer, "coordinator", "max_runs", 7)
    assert not refused.successful
    assert refused.reason == (
        "max_runs is read-only while configured: clean up first, or call ~/stop"
    )
    assert set_parameter(observer, "coordinator", "log_level", "error").successful
    quiet = len(node.printed())
    assert observer.change("coordinator", "deactivate")
    assert len(node.printed()) == quiet
    assert set_parameter(observer, "coordinator", "log_level", "debug").successful
    assert observer.change("coordinator", "cleanup")
    assert 'transition="clean up"' in node.printed()
    assert set_parameter(observer, "coordinator", "max_runs", 7).successful


def test_a_parameter_nobody_knows_is_named_with_the_nearest_one(start, observer):
    node = start("metrics", lisen="127.0.0.1:0")
    assert observer.state("metrics") == "unconfigured"
    assert "unknown parameter 'lisen': did you mean 'listen'?" in node.printed()


def test_parameters_come_from_a_file(start, observer, tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    drain_s: 2\n    state: here\n"
        "/**/agent:\n  ros__parameters:\n    name: pi-7\n    device: ['tcp://a:1']\n",
        encoding="utf-8",
    )
    start("agent", namespace="/site", arguments=("--params-file", str(path)))
    assert get_parameter(observer, "/site/agent", "drain_s") == 2.0
    assert get_parameter(observer, "/site/agent", "name") == "pi-7"
    assert list(get_parameter(observer, "/site/agent", "device")) == ["tcp://a:1"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--params-file", "nowhere.yaml"), "ROS refuses the arguments: "),
        (("-p", "listen"), "ROS refuses the arguments: "),
        (("--", "extra"), "unknown argument 'extra': settings are ROS parameters"),
    ],
)
def test_arguments_of_no_use_end_with_one_line_and_2(arguments, line, start):
    node = start("metrics", arguments=arguments)
    assert node.process.wait(30) == 2
    assert line in node.printed().splitlines()[-1]
    assert "Traceback" not in node.printed()


def test_help_lists_the_parameters_with_their_defaults(start):
    node = start("agent", arguments=("--", "--help"))
    assert node.process.wait(30) == 0
    assert "parameters:" in node.printed()
    assert "longest wait for trained work when stopping, seconds (default: 10.0)" in node.printed()
