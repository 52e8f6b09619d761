"""Every S3 operation, against botocore as the oracle.

Requests: random parameters, serialised by botocore, must route to their operation and decode to
what went in. Answers: random results, encoded by us, must parse back through botocore.
"""

import io
import random
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from botocore.awsrequest import HeadersDict
from botocore.handlers import parse_get_bucket_location
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from gateway.s3.address import decode_path, parse_query
from gateway.s3.codec import OPERATIONS_BY_NAME, ROUTER
from gateway.s3.shape import Shape
from gateway.s3.text import format_http
from tools.generate_model import SUPERSEDED, snake

ROUNDS = 12
# The raw model: botocore's loader would turn Expires, a free text on the wire, into a timestamp.
LOADER = Loader(include_default_extras=False)
MODEL = ServiceModel(LOADER.load_service_model("s3", "service-2"), "s3")
SERIALIZER = create_serializer("rest-xml", False)
PARSER = create_parser("rest-xml")
NAMES = sorted(set(MODEL.operation_names) - SUPERSEDED)
# Required by our router to tell it from ListBuckets, whose path it shares.
ALWAYS = {"MaxDirectoryBuckets"}


class Maker:
    """Random values of botocore shapes."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def make(self, shape: Any, in_header: bool = False) -> Any:
        match shape.type_name:
            case "structure":
                return self._structure(shape)
            case "list":
                count = self._random.randint(1, 3)
                return [self.make(shape.member, in_header) for _ in range(count)]
            case "map":
                return {"first": "value 1", "second-name": "value 2"}
            case "string":
                return self._string(shape, in_header)
            case "integer" | "long":
                return self._random.randint(0, 10**6)
            case "boolean":
                return self._random.random() < 0.5
            case "timestamp":
                return datetime(2026, 1, self._random.randint(1, 28), 3, 4, 5, tzinfo=UTC)
            case "blob":
                return b"blob data"
        raise AssertionError(shape.type_name)

    def _structure(self, shape: Any) -> dict[str, Any]:
        members = shape.members
        if shape.is_tagged_union:
            name = self._random.choice(list(members))
            return {name: self.make(members[name])}
        return {
            name: self.make(member, member.serialization.get("location") in ("header", "headers"))
            for name, member in members.items()
            if name in shape.required_members or name in ALWAYS or self._random.random() < 0.7
        }

    def _string(self, shape: Any, in_header: bool) -> str:
        if shape.enum:
            return self._random.choice(shape.enum)
        alphabet = "abc xyz=/+" if in_header else "abc<>&é\"' ]/+%"
        return "v" + "".join(self._random.choices(alphabet, k=6)) + "z"


def plain(value: Any, keeps_names: bool = False) -> Any:
    """Shapes and botocore's dictionaries as comparable dictionaries of our names.

    Empty structures, lists and texts are dropped: on the wire they are nothing, or nearly.
    """
    if isinstance(value, Shape):
        members = {name: plain(item, name == "metadata") for name, item in value.present().items()}
    elif isinstance(value, dict):
        members = {
            name if keeps_names else snake(name): plain(item, name == "Metadata")
            for name, item in value.items()
        }
    elif isinstance(value, list):
        return [plain(item) for item in value]
    else:
        return value.read() if hasattr(value, "read") else value
    return {name: item for name, item in members.items() if item not in ("", b"", None, {}, [])}


def shaped(kind: Any, value: Any) -> Any:
    """Our shapes, from botocore's dictionaries."""
    if isinstance(value, list):
        return [shaped(kind, item) for item in value]
    if isinstance(kind, type) and issubclass(kind, Shape):
        return kind(
            **{
                snake(name): shaped(kind.wire_fields[snake(name)].value_type, item)
                for name, item in value.items()
            }
        )
    return value


def request_parts(serialised: dict[str, Any]) -> tuple[str, str, dict[str, str], dict[str, str]]:
    path, _, marks = serialised["url_path"].partition("?")
    query = dict(parse_qsl(marks, keep_blank_values=True))
    query |= {name: str(value) for name, value in serialised["query_string"].items()}
    bucket, _, key = path.removeprefix("/").partition("/")
    headers = {name.lower(): str(value) for name, value in serialised["headers"].items()}
    return decode_path(bucket), decode_path(key), query, headers


@pytest.mark.parametrize("name", NAMES)
def test_requests_decode_to_what_botocore_sent(name: str) -> None:
    model = MODEL.operation_model(name)
    for round_number in range(ROUNDS):
        maker = Maker(f"{name} {round_number}")
        sent = maker.make(model.input_shape)
        if "Bucket" in sent:
            sent["Bucket"] = "my-bucket"
        if "Key" in sent:
            sent["Key"] = "a/b c/é+%"
        if "RequestRoute" in sent:  # a part of a host name
            sent["RequestRoute"] = "route-1"
        serialised = SERIALIZER.serialize_to_request(sent, model)
        bucket, key, query, headers = request_parts(serialised)
        level = "object" if key else "bucket" if bucket else "service"
        operation = ROUTER.match(serialised["method"], level, query, headers)
        assert operation is not None and operation.name == name, f"routed to {operation}"
        body = serialised["body"]
        if isinstance(body, str):
            body = body.encode()
        got = operation.decode(bucket, key, query, headers, body or None)
        if "ResponseExpires" in sent:  # a timestamp for botocore, free text on the wire
            sent["ResponseExpires"] = format_http(sent["ResponseExpires"])
        assert plain(got) == plain(sent), f"round {round_number}"


@pytest.mark.parametrize("name", [n for n in NAMES if MODEL.operation_model(n).output_shape])
def test_answers_parse_back_through_botocore(name: str) -> None:
    model = MODEL.operation_model(name)
    if model.has_event_stream_output:
        pytest.skip("an event stream is framed by the handler, not by the codec")
    operation = OPERATIONS_BY_NAME[name]
    for round_number in range(ROUNDS):
        result = Maker(f"{name} {round_number}").make(model.output_shape)
        _, headers, body = operation.encode(shaped(operation.response, result))
        answer = {
            "headers": HeadersDict(headers),
            "status_code": 200,
            "body": io.BytesIO(body) if model.has_streaming_output else body,
        }
        parsed = PARSER.parse(answer, model.output_shape)
        parsed.pop("ResponseMetadata", None)
        if name == "GetBucketLocation":  # a bare text document: botocore reads it in a hook
            parse_get_bucket_location(parsed, SimpleNamespace(raw=b"", content=body))
        assert plain(parsed) == plain(result), f"round {round_number}"


def test_every_operation_of_the_model_is_known() -> None:
    known = set(OPERATIONS_BY_NAME)
    assert known >= set(NAMES)
    assert known - set(NAMES) == {"OptionsObject", "PostObject"}


def test_queries_of_real_urls_decode() -> None:
    assert re.search("%", "prefix=a%2Fb+c%2B")
    assert parse_query("prefix=a%2Fb+c%2B&acl") == {"prefix": "a/b c+", "acl": ""}
