"""Generate gateway/s3/model from the S3 service model of botocore; `--check` only compares.

The version is pinned in tools/botocore_model.py.

Each structure becomes a class, in the module of its area: the earliest of AREAS that uses it, so
that modules import only from earlier ones. What the model gets wrong about the wire, or leaves
out, is corrected here in one place: the tables below.
"""

import keyword
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.botocore_model import VERSION, s3_model

TARGET = Path("gateway/s3/model")
LINE_MAX = 100

AREAS: dict[str, re.Pattern[str]] = {
    "access": re.compile(
        r"Acl$|Policy|PublicAccess|OwnershipControls|Session$|Abac$|RequestPayment|Cors|^OptionsObject"
    ),
    "listing": re.compile(
        r"^ListObject|^ListBuckets$|^ListDirectoryBuckets$|^ListMultipartUploads$|^ListParts$"
    ),
    "bucket": re.compile(
        r"^(Create|Delete|Head)Bucket$|BucketLocation$|BucketTagging$|BucketVersioning$|BucketEncryption$"
    ),
    "configuration": re.compile(
        r"(Put|Get|Delete|Create|Update)\w*Bucket\w+|ListBucket\w+|LockConfiguration$"
    ),
    "multipart": re.compile(r"MultipartUpload$|^UploadPart"),
    "object": re.compile(r""),
}

# Operations that the model keeps beside their new form, on the same route.
SUPERSEDED = {
    "GetBucketLifecycle",
    "GetBucketNotification",
    "PutBucketLifecycle",
    "PutBucketNotification",
}

# Root elements of answers that are not called like their shape.
ROOTS = {
    "CompleteMultipartUploadOutput": "CompleteMultipartUploadResult",
    "CreateMultipartUploadOutput": "InitiateMultipartUploadResult",
    "CreateSessionOutput": "CreateSessionResult",
    "DeleteObjectsOutput": "DeleteResult",
    "GetBucketAccelerateConfigurationOutput": "AccelerateConfiguration",
    "GetBucketAclOutput": "AccessControlPolicy",
    "GetBucketCorsOutput": "CORSConfiguration",
    "GetBucketLifecycleConfigurationOutput": "LifecycleConfiguration",
    "GetBucketLoggingOutput": "BucketLoggingStatus",
    "GetBucketRequestPaymentOutput": "RequestPaymentConfiguration",
    "GetBucketTaggingOutput": "Tagging",
    "GetBucketVersioningOutput": "VersioningConfiguration",
    "GetBucketWebsiteOutput": "WebsiteConfiguration",
    "GetObjectAclOutput": "AccessControlPolicy",
    "GetObjectAttributesOutput": "GetObjectAttributesResponse",
    "GetObjectTaggingOutput": "Tagging",
    "ListBucketAnalyticsConfigurationsOutput": "ListBucketAnalyticsConfigurationResult",
    "ListBucketInventoryConfigurationsOutput": "ListInventoryConfigurationsResult",
    "ListBucketMetricsConfigurationsOutput": "ListMetricsConfigurationsResult",
    "ListBucketsOutput": "ListAllMyBucketsResult",
    "ListDirectoryBucketsOutput": "ListAllMyDirectoryBucketsResult",
    "ListMultipartUploadsOutput": "ListMultipartUploadsResult",
    "ListObjectAnnotationsOutput": "ListObjectAnnotationsResult",
    "ListObjectVersionsOutput": "ListVersionsResult",
    "ListObjectsOutput": "ListBucketResult",
    "ListObjectsV2Output": "ListBucketResult",
    "ListPartsOutput": "ListPartsResult",
    "NotificationConfiguration": "NotificationConfiguration",
}

# The API reference's answers, where the model is silent.
STATUSES = {"PutBucketPolicy": 204, "PutBucketTagging": 204}

# A query parameter that tells operations apart that otherwise share method and path.
EXTRA_MARKS = {"ListDirectoryBuckets": "max-directory-buckets"}

# A content type that tells an operation apart.
CONTENT_TYPES = {"PostObject": "multipart/form-data"}

# Enumerations whose list is Amazon's own, or open: the handler decides.
OPEN_ENUMS = {"BucketLocationConstraint", "BucketCannedACL", "ObjectCannedACL", "Event"}

# Answers whose one member is the document itself.
WHOLE_BODY = {"GetBucketLocationOutput": "LocationConstraint"}

