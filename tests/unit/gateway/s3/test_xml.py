"""XML bodies: what is refused while parsing, and what survives writing.

Method: hand-written documents through the operations that read them.
"""

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.limits import XML_BYTES_MAX
from gateway.s3 import errors
from gateway.s3.codec import OPERATIONS_BY_NAME
from gateway.s3.model.listing import ListObjectsV2Output, Object
from gateway.s3.model.object import DeletedObject, DeleteObjectsOutput

DELETE = OPERATIONS_BY_NAME["DeleteObjects"]
QUERY = {"delete": ""}


def decode_delete(body: bytes | str) -> Any:
    raw = body.encode() if isinstance(body, str) else body
    return DELETE.decode("bucket", "", QUERY, {}, raw).delete


def test_a_plain_document_is_read() -> None:
    read = decode_delete(
        '<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">\n'
        "  <Object><Key>a&amp;b</Key></Object><Object><Key/><VersionId>v</VersionId></Object>\n"
        "  <Quiet>true</Quiet></Delete>"
    )
    assert [item.key for item in read.objects] == ["a&b", ""]
    assert read.objects[1].version_id == "v"
    assert read.quiet is True


@pytest.mark.parametrize(
    "opening",
    ["<Delete>", '<s:Delete xmlns:s="http://other/">', '<?xml version="1.0"?><Delete xmlns="">'],
)
def test_namespaces_are_not_compared(opening: str) -> None:
    prefix = "s:" if "s:" in opening else ""
    body = f"{opening}<Object><Key>k</Key></Object></{prefix}Delete>"
    assert decode_delete(body).objects[0].key == "k"


@pytest.mark.parametrize(
    "body",
    [
        "not xml",
        "<Delete>",
        "<Delete></Other>",
        "<Other><Object><Key>k</Key></Object></Other>",
        "<Delete><Object><Key>k</Key></Object><Unknown/></Delete>",
        "<Delete><Object><Key>k<b/></Key></Object></Delete>",
        "<Delete><Object><Key>k</Key><Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key></Object>text</Delete>",
        "<Delete><Object><VersionId>v</VersionId></Object></Delete>",
        "<Delete><Quiet>true</Quiet></Delete>",
        "<Delete/>",
        "<Delete><Object><Key>k</Key></Object><Quiet>perhaps</Quiet></Delete>",
        "<Delete><Object><Key>k</Key><Size>1_0</Size></Object></Delete>",
        "<Delete><Object><Key>k</Key><Size>99999999999999999999</Size></Object></Delete>",
        "<Delete><Object><Key>k</Key><LastModifiedTime>then</LastModifiedTime></Object></Delete>",
        '<?xml version="1.0" encoding="no-such"?><Delete/>',
        "<Delete><Object><Key>&undefined;</Key></Object></Delete>",
        "<Delete><Object><Key>&#x1;</Key></Object></Delete>",
    ],
)
def test_what_is_not_the_schema_is_malformed(body: str) -> None:
    with pytest.raises(errors.MalformedXML):
        decode_delete(body)


def test_an_unknown_enumeration_value_is_malformed() -> None:
    operation = OPERATIONS_BY_NAME["PutBucketVersioning"]
    body = b"<VersioningConfiguration><Status>enabled</Status></VersioningConfiguration>"
    with pytest.raises(errors.MalformedXML):
        operation.decode("bucket", "", {"versioning": ""}, {}, body)


def test_invalid_utf8_is_malformed() -> None:
    with pytest.raises(errors.MalformedXML):
        decode_delete(b"<Delete><Object><Key>\xff</Key></Object></Delete>")


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE Delete [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE Delete SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE Delete [<!ENTITY % p SYSTEM "http://localhost/x.dtd"> %p;]>',
        "<!DOCTYPE Delete>",
    ],
)
def test_a_document_type_is_refused(doctype: str) -> None:
    body = f"{doctype}<Delete><Object><Key>&b;</Key></Object></Delete>"
    with pytest.raises(errors.MalformedXML, match="document type"):
        decode_delete(body)


def test_deep_nesting_ends_at_the_first_element_that_is_not_known() -> None:
    with pytest.raises(errors.MalformedXML) as caught:
        decode_delete("<Delete>" + "<a>" * 100_000)
    assert caught.value.details["Element"] == "a"


def test_a_body_over_the_limit_is_not_parsed() -> None:
    with pytest.raises(errors.MaxMessageLengthExceeded):
        decode_delete(b" " * (XML_BYTES_MAX + 1))


def test_an_absent_body_that_is_required() -> None:
    with pytest.raises(errors.MissingRequestBodyError):
        decode_delete(b"")


def test_grantee_type_is_an_attribute() -> None:
    operation = OPERATIONS_BY_NAME["PutBucketAcl"]
    body = (
        '<AccessControlPolicy><AccessControlList><Grant><Grantee xsi:type="CanonicalUser" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><ID>i</ID></Grantee>'
        "<Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>"
    )
    read = operation.decode("bucket", "", {"acl": ""}, {}, body.encode())
    assert read.access_control_policy.grants[0].grantee.type == "CanonicalUser"
    without = body.replace(' xsi:type="CanonicalUser"', "").encode()
    with pytest.raises(errors.MalformedXML):
        operation.decode("bucket", "", {"acl": ""}, {}, without)


PRINTABLE = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\r\n\t<>&\"'")
)


@given(st.lists(PRINTABLE, max_size=5))
def test_written_keys_parse_back(keys: list[str]) -> None:
    result = ListObjectsV2Output(name="bucket", contents=[Object(key=key) for key in keys])
    _, headers, body = OPERATIONS_BY_NAME["ListObjectsV2"].encode(result)
    assert headers == {"content-type": "application/xml"}
    found = ElementTree.fromstring(body).iterfind("{*}Contents/{*}Key")
    assert [element.text or "" for element in found] == keys


def test_characters_without_a_form_become_references() -> None:
    result = DeleteObjectsOutput(deleted=[DeletedObject(key="a\x01\x00\x1f\ufffe\udcff")])
    _, _, body = OPERATIONS_BY_NAME["DeleteObjects"].encode(result)
    assert b"<Key>a&#x1;&#x0;&#x1f;&#xfffe;\xef\xbf\xbd</Key>" in body


TAGS = ["<Delete>", "</Delete>", "<Object>", "</Object>", "<Key>", "</Key>", "<Quiet/>", "<a:b/>"]
OTHERS = ["k", "<!--c-->", "<![CDATA[x]]>", "<?p?>", "&lt;", "&#x1;", "<!DOCTYPE>", "='", "\x00"]
PIECES = st.sampled_from(TAGS + OTHERS)


@given(st.lists(PIECES, max_size=12).map("".join) | st.binary(max_size=60))
def test_no_body_breaks_the_parser(body: str | bytes) -> None:
    try:
        decode_delete(body or b" ")
    except errors.S3Error as error:
        assert error.status == 400
