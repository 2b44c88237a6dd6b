"""Settings that cannot work are refused before anything is opened."""

from pathlib import Path

import pytest

from edge_agents.settings import load_agent_settings
from tinyfleet.config import Sources
from tinyfleet.errors import InvalidInput


def load(*argv: str, **environment: str):
    return load_agent_settings(Sources(argv, environment))


def test_name_is_made_from_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "pi four.lab")
    assert load().name == "pi-four.lab"


def test_flag_wins_over_the_environment() -> None:
    assert load(TINYFLEET_AGENT_NAME="pi-1").name == "pi-1"
    assert load("--name", "pi-2", TINYFLEET_AGENT_NAME="pi-1").name == "pi-2"


def test_data_of_the_environment_is_honoured(tmp_path: Path) -> None:
    assert load(TINYFLEET_DATA=str(tmp_path)).data == tmp_path
    here = tmp_path / "here"
    here.mkdir()
    assert load("--data", str(here), TINYFLEET_DATA=str(tmp_path)).data == here


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--name", "a b"), "name must be"),
        (("--name", "a" * 65), "name must be"),
        (("--coordinator", "nowhere"), "host:port"),
        (("--coordinator", "host:0"), "host:port"),
        (("--coordinator", "host:65536"), "host:port"),
        (("--engine", "gpu"), "auto, native, reference"),
        (("--reconnect-s", "0"), "at least 0.1"),
        (("--give-up-s", "-1"), "at least 0"),
        (("--device", "ttyACM0"), "--device must be a URL like serial:"),
        (("--data", "no/such/file"), "--data or TINYFLEET_DATA"),
        (("--nmae", "x"), "--nmae"),
        (("--predict", "7320"), "--predict must be host:port"),
        (("--predict", "0.0.0.0:7320"), "refusing to listen on '0.0.0.0' without TLS: give --tls"),
        (("--holder", "-1"), "--holder must be at least 0"),
        (("--holder", "3", "--own-data", "x.npz"), "leave --holder or --own-data out"),
    ],
)
def test_impossible_setting_is_refused_in_one_line(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        load(*argv)
    assert "\n" not in str(caught.value)


def test_unknown_variable_is_refused() -> None:
    with pytest.raises(InvalidInput, match="TINYFLEET_AGENT_NAME"):
        load(TINYFLEET_AGENT_NMAE="x")


def test_arrivals_are_named_one_by_one() -> None:
    found = load("--device", "emulated://host", "--device", "tcp://a:1?name=shed")
    assert found.device == ("emulated://host", "tcp://a:1?name=shed")
    assert not found.no_host_training
    several = load(TINYFLEET_AGENT_DEVICE="emulated://host emulated://host")
    assert several.device == ("emulated://host",) * 2


def test_agent_without_anything_to_train_on_is_refused() -> None:
    with pytest.raises(InvalidInput, match="give a --device"):
        load("--no-host-training")
    assert load("--no-host-training", "--device", "emulated://host").no_host_training


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidInput, match="two members named 'shed'"):
        load("--device", "tcp://a:1?name=shed", "--device", "tcp://a:2?name=shed")
    with pytest.raises(InvalidInput, match="two members named 'pi'"):
        load("--name", "pi", "--device", "tcp://a:1?name=pi")
    load("--name", "pi", "--no-host-training", "--device", "tcp://a:1?name=pi")
