"""Data that is on disk but belongs to no version yet, and the seam between handlers and storage."""

from dataclasses import dataclass, field
from typing import Protocol

from proto import meta_pb2, records_pb2


class ByteSource(Protocol):
    """Bytes to be stored, pulled into the writer's buffers."""

    async def read_into(self, view: memoryview) -> int:
        """Copy what is there into `view`, at least a byte; 0 at the end."""
        ...


class Writers(Protocol):
    """The gateway's writer session, as commits name it."""

    def writer(self, session_id: int | None = None) -> meta_pb2.Writer:
        """Make the session and a fresh transaction id of one commit.

        session_id   the session that made the blobs to be committed; None: the current one
        """
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose data this is; written into every fragment so that disks explain themselves."""

    bucket: str
    key: bytes
    upload_id: bytes = b""
    part_number: int = 0
    about: bytes = b""  # an ObjectHeader: its metadata, for rebuilding without any


@dataclass(slots=True)
class Stored:
    """Sealed data, durable on its write quorum (blobs) or still in hand (inline).

    digests   raw digests of the plaintext by algorithm
    inline      sealed bytes that go with the commit; empty if there are blobs
    is_small    it is in blobs, and counted among the small objects under way (`Gathering`)
    session_id  the writer session that made the blobs; it is held until `ObjectWriter.release`
    """

    session_id: int
    size_bytes: int
    digests: dict[str, bytes]
    encryption: records_pb2.Encryption
    inline: bytes = b""
    is_inline: bool = False
    is_small: bool = False
    blobs: list[records_pb2.BlobRef] = field(default_factory=list)

    @property
    def etag(self) -> str:
        """The MD5 of the plaintext, as S3 shows it for data stored in one piece."""
        return self.digests["MD5"].hex()

    def fill(self, version: records_pb2.Version) -> None:
        """Put size, ETag and the place of the data into a version record."""
        version.size_bytes = self.size_bytes
        version.etag = self.etag
        version.encryption.CopyFrom(self.encryption)
        version.is_inline = self.is_inline
        version.blobs.extend(self.blobs)
