"""Puts the chunks of an update together, within bounds, whatever the sender says."""

from __future__ import annotations

from typing import Generic, TypeVar

from tinyfleet.codec.selected import MAX_OVERHEAD_BYTES
from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import MAX_PARAMETERS

MAX_CHUNK_BYTES = 256 * 1024
MAX_UPDATE_BYTES = 4 * MAX_PARAMETERS + MAX_OVERHEAD_BYTES
MAX_PARTIAL_BYTES = 512 * 1024 * 1024  # our choice: of all updates that are not yet whole

Header = TypeVar("Header")


class Budget:
    """The memory that unfinished updates may take together."""

    def __init__(self, limit: int = MAX_PARTIAL_BYTES) -> None:
        self._left = limit

    def take(self, size: int) -> bool:
        """Reserve `size` bytes; False when there is no room for them."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """Undo `take`."""
        self._left += size


class PartialUpdate(Generic[Header]):
    """An update on its way in. Its bytes are counted in any case, and kept unless it is refused.

    reason: why the update is not taken, "" while nothing speaks against it. out_of_room: whether
    the reason is that too many updates are under way, so that it may be sent again.
    """

    def __init__(self, header: Header, total: int, reason: str, budget: Budget) -> None:
        if total > MAX_UPDATE_BYTES:
            raise InvalidInput(f"an update has at most {MAX_UPDATE_BYTES} bytes, not {total}")
        self.header = header
        self.reason = reason
        self.out_of_room = False
        self.data: bytes | bytearray = b""
        self._missing = total
        self._budget = budget
        self._reserved = 0

    def add(self, chunk: bytes) -> bool:
        """Take the next chunk; True when the update is whole. Raises InvalidInput."""
        size = len(chunk)
        if size > MAX_CHUNK_BYTES:
            raise InvalidInput(f"a chunk has at most {MAX_CHUNK_BYTES} bytes, got {size}")
        if size > self._missing:
            raise InvalidInput(f"{size - self._missing} bytes more than the header's total_bytes")
        if not size and self._missing:
            raise InvalidInput("an empty chunk in an update that is not whole")
        self._missing -= size
        if not self.reason:
            self._keep(chunk)
        return not self._missing

    def release(self) -> None:
        """Give the memory back; the data belongs to whoever took it."""
        self._budget.give_back(self._reserved)
        self._reserved = 0

    def _keep(self, chunk: bytes) -> None:
        if not self._missing and not self._reserved:
            self.data = chunk  # all in one chunk, as small models are: no copy
            return
        if not self._budget.take(len(chunk)):
            self.reason, self.out_of_room = "too many updates are under way: send it again", True
            self.data = b""
            self.release()
            return
        self._reserved += len(chunk)
        if not isinstance(self.data, bytearray):
            self.data = bytearray()
        self.data += chunk
