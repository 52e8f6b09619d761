"""Key schema. One row kind per first byte; numbers big-endian; `~n` is n inverted: larger first.

  kind  rest of the key                            value
  B     bucket name                                Bucket
  b     account, 00, bucket name                   (empty: index of an account's buckets)
  h     bucket_id, key                             Head: only if the newest version is visible
  m     bucket_id, key                             ~order, random of a delete marker that is newest
  v     bucket_id, [key], ~order, random           Version
  d     bucket_id, [key], ~order, random           sealed bytes of an inline version
  n     bucket_id, key                             ~order, random of a null version, not the head
  u     bucket_id, [key], upload_id                Upload, open
  f     upload_id, bucket_id                       Upload, completed: answers a repeated completion
  q     upload_id                                  counter of part commits of an open upload
  p     upload_id, number                          Part
  r     upload_id, chunk                           PartsRef: runs of a very irregular upload
  o     blob_id                                    BlobOwner: the blob is referenced
  g     due time, random                           Garbage
  G     disk_id, random                            Garbage of a disk that was away, kept for it
  s     session_id                                 Session
  t     transaction_id                             first reply of a write
  a     account_id                                 Account
  k     access key                                 AccessKey
  N     node name                                  Node
  D     disk_id                                    Disk
  P     profile name                               Profile
  l     lease name                                 Lease
  j     blob_id                                    RepairJob
  R     q or w, margin, blob_id                    (empty: a job's place in the queue; w: waits)
  R     s                                          RepairPass
  R     m                                          RepairMeasure: the last repair of much data
  J     blob_id                                    Strays: fragments where no placement names them
  c     sequence                                   ChangeRecord
  x     consumer                                   sequence up to which it has read
  U     bucket_id, counter name                    counter
  z     bucket_id                                  (empty: a deleted bucket with uploads to abort)
  W     header, position                           the journal's own notes of the engine
  S     scrub name                                 ScrubState: where a comparison stands
  F     disk_id, blob_id, index                    time when an unknown fragment was first seen
  C     name                                       single values: clock floor, cluster id ...;
                                                   counters: blobs awaiting repair, their bytes,
                                                   garbage rows

[key] is escaped and ended so that what follows sorts within its key: 00 becomes 00 FF, the end is
00 00. `random` is 8 bytes; ~order and random together are a version id, and its row's place.
"""

VERSION_ROW_BYTES = 16
UINT64_MAX = 2**64 - 1
CHECKPOINT_SESSION = b"\xff" * 8  # begins blob ids of the metadata's checkpoints; no session's id
_END = b"\x00\x00"


def uint64(value: int) -> bytes:
    """A number that sorts as it counts."""
    return value.to_bytes(8, "big")


def escape(key: bytes) -> bytes:
    """A key that other fields may follow."""
    return key.replace(b"\x00", b"\x00\xff") + _END


def unescape(escaped: bytes) -> bytes:
    """The key of `escape`, without its end."""
    return escaped[: -len(_END)].replace(b"\x00\xff", b"\x00")


