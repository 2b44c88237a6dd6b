"""What was revoked stays revoked; only the site's authority revokes."""

from __future__ import annotations

import pytest

from services.hosting.revocation import Revocations
from tinyfleet.errors import InvalidInput
from tinyfleet.security.authority import Authority, pem
from tinyfleet.security.bearer import Bearer
from tinyfleet.security.folder import CA, REVOKED

PI, BOX = Bearer("agent", "pi-1"), Bearer("service", "metrics")


@pytest.fixture
def authority(tmp_path):
    return Authority.create(tmp_path / "ca", "site")


@pytest.fixture
def tls(authority, tmp_path):
    authority.issue_folder(BOX, tmp_path / "tls")
    return tmp_path / "tls"


def issued(authority, bearer, tmp_path):
    return pem(authority.issue_folder(bearer, tmp_path / bearer.name))


def give(authority, tls):
    (tls / REVOKED).write_bytes((authority.folder / REVOKED).read_bytes())


def test_all_certificates_of_a_name_are_revoked_and_no_other(authority, tls, tmp_path):
    first, second = (issued(authority, PI, tmp_path) for _ in range(2))
    other = issued(authority, Bearer("agent", "pi-2"), tmp_path)
    revocations = Revocations(tls)
    assert not revocations.is_revoked(first)
    assert len(authority.revoke("pi-1")) == 2
    give(authority, tls)
    assert revocations.look()
    assert not revocations.look()
    assert [revocations.is_revoked(one) for one in (first, second, other)] == [True, True, False]


def test_one_serial_is_revoked_and_earlier_ones_stay_so(authority, tls, tmp_path):
    first, second = (issued(authority, PI, tmp_path) for _ in range(2))
    serials = [one["serial"] for one in authority._issued() if one["name"] == "pi-1"]
    authority.revoke(serials[1])
    authority.revoke(serials[0])
    give(authority, tls)
    revocations = Revocations(tls)
    assert revocations.is_revoked(first)
    assert revocations.is_revoked(second)


def test_what_was_never_issued_cannot_be_revoked(authority):
    with pytest.raises(InvalidInput, match="nothing was issued to 'pi-9'"):
        authority.revoke("pi-9")


def test_a_name_with_two_roles_has_to_be_told_apart(authority, tmp_path):
    for role in ("agent", "operator"):
        issued(authority, Bearer(role, "desk"), tmp_path)
    with pytest.raises(InvalidInput, match="has several roles"):
        authority.revoke("desk")


@pytest.mark.parametrize("damage", [lambda _: b"", lambda data: data[:200], lambda _: b"\xff"])
def test_a_damaged_list_changes_nothing_later_and_is_refused_at_the_start(
    authority, tls, tmp_path, damage
):
    revoked = issued(authority, PI, tmp_path)
    authority.revoke("pi-1")
    give(authority, tls)
    revocations = Revocations(tls)
    (tls / REVOKED).write_bytes(damage((tls / REVOKED).read_bytes()))
    assert not revocations.look()
    assert revocations.is_revoked(revoked)
    with pytest.raises(InvalidInput, match=r"revoked\.pem"):
        Revocations(tls)
    (tls / REVOKED).unlink()
    assert not revocations.look()
    assert revocations.is_revoked(revoked)


def test_a_list_of_another_authority_is_refused(tls, tmp_path):
    other = Authority.create(tmp_path / "other", "site")
    issued(other, PI, tmp_path)
    other.revoke("pi-1")
    give(other, tls)
    with pytest.raises(InvalidInput, match=r"not signed by an authority in ca\.pem"):
        Revocations(tls)


def test_what_was_revoked_stays_so_when_the_key_is_replaced(authority, tls, tmp_path):
    revoked = issued(authority, PI, tmp_path)
    authority.revoke("pi-1")
    authority.rotate()
    authority.finish_rotation()
    give(authority, tls)
    (tls / CA).write_bytes(authority.trusted)
    assert Revocations(tls).is_revoked(revoked)