# Timestamps in the model that are free text on the wire: whatever is sent becomes a header.
TEXTS = {"ResponseExpires"}

# Streams that the model forgets to name as the body.
STREAMS = {"WriteGetObjectResponseRequest": "Body"}

STRING = {"shape": "BucketName"}
EXTRA_SHAPES: dict[str, Any] = {
    "PostObjectRequest": {
        "type": "structure",
        "required": ["Bucket"],
        "payload": "Body",
        "members": {
            "Bucket": {**STRING, "location": "uri", "locationName": "Bucket"},
            "ContentType": {**STRING, "location": "header", "locationName": "Content-Type"},
            "Body": {"shape": "Body"},
        },
    },
    "PostResponse": {
        "type": "structure",
        "members": {name: STRING for name in ("Location", "Bucket", "Key", "ETag")},
    },
    "PostObjectOutput": {
        "type": "structure",
        "payload": "PostResponse",
        "members": {
            "Status": {"shape": "GetObjectResponseStatusCode", "location": "statusCode"},
            "ETag": {**STRING, "location": "header", "locationName": "ETag"},
            "Location": {**STRING, "location": "header", "locationName": "Location"},
            "VersionId": {**STRING, "location": "header", "locationName": "x-amz-version-id"},
            "ServerSideEncryption": {
                **STRING,
                "location": "header",
                "locationName": "x-amz-server-side-encryption",
            },
            "PostResponse": {"shape": "PostResponse"},
        },
    },
    "OptionsObjectRequest": {
        "type": "structure",
        "members": {
            "Bucket": {**STRING, "location": "uri", "locationName": "Bucket"},
            "Key": {**STRING, "location": "uri", "locationName": "Key"},
            "Origin": {**STRING, "location": "header", "locationName": "Origin"},
            "AccessControlRequestMethod": {
                **STRING,
                "location": "header",
                "locationName": "Access-Control-Request-Method",
            },
            "AccessControlRequestHeaders": {
                **STRING,
                "location": "header",
                "locationName": "Access-Control-Request-Headers",
            },
        },
    },
}
EXTRA_OPERATIONS: dict[str, Any] = {
    "OptionsObject": {
        "http": {"method": "OPTIONS", "requestUri": "/{Bucket}/{Key+}"},
        "input": {"shape": "OptionsObjectRequest"},
    },
    "PostObject": {
        "http": {"method": "POST", "requestUri": "/{Bucket}", "responseCode": 204},
        "input": {"shape": "PostObjectRequest"},
        "output": {"shape": "PostObjectOutput"},
    },
}

WORDS = (
    ("ETag", "Etag"), ("MD5", "Md5"), ("CRC32C", "Crc32c"), ("CRC64NVME", "Crc64nvme"),
    ("CRC32", "Crc32"), ("XXHASH", "Xxhash"), ("SHA", "Sha"), ("SSECustomer", "SseCustomer"),
    ("SSEKMS", "SseKms"), ("KMS", "Kms"), ("CORS", "Cors"), ("ACL", "Acl"), ("SSES3", "SseS3"),
)  # fmt: skip


def snake(name: str) -> str:
    """The Python name of a member: ChecksumCRC32C is checksum_crc32c."""
    for word, plain in WORDS:
        name = name.replace(word, plain)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return name + "_" if keyword.iskeyword(name) else name