def after(prefix: bytes) -> bytes:
    """The first key that is greater than all keys with this prefix."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b""


def bucket(name: str) -> bytes:
    return b"B" + name.encode()


def account_bucket(account_id: str, name: str) -> bytes:
    return b"b" + account_id.encode() + b"\x00" + name.encode()


def head(bucket_id: int, key: bytes) -> bytes:
    return b"h" + uint64(bucket_id) + key


def marker(bucket_id: int, key: bytes) -> bytes:
    return b"m" + uint64(bucket_id) + key


def versions(bucket_id: int, key: bytes) -> bytes:
    """Prefix of all versions of a key."""
    return b"v" + uint64(bucket_id) + escape(key)


def version(bucket_id: int, key: bytes, row: bytes) -> bytes:
    return b"v" + uint64(bucket_id) + escape(key) + row


def data(bucket_id: int, key: bytes, row: bytes) -> bytes:
    return b"d" + uint64(bucket_id) + escape(key) + row


def null_pointer(bucket_id: int, key: bytes) -> bytes:
    return b"n" + uint64(bucket_id) + key


def version_row(order: int, random: bytes) -> bytes:
    """Where a version of this order is, within its key; also its version id."""
    return uint64(UINT64_MAX - order) + random


def order_of(row: bytes) -> int:
    """The order in a version row or version id."""
    return UINT64_MAX - int.from_bytes(row[:8], "big")


def bucket_rows(kind: bytes, bucket_id: int) -> bytes:
    """Prefix of all rows of a kind (h, m, v, n, u, U) in a bucket."""
    return kind + uint64(bucket_id)


def split_key_row(row_key: bytes) -> tuple[bytes, bytes]:
    """The object key and the 16 bytes behind it, of a v or u row."""
    return unescape(row_key[9:-VERSION_ROW_BYTES]), row_key[-VERSION_ROW_BYTES:]


def upload(bucket_id: int, key: bytes, upload_id: bytes) -> bytes:
    return b"u" + uint64(bucket_id) + escape(key) + upload_id


def finished_upload(upload_id: bytes, bucket_id: int) -> bytes:
    return b"f" + upload_id + uint64(bucket_id)


def part_commits(upload_id: bytes) -> bytes:
    return b"q" + upload_id


def parts(upload_id: bytes) -> bytes:
    """Prefix of all parts of an upload."""
    return b"p" + upload_id


def part(upload_id: bytes, number: int) -> bytes:
    return b"p" + upload_id + number.to_bytes(2, "big")


def part_runs(upload_id: bytes, chunk: int) -> bytes:
    return b"r" + upload_id + chunk.to_bytes(2, "big")


def blob_owner(blob_id: bytes) -> bytes:
    return b"o" + blob_id


def garbage(due_ns: int, random: bytes) -> bytes:
    return b"g" + uint64(due_ns) + random


def kept_garbage(disk_id: int, random: bytes) -> bytes:
    return b"G" + uint64(disk_id) + random


def session(session_id: int) -> bytes:
    return b"s" + uint64(session_id)


def transaction(transaction_id: bytes) -> bytes:
    return b"t" + transaction_id


def account(account_id: str) -> bytes:
    return b"a" + account_id.encode()


def access_key(name: str) -> bytes:
    return b"k" + name.encode()


def node(name: str) -> bytes:
    return b"N" + name.encode()


def disk(disk_id: int) -> bytes:
    return b"D" + uint64(disk_id)


def profile(name: str) -> bytes:
    return b"P" + name.encode()


def lease(name: str) -> bytes:
    return b"l" + name.encode()


def repair(blob_id: bytes) -> bytes:
    return b"j" + blob_id


def repair_queue(margin: int, blob_id: bytes, *, is_waiting: bool = False) -> bytes:
    return (b"Rw" if is_waiting else b"Rq") + bytes([margin]) + blob_id


def repair_pass() -> bytes:
    return b"Rs"


def repair_measure() -> bytes:
    return b"Rm"


def strays(blob_id: bytes) -> bytes:
    return b"J" + blob_id


def change(sequence: int) -> bytes:
    return b"c" + uint64(sequence)


def consumer(name: str) -> bytes:
    return b"x" + name.encode()


def usage(bucket_id: int, counter: str) -> bytes:
    return b"U" + uint64(bucket_id) + counter.encode()


def deleted_bucket(bucket_id: int) -> bytes:
    return b"z" + uint64(bucket_id)


def scrub(name: str) -> bytes:
    return b"S" + name.encode()


def quarantine(disk_id: int, blob_id: bytes, index: int) -> bytes:
    return quarantined(disk_id) + blob_id + bytes([index])


def quarantined(disk_id: int) -> bytes:
    """Begins all quarantine rows of a disk."""
    return b"F" + uint64(disk_id)


def single(name: str) -> bytes:
    return b"C" + name.encode()
