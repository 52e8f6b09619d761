"""What a started cluster tells its user: where it is, what it survives, lines to paste."""

import shlex
from typing import Any

from cli.bootstrap import KeyPair


def welcome(
    picture: dict[str, Any], geometry: tuple[int, int], region: str, key: KeyPair | None
) -> str:
    """The text. picture: as `ostraka status` gives it; geometry: k and m; key: None, no lines."""
    k, m = geometry
    lines = [f"Ostraka is up at {picture['endpoint']}", f"  region      {region}"]
    if key is not None:
        lines += [f"  access key  {key.access_key}", f"  secret key  {key.secret_key}"]
    lines += [
        f"  data        {k}+{m} erasure-coded; survives the loss of {picture['survives']}",
        f"  metadata    survives the loss of {picture['metadata_survives']}",
    ]
    lines += [f"  ! {problem}" for problem in picture["problems"]]
    if key is not None:
        lines.append(_snippets(picture["endpoint"], region, key))
    return "\n".join(lines)


def _snippets(endpoint: str, region: str, key: KeyPair) -> str:
    access_key, secret_key = shlex.quote(key.access_key), shlex.quote(key.secret_key)
    return f"""
aws CLI:
  export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key}
  export AWS_DEFAULT_REGION={region} AWS_ENDPOINT_URL={endpoint}
  alias aws='aws --endpoint-url {endpoint}'   # older than 2.13, which does not know the variable
  aws s3 mb s3://first && aws s3 cp FILE s3://first/
boto3:
  boto3.client("s3", endpoint_url={endpoint!r}, region_name={region!r},
               aws_access_key_id={key.access_key!r}, aws_secret_access_key={key.secret_key!r})
rclone:
  rclone config create ostraka s3 provider=Other endpoint={endpoint} region={region} \\
    access_key_id={access_key} secret_access_key={secret_key}"""
