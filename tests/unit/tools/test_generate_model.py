"""The generated S3 model is what its generator writes."""

import botocore
import pytest

from tools.generate_model import generate, recorded_version, snake


def test_generated_files_are_unchanged() -> None:
    for path, text in generate().items():
        version = recorded_version(path.read_text())
        if version != botocore.__version__:
            pytest.skip(f"{path} is from botocore {version}, installed is {botocore.__version__}")
        assert path.read_text() == text, f"{path}: run make generate"


@pytest.mark.parametrize(
    ("wire", "name"),
    [
        ("ETag", "etag"),
        ("ChecksumCRC64NVME", "checksum_crc64nvme"),
        ("SSECustomerKeyMD5", "sse_customer_key_md5"),
        ("SSEKMSKeyId", "sse_kms_key_id"),
        ("CORSRules", "cors_rules"),
        ("VersionId", "version_id"),
        ("ID", "id"),
        ("Not", "not_"),
    ],
)
def test_member_names(wire: str, name: str) -> None:
    assert snake(wire) == name
