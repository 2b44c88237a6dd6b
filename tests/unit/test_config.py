"""Settings come from where they should, and what is wrong with one is said in one line."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfleet.config import (
    ADDRESS,
    Sources,
    check_address,
    check_listen_address,
    check_optional_address,
    load_settings,
    setting,
)
from tinyfleet.errors import InvalidInput


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo:
    """Settings of every kind."""

    name: str = setting(help="required name")
    count: int = setting(3, help="how many, 100% of them", low=1, high=10)
    pause_s: float = setting(0.5, help="seconds", low=0)
    loud: bool = setting(False, help="whether to shout")
    folder: Path = setting(Path("here"), help="where")  # noqa: RUF009
    spare: Path | None = setting(None, help="another folder")  # noqa: RUF009
    mode: str = setting("slow", help="how", choices=("slow", "fast"))
    peer: str = setting("a:1", help="whom", check=check_address, metavar=ADDRESS)
    spare_peer: str = setting("", help="or whom", check=check_optional_address, metavar=ADDRESS)
    friends: tuple[str, ...] = setting((), help="more of them", check=check_address)


def load(argv=(), environment=None, toml=None, tmp_path=None):
    environment = dict(environment or {})
    if toml is not None:
        path = tmp_path / "demo.toml"
        path.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
        environment["TINYFLEET_DEMO_CONFIG"] = str(path)
    return load_settings(Demo, "demo", "A demo.", Sources(list(argv), environment))


def refusal(**sources):
    with pytest.raises(InvalidInput) as caught:
        load(**sources)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 400
    return message


NAMED = {"TINYFLEET_DEMO_NAME": "me"}


def test_defaults_hold_where_nothing_is_set():
    assert load(environment=NAMED) == Demo(name="me")


def test_later_sources_win(tmp_path):
    toml = 'name = "toml"\ncount = 4\npause_s = 1\nloud = true\nfolder = "/t"\nmode = "fast"\n'
    environment = {"TINYFLEET_DEMO_COUNT": "5", "TINYFLEET_DEMO_LOUD": "off"}
    found = load(["--count", "6", "--name=flag"], environment, toml, tmp_path)
    assert found == Demo(
        name="flag", count=6, pause_s=1.0, loud=False, folder=Path("/t"), mode="fast"
    )


def test_the_flag_names_the_file_before_the_environment(tmp_path):
    other = tmp_path / "other.toml"
    other.write_text('name = "other"')
    found = load(["--config", str(other)], toml='name = "demo"', tmp_path=tmp_path)
    assert found.name == "other"


@pytest.mark.parametrize(
    ("argv", "loud"), [(["--loud"], True), (["--loud", "off"], False), (["--loud=on"], True)]
)
def test_a_flag_may_stand_alone_for_true(argv, loud):
    assert load([*argv, "--count", "4"], NAMED) == Demo(name="me", loud=loud, count=4)


def test_whole_numbers_are_floats_where_floats_are_wanted():
    assert isinstance(load(["--pause-s", "2"], NAMED).pause_s, float)


def test_a_list_comes_from_every_source_and_is_not_added_up(tmp_path):
    toml = 'name = "me"\nfriends = ["a:1", "b:2"]\n'
    variable = {"TINYFLEET_DEMO_FRIENDS": " c:3  d:4 "}
    assert load(toml=toml, tmp_path=tmp_path).friends == ("a:1", "b:2")
    assert load([], variable, toml, tmp_path).friends == ("c:3", "d:4")
    flags = ["--friends", "e:5", "--friends=f:6"]
    assert load(flags, variable, toml, tmp_path).friends == ("e:5", "f:6")
    assert load(environment=NAMED).friends == ()


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ('"a:1"', "friends must be a list of texts, got 'a:1'"),
        ('["a:1", 7]', "friends must be a list of texts, got '7' in it"),
        ('["a:1", "b"]', "friends must be host:port, got 'b'"),
        (str(["a:1"] * 65), "friends takes at most 64 texts, got 65"),
    ],
)
def test_a_wrong_list_is_refused(toml, reason, tmp_path):
    assert reason in refusal(toml=f'name = "me"\nfriends = {toml}\n', tmp_path=tmp_path)


def test_variables_of_other_processes_are_none_of_ours():
    assert load(environment={**NAMED, "TINYFLEET_OTHER_COUNT": "9"}).count == 3


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--cuont", "4"], "unrecognized arguments: --cuont 4"),
        (["--coun", "4"], "unrecognized arguments"),
        (["--count"], "expected one argument"),
        (["--count", "many"], "--count must be a whole number, got 'many'"),
        (["--count", "1.5"], "--count must be a whole number"),
        (["--count", "0"], "--count must be at least 1, got 0"),
        (["--count", "11"], "--count must be at most 10, got 11"),
        (["--count", "9" * 5000], "--count must be a whole number"),
        (["--pause-s", "nan"], "--pause-s must be a finite number, got nan"),
        (["--pause-s", "inf"], "--pause-s must be a finite number, got inf"),
        (["--pause-s=-1"], "--pause-s must be at least 0, got -1"),
        (["--pause-s", "-1"], "--pause-s must be at least 0, got -1"),
        (["--loud", "maybe"], "--loud must be true or false, got 'maybe'"),
        (["--mode", "medium"], "--mode must be one of slow, fast, got 'medium'"),
        (["--folder", "a\0b"], "zero byte"),
        (["--config", "/nowhere/x.toml"], "cannot read configuration /nowhere/x.toml"),
        (["--config", "/"], "cannot read configuration /"),
    ],
)
def test_a_wrong_flag_is_named(argv, reason):
    assert reason in refusal(argv=argv, environment=NAMED)


def test_a_missing_setting_names_the_flag_and_the_variable():
    assert refusal() == "'name' is not set: give --name or TINYFLEET_DEMO_NAME"


def test_a_misspelled_variable_is_refused_with_the_right_one():
    message = refusal(environment={**NAMED, "TINYFLEET_DEMO_CUONT": "4"})
    assert "did you mean 'TINYFLEET_DEMO_COUNT'?" in message


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ("cuont = 4", "did you mean 'count'?"),
        ("[section]\nx = 1", "unknown key 'section'"),
        ("count = 4.0", "count must be a whole number, got '4.0'"),
        ("count = true", "count must be a whole number"),
        ("loud = 1", "loud must be true or false"),
        ("name = 3", "name must be text"),
        ("name = 0x" + "f" * 5000, "name must be text, got 'a huge number'"),
        ("folder = 3", "folder must be a path"),
        ("pause_s = false", "pause_s must be a number"),
        ("pause_s = nan", "finite"),
        ("pause_s = 0x" + "f" * 300, "finite"),
        ("count = 0x" + "f" * 5000, "count must be at most 10, got a huge number"),
        ("count = " + "9" * 5000, "not valid TOML"),
        ("count = ", "not valid TOML"),
        ("name = " + "[" * 20000, "not valid TOML"),
        (b"name = '\xff'", "not valid TOML"),
        (b"#" * (256 * 1024 + 1), "at most"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(toml, reason, tmp_path):
    message = refusal(toml=toml, tmp_path=tmp_path)
    assert reason in message
    assert "demo.toml" in message


def test_help_shows_every_flag_and_default_within_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        load(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    words = ["--pause-s", "default: 0.5", "slow|fast", "default: none", "required", "100% of them"]
    assert [word for word in words if word not in text] == []


@settings(max_examples=200, deadline=None)
@given(
    flags=st.dictionaries(
        st.sampled_from([entry.name for entry in dataclasses.fields(Demo)]), st.text(max_size=20)
    )
)
def test_any_text_is_taken_or_refused_in_one_line(flags):
    argv = [f"--{name.replace('_', '-')}={text}" for name, text in flags.items()]
    found, refused = None, ""
    try:
        found = load(argv, NAMED)
    except InvalidInput as error:
        refused = str(error)
    if found is None:
        assert len(refused.splitlines()) == 1
    else:
        assert 1 <= found.count <= 10
        assert found.pause_s >= 0
        assert found.mode in ("slow", "fast")


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:-1", "host:0", "host:65536", "host:1x", "host:²"]
)
def test_an_address_that_is_none_is_refused(text):
    assert "--peer must be host:port" in refusal(argv=["--peer", text], environment=NAMED)


@pytest.mark.parametrize("text", ["host:1", "127.0.0.1:65535", "[::1]:7310"])
def test_an_address_is_taken_as_it_is(text):
    assert load(["--peer", text, "--spare-peer", text], NAMED).spare_peer == text
    assert load(["--spare-peer", ""], NAMED).spare_peer == ""


def test_port_0_is_for_listening_only():
    check_listen_address("listen", "127.0.0.1:0")
    with pytest.raises(InvalidInput, match="host:port"):
        check_address("peer", "127.0.0.1:0")


def test_help_names_what_a_value_is_and_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        load_settings(Demo, "demo", "A demo.", Sources(["--help"], {}), "Exit codes: 0 fine.")
    text = " ".join(capsys.readouterr().out.split())
    assert "--peer HOST:PORT whom (default: a:1)" in text
    assert "--folder PATH where (default: here)" in text
    assert text.endswith("Exit codes: 0 fine.")
