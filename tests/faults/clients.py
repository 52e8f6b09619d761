"""Clients of a campaign: boto3 without retries on few keys, every answer judged and written down.

An error that tells nothing (5xx, time-out, broken connection) leaves the outcome of a write
unknown; any other refusal, and a connection that was never made, means that nothing was done.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
)

from tests.faults import contents
from tests.faults.history import History, Place, observe, unknown
from tests.support.linearizability import Kind, Marker, Operation

PLAIN, VERSIONED = "campaign-plain", "campaign-versioned"
KEYS = 12  # of each bucket, in each round
SIZES = [contents.INLINE_BYTES] * 10 + [contents.SMALL_BYTES] * 7 + [contents.LARGE_BYTES]
REFUSALS = {404, 412}  # of conditional writes
ABSENT = {"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed"}


class Unknown(Exception):
    """The outcome of a request is not known."""


class Unsent(Exception):
    """Nobody was reached: nothing was done."""


class Refused(Exception):
    """The request was refused, and nothing done."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


@dataclass(slots=True)
class Round:
    """Keys that are in use now, and how many operations on them are under way."""

    number: int = 0
    _busy: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> int:
        """Begin an operation; returns the round it belongs to."""
        with self._lock:
            self._busy[self.number] = self._busy.get(self.number, 0) + 1
            return self.number

    def leave(self, number: int) -> None:
        """End it."""
        with self._lock:
            self._busy[number] -= 1

    def next(self) -> int:
        """Turn to fresh keys; returns the round that was."""
        with self._lock:
            self.number += 1
            return self.number - 1

    def is_over(self, number: int) -> bool:
        """Whether nothing is under way in a round any more."""
        with self._lock:
            return self.number > number and not self._busy.get(number)


def prefix_of(number: int) -> str:
    """Where the keys of a round are."""
    return f"round-{number}/"


