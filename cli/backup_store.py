"""Where backups are kept: a folder, or a bucket of another S3 endpoint.

The S3 client is as small as its work: PUT, GET and one listing, signed (Signature Version 4) with
the standard library, so that operators need no SDK beside Ostraka.
"""

import hashlib
import hmac
import http.client
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

from common import faults
from common.keyring import write_private

TIMEOUT_S = 60.0
NAME = re.compile(r"[A-Za-z0-9./_-]+")
KEYS = re.compile(rb"<Key>([^<]*)</Key>")
NEXT = re.compile(rb"<NextContinuationToken>([^<]*)</NextContinuationToken>")


class BackupStore(Protocol):
    """Named pieces of bytes; names have slashes."""

    def put(self, name: str, data: bytes) -> None:
        """Store a piece; durable when this returns. raises OSError, Unavailable"""
        ...

    def get(self, name: str) -> bytes:
        """Read a piece. raises NotFound, OSError, Unavailable"""
        ...

    def list(self) -> list[str]:
        """All names, in order."""
        ...


class FolderStore:
    """A folder; readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, data: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, data)

    def get(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            raise faults.NotFound("file", str(self._folder / name)) from None

    def list(self) -> list[str]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._folder).as_posix() for path in files)


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket and a prefix at an endpoint, with keys."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str
    bucket: str
    prefix: str  # empty, or ends with a slash


class S3Store:
    """A prefix of a bucket."""

    def __init__(self, place: S3Place) -> None:
        self._place = place

    def put(self, name: str, data: bytes) -> None:
        self._exchange("PUT", self._place.prefix + name, data)

    def get(self, name: str) -> bytes:
        return self._exchange("GET", self._place.prefix + name)

    def list(self) -> list[str]:
        names, token = list[str](), ""
        prefix = self._place.prefix
        while True:
            query = {"list-type": "2", "prefix": prefix}
            if token:
                query["continuation-token"] = token
            page = self._exchange("GET", "", query=query)
            names += [unquote(key.decode())[len(prefix) :] for key in KEYS.findall(page)]
            found = NEXT.search(page)
            if found is None:
                return sorted(names)
            token = found[1].decode()

    def _exchange(
        self, method: str, key: str, body: bytes = b"", query: dict[str, str] | None = None
    ) -> bytes:
        """One request. raises NotFound, Forbidden, Unavailable"""
        place = self._place
        parts = urlsplit(place.endpoint)
        path = quote(f"/{place.bucket}" + (f"/{key}" if key else ""), safe="/-_.~")
        text = urlencode(sorted((query or {}).items()), quote_via=quote, safe="-_.~")
        make = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = make(parts.netloc, timeout=TIMEOUT_S)
        try:
            headers = sign(place, method, (parts.netloc, path, text), body)
            connection.request(method, path + (f"?{text}" if text else ""), body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise faults.Unavailable(f"{place.endpoint}: {error}") from error
        finally:
            connection.close()
        if answer.status == http.client.NOT_FOUND:
            raise faults.NotFound("object", f"s3://{place.bucket}/{key}")
        if answer.status != http.client.OK:
            words = re.search(rb"<Message>([^<]*)</Message>", data)
            reason = words[1].decode() if words else answer.reason
            raise faults.Unavailable(f"{place.endpoint}: {answer.status} {reason}")
        return data


def sign(place: S3Place, method: str, target: tuple[str, str, str], body: bytes) -> dict[str, str]:
    """Headers of a signed request. target: host, path and query, percent-encoded"""
    host, path, query = target
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = (
        f"{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{digest}\n"
        f"x-amz-date:{now}\n\n{names}\n{digest}"
    )
    scope = f"{now[:8]}/{place.region}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{place.secret_key}".encode()
    for part in (now[:8], place.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashed}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return {
        "x-amz-date": now,
        "x-amz-content-sha256": digest,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={place.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}",
    }
