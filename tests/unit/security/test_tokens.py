"""Tokens open once, for a while, for one name; and certificates are renewed in time."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from edge_agents.reconnect import Clock
from edge_agents.renewal import keep_certificate
from tinyfleet.errors import InvalidInput
from tinyfleet.security.authority import Authority, new_key
from tinyfleet.security.bearer import Bearer
from tinyfleet.security.folder import TlsFolder
from tinyfleet.security.requests import make_request, read_request
from tinyfleet.security.tokens import TokenRefused, Tokens, read_token, token_text

PI = Bearer("agent", "pi-1", ("lamp",))


class Now:
    def __init__(self):
        self.s = 1000.0

    def __call__(self):
        return self.s


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def tokens(tmp_path, now):
    return Tokens(tmp_path, now)


def test_a_token_opens_once(tokens):
    secret = tokens.make(PI, 60)
    assert tokens.take(secret, "") == PI
    with pytest.raises(TokenRefused, match="for agent pi-1 was used already"):
        tokens.take(secret, "")


def test_a_token_opens_once_however_many_ask_at_once(tokens):
    secret = tokens.make(PI, 60)

    def take(_):
        try:
            return tokens.take(secret, "")
        except TokenRefused:
            return None

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(40)))
    assert [one for one in taken if one] == [PI]


def test_a_token_opens_for_a_while(tokens, now):
    early, late = tokens.make(PI, 60), tokens.make(PI, 60)
    now.s += 59.9
    assert tokens.take(early, "") == PI
    now.s += 0.1
    with pytest.raises(TokenRefused, match="has expired"):
        tokens.take(late, "")


def test_a_token_is_for_one_name_and_a_mistake_does_not_use_it_up(tokens):
    secret = tokens.make(PI, 60)
    with pytest.raises(TokenRefused, match="was shown by 'pi-2'"):
        tokens.take(secret, "pi-2")
    assert tokens.take(secret, "pi-1") == PI


@given(secret=st.binary(max_size=40))
def test_no_other_secret_opens(tmp_path_factory, secret):
    tokens = Tokens(tmp_path_factory.getbasetemp())
    made = tokens.make(PI, 60)
    with pytest.raises(TokenRefused, match="no such token"):
        tokens.take(secret if secret != made else b"", "")


def test_secrets_are_not_kept(tokens, tmp_path):
    secret = tokens.make(PI, 60)
    (file,) = tmp_path.iterdir()
    assert secret.hex() not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=1, max_size=600))
def test_a_token_is_read_as_it_was_written(secret, ca):
    assert read_token(f" {token_text(secret, ca)}\n") == (secret, ca)


@given(st.text(max_size=100) | st.text("AZaz09-_", max_size=22).map("tf1.{}".format))
def test_what_is_no_token_is_refused_with_the_remedy(text):
    with pytest.raises(InvalidInput, match="'tinyfleet ca token'"):
        read_token(text)


def test_a_request_is_read_as_it_was_made():
    key = new_key()
    name, public = read_request(make_request(key, "pi-1"))
    assert (name, public) == ("pi-1", key.public_key())
    assert read_request(make_request(key))[0] == ""


def test_a_request_for_another_kind_of_key_is_refused():
    with pytest.raises(InvalidInput, match="P-256"):
        read_request(make_request(ec.generate_private_key(ec.SECP384R1()), "pi-1"))


REQUEST = make_request(new_key(), "pi-1")
BODY = base64.b64decode(b"".join(REQUEST.splitlines()[1:-1]))


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_damaged_request_is_refused_in_one_line(place, change):
    damaged = bytearray(BODY)
    damaged[place] ^= change
    text = base64.encodebytes(bytes(damaged))
    first, *_, last = REQUEST.splitlines()
    with pytest.raises(InvalidInput, match=r"\A[^\n]+\Z"):
        read_request(b"\n".join((first, text.strip(), last)))


def test_any_bytes_are_no_request():
    for noise in (b"", b"x" * 9000, b"-----BEGIN CERTIFICATE REQUEST-----\n"):
        with pytest.raises(InvalidInput, match="certificate request"):
            read_request(noise)


async def test_a_certificate_is_renewed_after_two_thirds_of_its_life(tmp_path, now):
    authority = Authority.create(tmp_path / "ca", "site")
    authority.issue_folder(PI, tmp_path / "tls", days=30)
    material = TlsFolder(tmp_path / "tls").read()
    now.s, asked = float(material.begins_s), []

    async def renew():
        asked.append(now.s)
        return "nobody answers" if len(asked) == 1 else ""

    async def sleep(seconds):
        now.s += seconds
        if len(asked) == 2:
            raise asyncio.CancelledError

    clock = Clock(sleep=sleep, draw=lambda: 0.5)
    with pytest.raises(asyncio.CancelledError):
        await keep_certificate(tmp_path / "tls", renew, clock, now)
    life = material.expires_s - material.begins_s
    assert 0 <= asked[0] - (material.begins_s + 2 * life / 3) < 3601
    assert asked[1] - asked[0] == pytest.approx(3600)
