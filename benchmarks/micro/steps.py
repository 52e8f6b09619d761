"""Microseconds of each step that a gateway takes for one PUT or GET, without network and disks.

    python -m benchmarks.micro.steps [--seconds 0.2]

Each line is the best of several rounds on one core. Metadata calls are in `micro.metadata`, kernels
of larger stripes in `micro.kernels`, everything together in `benchmarks.load`.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.micro.kernels import best_s
from benchmarks.s3.signing import Target, signed_head
from common import checksum
from common.buffers import BufferPool
from common.clock import ManualClock, SystemClock
from common.erasure.code import load_codes
from common.erasure.layout import BlobLayout
from common.keyring import KeyRing
from common.limits import KIB, MIB
from gateway.auth.credentials import Credential
from gateway.auth.payload import read_expectations
from gateway.auth.signature import Verifier, read_claim
from gateway.objects.encryption import DataKey
from gateway.objects.stripes import CellSet, encode_blocking, open_checked_blocking
from gateway.s3.address import Addressing, parse_query
from gateway.s3.codec import ROUTER
from gateway.s3.model.object import PutObjectOutput

TARGET = Target("x", "http://127.0.0.1:9000", "ACCESS", "SECRET")
CALLER = Credential("ACCESS", "SECRET", "1" * 12, "c" * 64, "name", "arn", True)
SMALL, LARGE = 4 * KIB, 64 * KIB
Step = tuple[str, Callable[[], object]]


def protocol() -> Iterator[Step]:
    """From the head of a request to its shape, and an answer's shape to its head."""
    body = os.urandom(SMALL)
    lines = signed_head(TARGET, "PUT", "/bucket/folder/key", body).decode().split("\r\n")
    pairs = [line.split(": ", 1) for line in lines[1:] if line]
    headers = {name.lower(): value for name, value in pairs}
    path, verifier = "/bucket/folder/key", Verifier()
    clock = ManualClock(SystemClock().now_ns() / 1e9)  # the hour of signing, whenever steps run
    addressing = Addressing(())
    yield "address", partial(addressing.resolve, headers["host"], path)
    operation = ROUTER.match("PUT", "object", {}, headers)
    assert operation is not None, "PutObject is known"
    yield "route", partial(ROUTER.match, "PUT", "object", parse_query(""), headers)

    def prove() -> None:
        claim = read_claim(headers, {}, "us-east-1", clock)
        assert claim is not None, "it is signed"
        verifier.verify(claim, CALLER, ("PUT", path, ""), headers)

    yield "signature", prove
    yield "expected digests", partial(read_expectations, headers, headers["x-amz-content-sha256"])
    yield "decode", partial(operation.decode, "bucket", "folder/key", {}, headers, None)
    yield "encode the answer", lambda: operation.encode(PutObjectOutput(etag='"0"'))


def inline() -> Iterator[Step]:
    """Data of 4 KiB, which lives in its version's row."""
    ring, key, data = KeyRing.make(), DataKey.make(), os.urandom(SMALL)
    sealed, wrapped = key.seal_inline(data), key.wrap(ring)
    for algorithm in ("MD5", "SHA256", "CRC64NVME"):
        yield f"4 KiB {algorithm}", partial(checksum.digest, algorithm, data)
    yield "make and wrap a data key", lambda: DataKey.make().wrap(ring)
    yield "unwrap a data key", partial(DataKey.unwrap, wrapped, ring)
    yield "4 KiB seal", partial(key.seal_inline, data)
    yield "4 KiB open", partial(key.open_inline, sealed)


def coded() -> Iterator[Step]:
    """A stripe of 64 KiB in 4 + 2 fragments."""
    pool, code = BufferPool(64 * MIB), load_codes().get(4, 2)
    layout = BlobLayout(4, 2, LARGE)
    stripe, read = layout.stripe(0), next(layout.locate(0, LARGE))
    plain, buffer = pool.take_now(LARGE), pool.take_now(code.n * stripe.cell_bytes)
    cipher = DataKey.make().sealer(bytes(16), 0, stripe.packages)
    encode = partial(encode_blocking, code, cipher, stripe, plain.view, buffer)
    tables = encode()
    cells = CellSet(code, stripe, buffer)

    def verify_and_open() -> None:
        for index in range(code.k):
            cells.spans[index], cells.unverified[index] = (0, stripe.cell_bytes), tables[index]
        assert not open_checked_blocking(cells, cipher, read, plain.view), "as it was written"

    yield "64 KiB seal, code, checksum", encode
    yield "64 KiB verify, open", verify_and_open


def main() -> None:
    """Print a line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each round")
    seconds = parser.parse_args().seconds
    for part in (protocol, inline, coded):
        for name, run in part():
            print(f"{name:<30} {best_s(run, seconds) * 1e6:>8.1f} us", flush=True)


if __name__ == "__main__":
    main()
