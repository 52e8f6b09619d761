"""What a new user is told: true, and safe to paste."""

import shlex
from typing import Any

from cli.bootstrap import KeyPair
from cli.welcome import welcome

PICTURE: dict[str, Any] = {
    "endpoint": "http://127.0.0.1:9000",
    "survives": "any 2 zones",
    "metadata_survives": "nothing: metadata lives on one disk",
    "problems": [],
}
KEY = KeyPair("A'KEY $x", 'sec"ret `y`')


def test_lines_can_be_pasted_whatever_the_key() -> None:
    text = welcome(PICTURE, (4, 2), "us-east-1", KEY)
    export = next(line for line in text.splitlines() if "export AWS_ACCESS_KEY_ID" in line)
    assert shlex.split(export) == [
        "export", f"AWS_ACCESS_KEY_ID={KEY.access_key}", f"AWS_SECRET_ACCESS_KEY={KEY.secret_key}",
    ]  # fmt: skip
    call = text[text.index("boto3.client(") : text.index("rclone:")].strip()
    given: dict[str, str] = {}

    class Boto3:
        @staticmethod
        def client(service: str, **options: str) -> None:
            given.update(options)

    eval(call, {"boto3": Boto3})
    assert given["aws_secret_access_key"] == KEY.secret_key
    assert given["endpoint_url"] == PICTURE["endpoint"]
    rclone = text[text.index("rclone config") :].replace("\\\n", "")
    assert f"secret_access_key={KEY.secret_key}" in shlex.split(rclone)


def test_what_it_survives_is_told_for_data_and_metadata() -> None:
    text = welcome(PICTURE, (4, 2), "us-east-1", KEY)
    assert "4+2 erasure-coded; survives the loss of any 2 zones" in text
    assert "metadata    survives the loss of nothing: metadata lives on one disk" in text


def test_problems_are_not_hidden() -> None:
    text = welcome(PICTURE | {"problems": ["zone-2: node-2 does not answer"]}, (4, 2), "x", KEY)
    assert "! zone-2: node-2 does not answer" in text


def test_without_a_key_there_are_no_lines_to_paste() -> None:
    text = welcome(PICTURE, (1, 0), "us-east-1", None)
    assert "secret" not in text and "boto3" not in text
