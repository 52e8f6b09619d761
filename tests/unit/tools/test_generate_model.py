"""The generated S3 model is what its generator writes."""

import pytest

from tools.botocore_model import NoModel
from tools.generate_model import TARGET, generate, snake


def test_generated_files_are_unchanged() -> None:
    """The model's wheel is downloaded, whatever version is installed as a client."""
    try:
        generated = generate()
    except NoModel as reason:
        pytest.skip(f"the model cannot be had: {reason}")
    for path, text in generated.items():
        assert path.read_text() == text, f"{path}: run make generate"
    assert {*TARGET.glob("*.py")} == {*generated}


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