class Generator:
    """Turns one service model into the text of the modules."""

    def __init__(self, model: dict[str, Any]) -> None:
        self._shapes: dict[str, Any] = model["shapes"] | EXTRA_SHAPES
        self._operations: dict[str, Any] = {
            name: operation
            for name, operation in sorted((model["operations"] | EXTRA_OPERATIONS).items())
            if name not in SUPERSEDED
        }
        for shape, member in (WHOLE_BODY | STREAMS).items():
            self._shapes[shape]["payload"] = member
        for shape in TEXTS:
            self._shapes[shape] = {"type": "string"}
        self._asked = {
            shape
            for operation in self._operations.values()
            for shape in self._structures(operation["input"]["shape"])
        }
        self._area_of: dict[str, str] = {}
        for area in AREAS:
            for name, operation in self._operations.items():
                if self._area(name) == area:
                    for shape in self._used_by(operation):
                        self._area_of.setdefault(shape, area)

    def modules(self) -> Iterator[tuple[str, str]]:
        """Yield file name and text of each module."""
        yield "__init__.py", f'"""The S3 service model, as typed shapes.\n\n{HEADER}"""\n'
        for area in AREAS:
            yield f"{area}.py", self._area_module(area)
        yield "operations.py", self._operations_module()

    def _area(self, operation: str) -> str:
        return next(area for area, pattern in AREAS.items() if pattern.search(operation))

    def _used_by(self, operation: dict[str, Any]) -> Iterator[str]:
        for side in ("input", "output"):
            if side in operation:
                yield from self._structures(operation[side]["shape"])

    def _structures(self, name: str) -> Iterator[str]:
        """Yield the structures below `name` and it itself, uses before users."""
        shape = self._shapes[name]
        if shape.get("eventstream"):
            return
        for reference in shape.get("members", {}).values():
            yield from self._structures(reference["shape"])
        if shape["type"] == "list":
            yield from self._structures(shape["member"]["shape"])
        if shape["type"] == "structure":
            yield name

    def _area_module(self, area: str) -> str:
        names = [name for name, owner in self._area_of.items() if owner == area]
        classes = [self._class(name) for name in names]
        text = "\n".join(classes)
        lines = [f'"""S3 shapes: {area}.\n\n{HEADER}"""', ""]
        if re.search(r"\bdatetime\b", text):
            lines.append("from datetime import datetime")
        if re.search(r"\bAny\b", text):
            lines.append("from typing import Any")
        if len(lines) > 2:
            lines.append("")
        lines += self._imports(area, names)
        specifiers = sorted(set(re.findall(r"\b(in_\w+)\(", text)))
        lines.append(wrapped("from gateway.s3.shape import ", ["Shape", *specifiers]))
        return "\n".join(lines) + "\n\n\n" + text

    def _imports(self, area: str, names: list[str]) -> list[str]:
        foreign: dict[str, set[str]] = {}
        for name in names:
            for used in self._structures(name):
                if self._area_of[used] != area and self._is_named_by(used, names):
                    foreign.setdefault(self._area_of[used], set()).add(used)
        return [
            wrapped(f"from gateway.s3.model.{other} import ", sorted(used))
            for other, used in sorted(foreign.items())
        ]

    def _is_named_by(self, used: str, names: list[str]) -> bool:
        return any(
            used in (self._target(reference["shape"]),)
            for name in names
            for reference in self._shapes[name].get("members", {}).values()
        )

    def _target(self, name: str) -> str:
        """The structure or scalar behind any number of lists."""
        while self._shapes[name]["type"] == "list":
            name = self._shapes[name]["member"]["shape"]
        return name

    def _class(self, name: str) -> str:
        shape, options = self._shapes[name], ""
        if name in ROOTS and ROOTS[name] != name:
            options += f', root="{ROOTS[name]}"'
        namespace = shape.get("xmlNamespace")
        if isinstance(namespace, dict) and namespace.get("prefix"):
            options += f""", namespace='xmlns:{namespace["prefix"]}="{namespace["uri"]}"'"""
        lines = [f"class {name}(Shape{options}):"]
        for member, reference in shape.get("members", {}).items():
            lines.append("    " + self._member(name, member, reference))
        if not shape.get("members"):
            lines.append("    pass")
        return "\n".join(lines) + "\n\n"

    def _member(self, owner: str, member: str, reference: dict[str, Any]) -> str:
        is_required = member in self._shapes[owner].get("required", ())
        annotation = self._type(reference["shape"])
        if not is_required and annotation != "Any":
            annotation += " | None"
        specifier, arguments = self._place(owner, member, reference)
        arguments += self._options(owner, reference)
        if not is_required:
            arguments.append("default=None")
        return f"{snake(member)}: {annotation} = {specifier}({', '.join(arguments)})"

    def _type(self, name: str) -> str:
        shape = self._shapes[name]
        if shape.get("eventstream"):
            return "Any"
        match shape["type"]:
            case "structure":
                return name
            case "list":
                return f"list[{self._type(shape['member']['shape'])}]"
            case scalar:
                return {
                    "string": "str",
                    "integer": "int",
                    "long": "int",
                    "boolean": "bool",
                    "timestamp": "datetime",
                    "blob": "Any",
                    "map": "dict[str, str]",
                }[scalar]

    def _place(self, owner: str, member: str, reference: dict[str, Any]) -> tuple[str, list[str]]:
        wire = reference.get("locationName", member)
        if member == self._shapes[owner].get("payload"):
            return "in_body", [f'"{wire}"']
        match reference.get("location"):
            case "uri":
                return "in_path", [f'"{wire}"']
            case "querystring":
                return "in_query", [f'"{wire}"']
            case "header":
                return "in_header", [f'"{wire.lower()}"']
            case "headers":
                return "in_headers", [f'"{wire}"']
            case "statusCode":
                return "in_status", []
        if reference.get("xmlAttribute"):
            return "in_attribute", [f'"{wire}"']
        return "in_element", self._element(member, reference)

    def _element(self, member: str, reference: dict[str, Any]) -> list[str]:
        shape = self._shapes[reference["shape"]]
        wire = reference.get("locationName", member)
        if shape["type"] != "list":
            return [f'"{wire}"']
        item = shape["member"].get("locationName")
        if shape.get("flattened") or reference.get("flattened"):
            return [f'"{reference.get("locationName") or item or member}"']
        return [f'"{wire}"', f'item="{item or "member"}"']

    def _options(self, owner: str, reference: dict[str, Any]) -> list[str]:
        options = []
        shape = self._shapes[self._target(reference["shape"])]
        form = reference.get("timestampFormat") or shape.get("timestampFormat")
        if shape["type"] == "timestamp" and form:
            options.append(f'time="{"http" if form == "rfc822" else "iso"}"')
        if owner in self._asked and self._target(reference["shape"]) not in OPEN_ENUMS:
            values = shape.get("enum", ())
            if values:
                options.append("enum=(" + ", ".join(f'"{value}"' for value in values) + ",)")
        return options

    def _operations_module(self) -> str:
        used: dict[str, set[str]] = {}
        for operation in self._operations.values():
            for side in ("input", "output"):
                if side in operation:
                    name = operation[side]["shape"]
                    used.setdefault(self._area_of[name], set()).add(name)
        lines = [f'"""All S3 operations, and where they are addressed.\n\n{HEADER}"""', ""]
        lines += [
            wrapped(f"from gateway.s3.model.{area} import ", sorted(names))
            for area, names in sorted(used.items())
        ]
        lines += ["from gateway.s3.shape import OperationModel", "", "OPERATIONS = ("]
        lines += [self._operation(name, row) for name, row in self._operations.items()]
        return "\n".join([*lines, ")"]) + "\n"

    def _operation(self, name: str, operation: dict[str, Any]) -> str:
        path, _, query = operation["http"]["requestUri"].partition("?")
        marks = dict(part.partition("=")[::2] for part in query.split("&")) if query else {}
        if name in EXTRA_MARKS:
            marks[EXTRA_MARKS[name]] = "*"
        level = "object" if "{Key" in path else "service" if path == "/" else "bucket"
        status = STATUSES.get(name, operation["http"].get("responseCode", 200))
        row = f'"{name}", "{operation["http"]["method"]}", "{level}", {status}'
        row += f", {operation['input']['shape']}"
        if "output" in operation:
            row += f", {operation['output']['shape']}"
        if marks:
            row += ", marks={" + ", ".join(f'"{k}": "{v}"' for k, v in marks.items()) + "}"
        checksum = operation.get("httpChecksum", {})
        if "requestAlgorithmMember" in checksum:
            need = "required" if checksum.get("requestChecksumRequired") else "optional"
            row += f', checksum="{need}"'
        if operation["http"]["method"] == "OPTIONS":
            row += ", takes_any_query=True"
        if name in CONTENT_TYPES:
            row += f', content_type="{CONTENT_TYPES[name]}"'
        return f"    OperationModel({row}),"


def wrapped(opening: str, names: list[str]) -> str:
    """One import statement, in parentheses where the line would be too long."""
    line = opening + ", ".join(names)
    if len(line) <= LINE_MAX:
        return line
    return opening + "(\n" + "".join(f"    {name},\n" for name in names) + ")"


HEADER = (
    f"Generated by tools/generate_model.py from botocore {VERSION}: change it there, not here.\n"
)


def generate() -> dict[Path, str]:
    """The text of each generated file. raises NoModel"""
    return {TARGET / name: text for name, text in Generator(s3_model()).modules()}


def main() -> None:
    for path, text in generate().items():
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif path.read_text() != text:
            raise SystemExit(f"{path} is not what its model generates: run make generate")


if __name__ == "__main__":
    main()
