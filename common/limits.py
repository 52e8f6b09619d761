"""Every limit: its name, unit and source. S3's own first, ours after.

"S3" marks limits of the Amazon S3 user guide and API reference; "ours" marks engineering limits.
"""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

SECOND = 1.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR

# --- S3: names and requests -------------------------------------------------------------------
BUCKET_NAME_CHARACTERS_MIN = 3
BUCKET_NAME_CHARACTERS_MAX = 63
BUCKETS_PER_ACCOUNT_MAX = 10_000
KEY_BYTES_MAX = 1024  # UTF-8
USER_METADATA_BYTES_MAX = 2 * KIB  # names and values together
OBJECT_TAGS_MAX = 10
BUCKET_TAGS_MAX = 50
TAG_KEY_CHARACTERS_MAX = 128
TAG_VALUE_CHARACTERS_MAX = 256
LIST_KEYS_MAX = 1000
DELETE_KEYS_MAX = 1000
PRESIGN_EXPIRES_S_MAX = 604_800  # seven days
CLOCK_SKEW_S_MAX = 900  # RequestTimeTooSkewed beyond

# --- S3: sizes --------------------------------------------------------------------------------
OBJECT_BYTES_MAX = 5 * TIB
PUT_BYTES_MAX = 5 * GIB  # one PUT, one part, one copy
PART_BYTES_MIN = 5 * MIB  # all parts but the last
PART_NUMBER_MAX = 10_000
FORM_FIELDS_BYTES_MAX = 20 * KIB  # POST form without the file

# --- ours: requests ---------------------------------------------------------------------------
HEADER_BYTES_MAX = 16 * KIB  # all request headers; S3 takes 8 KiB of them
HEADERS_MAX = 128
URI_BYTES_MAX = 20 * KIB  # 1,024 key bytes percent-encoded and a presigned query with a token
XML_BYTES_MAX = 2 * MIB  # 1,000 keys of 1,024 bytes with version ids
XML_DEPTH_MAX = 32
CONNECTIONS_MAX = 20_000  # open S3 connections of one gateway
REQUESTS_IN_FLIGHT_MAX = 1024  # of one gateway; SlowDown beyond
HEADER_TIMEOUT_S = 30.0
BODY_IDLE_TIMEOUT_S = 60.0  # no byte of a body for this long: RequestTimeout
BODY_RATE_GRACE_S = 120.0  # after this the average rate of a body is judged
BODY_RATE_BYTES_PER_S_MIN = 256
KEEP_ALIVE_S = 75.0
REQUEST_DEADLINE_S = 60.0  # metadata work of one request

# --- ours: data -------------------------------------------------------------------------------
INLINE_BYTES_MAX = 16 * KIB  # objects up to this live in their metadata row
BLOB_BYTES_MAX = 64 * MIB  # plaintext of one immutable blob
PACKAGE_BYTES = 64 * KIB  # plaintext of one AES-256-GCM package
PACKAGE_TAG_BYTES = 16
BLOCK_BYTES = 64 * KIB  # of a fragment, covered by one CRC32C
CELL_BYTES = 1 * MIB  # of a full stripe
EXTENT_BYTES = 1 * GIB
IDENTITY_BYTES_MAX = 4 * KIB  # what a fragment's header says of its object
DIRECT_IO_ALIGNMENT_BYTES = 4 * KIB
DISK_RESERVE_SHARE = 0.03  # of a disk: no new fragments below this free share
DISK_RESERVE_BYTES_MIN = 1 * GIB

# --- ours: calls ------------------------------------------------------------------------------
FRAME_HEADER_BYTES_MAX = 1 * MIB  # protobuf header of one frame
FRAME_PAYLOAD_BYTES_MAX = 4 * MIB
CALL_DEADLINE_S = 10.0  # one hot-plane call
COMMIT_DEADLINE_S = 20.0  # one metadata commit, retries included
SESSION_LEASE_S = 30.0  # a writer session not renewed for this long may be fenced
SESSION_RENEW_S = 5.0
SESSION_AGE_S_MAX = 600.0  # replaced by a new one after this
GARBAGE_GRACE_S = 900.0  # physical delete no earlier than this after the commit
QUARANTINE_S = 1 * DAY  # a fragment that nothing knows of is kept at least so long
TRANSACTION_ID_KEEP_S = 1 * DAY  # an unknown commit result can be asked for this long
COMPLETED_UPLOAD_KEEP_S = 2 * DAY  # CompleteMultipartUpload stays idempotent this long

# --- ours: metadata transactions (so that other engines can serve them too) --------------------
TRANSACTION_OPERATIONS_MAX = 128
TRANSACTION_BYTES_MAX = 1 * MIB
KV_KEY_BYTES_MAX = 2 * KIB
KV_VALUE_BYTES_MAX = 64 * KIB