class Client:
    """One client's operations. Not shared between threads."""

    def __init__(self, name: str, s3: Any, history: History, random: Random) -> None:
        self._name = name
        self._s3 = s3
        self._history = history
        self._random = random
        self._written = 0
        self._seen: dict[Place, tuple[str, str]] = {}  # ETag and value read last
        self._choices: list[tuple[Callable[[Place], None], int]] = [
            (self.get, 26), (self.put, 20), (self.create, 8), (self.replace, 12), (self.delete, 9),
            (self.multipart, 3), (self.get_version, 7), (self.erase, 4), (self.list, 6),
            (self.list_versions, 5),
        ]  # fmt: skip

    def step(self, round_number: int) -> bool:
        """Do one random operation on a random key of a round; False if nobody answered."""
        methods, weights = zip(*self._choices, strict=True)
        bucket = self._random.choice([PLAIN, VERSIONED])
        key = int(min(self._random.random(), self._random.random()) * KEYS)
        place = Place(bucket, f"{prefix_of(round_number)}key-{key}")
        try:
            self._random.choices(methods, weights)[0](place)
        except Unknown:
            self._history.count("no answer")
            return False
        except Unsent:
            self._history.count("nobody reached")
            return False
        except Refused as refused:
            self._history.count(f"refused {refused}")
        return True

    # --- reading --------------------------------------------------------------------------------

    def get(self, place: Place) -> None:
        """Read a key, whole or a range."""
        span = self._random.random() < 0.3
        begin = self._random.randrange(contents.SMALL_BYTES) if span else 0
        end = begin + self._random.randrange(1, contents.SMALL_BYTES) if span else None
        began_s = self._history.now_s()
        value = self.read(place, begin, end)
        self._history.add(place, observe(value, began_s, self._history.now_s(), label=self._name))

    def get_version(self, place: Place) -> None:
        """Read a version that is or was there."""
        chosen = self._choose_version(place)
        if chosen is None:
            return
        version_id, expected = chosen
        began_s = self._history.now_s()
        value = self.read(place, version_id=version_id)
        if value not in (None, expected):
            self._history.violate(f"version {version_id} of {place} is {value}, not {expected}")
        ended_s = self._history.now_s()
        self._history.add(place, observe(value, began_s, ended_s, expected, self._name))

    def read(
        self, place: Place, begin: int = 0, end: int | None = None, version_id: str | None = None
    ) -> str | None:
        """Read and judge every byte; returns the value, None if there is none.

        raises   Unknown, Unsent, Refused (a range beyond the end too)
        """
        options: dict[str, str] = {}
        if version_id is not None:
            options["VersionId"] = version_id
        if end is not None:
            options["Range"] = f"bytes={begin}-{end - 1}"
        try:
            answer = self._call("get_object", place, **options)
            data: bytes = self._guard(answer["Body"].read)
        except Refused as refused:
            if refused.code in ABSENT:
                return None
            raise
        value: str = answer["Metadata"]["value"]
        whole = contents.contents(value)
        if data != whole[begin:end] or not data:
            self._history.violate(f"wrong bytes of {place}: {value}, {begin} to {end}")
        if self._history.value_of(answer["ETag"]) != value:
            self._history.violate(f"wrong ETag of {place}: {value}, {answer['ETag']}")
        self._seen[place] = (answer["ETag"], value)
        return value

    def list(self, place: Place) -> None:
        """List a round's keys: a read of each."""
        prefix = place.key.rpartition("/")[0] + "/"
        began_s = self._history.now_s()
        answer = self._guard(self._s3.list_objects_v2, Bucket=place.bucket, Prefix=prefix)
        ended_s = self._history.now_s()
        found = {entry["Key"]: self._value_of(place, entry) for entry in answer.get("Contents", [])}
        for number in range(KEYS):
            listed = Place(place.bucket, f"{prefix}key-{number}")
            value = found.get(listed.key)
            self._history.add(listed, observe(value, began_s, ended_s, label=f"{self._name} list"))

    def list_versions(self, place: Place) -> None:
        """List all versions of a key: a read of each one that was known before."""
        if place.bucket != VERSIONED:
            self.list(place)
            return
        known = self._history.versions(place)
        began_s = self._history.now_s()
        answer = self._guard(
            self._s3.list_object_versions, Bucket=place.bucket, Prefix=place.key, MaxKeys=1000
        )
        ended_s = self._history.now_s()
        found: dict[str, str] = {}
        latest = None
        for entry in answer.get("Versions", []):
            if entry["Key"] != place.key:
                continue  # key-1 is a prefix of key-10
            value = self._value_of(place, entry)
            found[entry["VersionId"]] = value
            latest = value if entry["IsLatest"] else latest
            self._history.name_version(place, entry["VersionId"], value)
        label = f"{self._name} versions"
        seen = [observe(latest, began_s, ended_s, label=label)]
        for version_id, expected in (known | found).items():
            if not isinstance(expected, Marker):
                seen.append(observe(found.get(version_id), began_s, ended_s, expected, label))
        self._history.add(place, *seen)

    def _value_of(self, place: Place, entry: Any) -> str:
        value = self._history.value_of(entry["ETag"])
        if value is None:
            self._history.violate(f"a listing shows {place.bucket}/{entry['Key']} {entry['ETag']}")
            return f"stranger {entry['ETag']}"
        return value

    # --- writing --------------------------------------------------------------------------------

    def put(self, place: Place) -> None:
        """Write a key."""
        self._put(Kind.PUT, place, None)

    def create(self, place: Place) -> None:
        """Write a key if there is none."""
        self._put(Kind.CREATE, place, None, IfNoneMatch="*")

    def replace(self, place: Place) -> None:
        """Write a key if it is still what was read last."""
        seen = self._seen.get(place)
        if seen is None or self._random.random() < 0.5:
            self.get(place)
            seen = self._seen.get(place)
        if seen is not None:
            self._put(Kind.REPLACE, place, seen[1], IfMatch=seen[0])

    def multipart(self, place: Place) -> None:
        """Write a key in parts."""
        tail = self._random.choice([contents.INLINE_BYTES, contents.SMALL_BYTES])
        value = self._new_value(tail + contents.PART_BYTES * (self._random.random() < 0.2))
        data = contents.contents(value)
        pieces = [data[at : at + contents.PART_BYTES] for at in range(0, len(data), 5 << 20)]
        etag = contents.etag_of_parts(pieces)
        self._history.name_etag(etag, value)
        begun = self._call("create_multipart_upload", place, Metadata={"value": value})
        upload = {"UploadId": begun["UploadId"]}
        parts = []
        for number, piece in enumerate(pieces, 1):
            sent = self._call("upload_part", place, **upload, PartNumber=number, Body=piece)
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})

        def complete() -> Any:
            return self._call(
                "complete_multipart_upload", place, **upload, MultipartUpload={"Parts": parts}
            )

        def complete_for_sure() -> Any:
            try:
                return complete()
            except Unknown as first:
                try:
                    return complete()  # asked again it says the same
                except Unsent:
                    raise Unknown from first

        self._write(Kind.PUT, place, value, None, complete_for_sure)

    def delete(self, place: Place) -> None:
        """Delete a key; with versions, put a marker on it."""
        began_s = self._history.now_s()
        is_versioned = place.bucket == VERSIONED
        try:
            answer = self._call("delete_object", place)
        except Unknown:
            self._written += 1
            marker = Marker(f"{self._name}-{self._written}") if is_versioned else None
            self._history.add(place, unknown(Kind.DELETE, began_s, marker, None))
            raise
        marker = Marker(answer["VersionId"]) if is_versioned else None
        if marker is not None:
            self._history.name_version(place, answer["VersionId"], marker)
        ended_s = self._history.now_s()
        self._history.add(place, Operation(Kind.DELETE, began_s, ended_s, marker, label=self._name))

    def erase(self, place: Place) -> None:
        """Delete a version for good."""
        chosen = self._choose_version(place)
        if chosen is not None:
            self.erase_version(place, *chosen)

    def erase_version(self, place: Place, version_id: str, value: Any) -> None:
        """Delete the version that is known to be `value`."""
        self._write(
            Kind.ERASE, place, None, value,
            lambda: self._call("delete_object", place, VersionId=version_id),
        )  # fmt: skip

    def _put(self, kind: Kind, place: Place, expected: str | None, **conditions: str) -> None:
        value = self._new_value(self._random.choice(SIZES))
        data = contents.contents(value)
        self._history.name_etag(contents.etag_of(data), value)
        self._write(
            kind, place, value, expected,
            lambda: self._call(
                "put_object", place, Body=data, Metadata={"value": value}, **conditions
            ),
        )  # fmt: skip

    def _write(
        self, kind: Kind, place: Place, value: Any, expected: Any, send: Callable[[], Any]
    ) -> None:
        began_s = self._history.now_s()
        is_refused = False
        try:
            answer = send()
        except Unknown:
            self._history.add(place, unknown(kind, began_s, value, expected))
            raise
        except Refused as refused:
            if refused.status not in REFUSALS or kind not in (Kind.CREATE, Kind.REPLACE):
                raise
            is_refused = True
        else:
            if kind is not Kind.ERASE:
                self._history.name_version(place, answer.get("VersionId"), value)
        ended_s = self._history.now_s()
        self._history.add(
            place, Operation(kind, began_s, ended_s, value, expected, is_refused, self._name)
        )

    # --- asking ---------------------------------------------------------------------------------

    def _new_value(self, size_bytes: int) -> str:
        self._written += 1
        return contents.name(self._name, self._written, size_bytes)

    def _choose_version(self, place: Place) -> tuple[str, str] | None:
        versions = [
            (version_id, value)
            for version_id, value in sorted(self._history.versions(place).items())
            if isinstance(value, str)
        ]
        return self._random.choice(versions) if versions else None

    def _call(self, method: str, place: Place, **options: Any) -> Any:
        return self._guard(getattr(self._s3, method), Bucket=place.bucket, Key=place.key, **options)

    def _guard(self, call: Callable[..., Any], **options: Any) -> Any:
        """raises Unknown, Unsent, Refused"""
        try:
            return call(**options)
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            raise Unsent from error
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = error.response["Error"]["Code"]
            if status >= 500 or status < 400:
                self._history.count(f"answered {status} {code}")
                raise Unknown from error
            raise Refused(status, code) from error
        except (BotoCoreError, OSError) as error:
            self._history.count(f"failed with {type(error).__name__}")
            raise Unknown from error
