"""A setting names a board, what it is called in the fleet, and where its samples come from."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agents.device_url import NAME, DeviceChoice, device_name, parse_device
from tinyfleet.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("emulated://host", DeviceChoice("emulated://host", "", on_sensor=False)),
        ("tcp://a:1?", DeviceChoice("tcp://a:1", "", on_sensor=False)),
        ("serial:///dev/x?baud=9", DeviceChoice("serial:///dev/x?baud=9", "", on_sensor=False)),
        ("/dev/ttyACM*?name=b", DeviceChoice("/dev/ttyACM*", "b", on_sensor=False)),
        ("pty:///p?name=shed", DeviceChoice("pty:///p", "shed", on_sensor=False)),
        ("pty:///p?samples=sensor", DeviceChoice("pty:///p", "", on_sensor=True)),
        (
            "serial:///dev/ttyACM*?samples=task&baud=9&name=a.b&x",
            DeviceChoice("serial:///dev/ttyACM*?baud=9&x", "a.b", on_sensor=False),
        ),
    ],
)
def test_what_is_not_the_agents_is_left_to_the_line(text: str, choice: DeviceChoice) -> None:
    assert parse_device("--device", text) == choice


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--device must be a URL like"),
        ("ttyACM0", "--device must be a URL like"),
        ("serial://", "--device must be a URL like"),
        ("pty:///a\nb", "--device must be a URL like"),
        ("pty:///a?name=", "name must be 1 to 64"),
        ("pty:///a?name=b c", "name must be 1 to 64"),
        ("pty:///a?samples=file", "samples must be task or sensor, got 'file'"),
    ],
)
def test_what_names_no_board_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_device("--device", text)
    assert "\n" not in str(caught.value)


@given(text=st.text(max_size=300), query=st.text(max_size=30))
def test_any_text_names_a_board_or_is_refused(text: str, query: str) -> None:
    whole = f"pty:///{text}?name={query}"
    if NAME.fullmatch(query) and whole.isprintable() and "?" not in text:
        assert parse_device("--device", whole) == DeviceChoice(f"pty:///{text}", query, False)
    else:
        with contextlib.suppress(InvalidInput):
            name = parse_device("--device", whole).name
            assert name == "" or NAME.fullmatch(name)


def test_name_is_made_from_the_agents_and_the_boards() -> None:
    assert device_name("pi-1", "mps2-an386", 2) == "pi-1.mps2-an386-2"


@given(
    agent=st.from_regex(NAME, fullmatch=True),
    board=st.text(max_size=16),
    number=st.integers(1, 64),
)
def test_name_is_one_that_the_contract_allows(agent: str, board: str, number: int) -> None:
    name = device_name(agent, board, number)
    assert NAME.fullmatch(name)
    assert name.endswith(f"-{number}")
