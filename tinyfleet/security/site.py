"""An authority and the certificates of a whole fleet, in one folder, for fleets on one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tinyfleet.security.authority import Authority
from tinyfleet.security.bearer import AGENT, OPERATOR, SERVICE, SERVICES, checked_bearer


def issue_site(folder: Path, agents: Mapping[str, Sequence[str]]) -> Authority:
    """`folder/ca`, and a folder for each service, each agent, and an operator of that name.

    agents: for every agent the names that it uses besides. What a fleet in the same folder had
    before stays valid: its authority signs again.
    """
    authority = _authority(folder / "ca")
    for name in SERVICES:
        authority.issue_folder(checked_bearer(SERVICE, name), folder / name)
    for name, also in agents.items():
        authority.issue_folder(checked_bearer(AGENT, name, also), folder / name)
    authority.issue_folder(checked_bearer(OPERATOR, OPERATOR), folder / OPERATOR)
    return authority


def _authority(folder: Path) -> Authority:
    return Authority.open(folder) if folder.exists() else Authority.create(folder, "local fleet")
