"""Wire shapes: a class per S3 structure, a field per member; the field says where it travels.

The classes in model/ are generated from the public service model; codec.py and xml.py compile
them into readers and writers once, at start. Absent members read as None and take no space.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Literal, dataclass_transform, get_args, get_origin


class Place(Enum):
    """Where a member travels."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    HEADER_PREFIX = "header prefix"  # all headers of one prefix: user metadata
    STATUS = "status"
    BODY = "body"  # the whole body: one XML document, one text, or a stream of bytes
    ELEMENT = "element"  # a child element of the shape's own
    ATTRIBUTE = "attribute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One member of a shape.

    wire      name of the header, query parameter, element or attribute; or the prefix of names
    item      element name of a wrapped list's items; empty: a flat list, or no list
    time      form of a timestamp: "http" or "iso"; empty: the form usual in that place
    enum      the values a request may name; empty: any
    """

    place: Place
    wire: str
    item: str = ""
    time: str = ""
    enum: tuple[str, ...] = ()
    is_required: bool = True
    name: str = ""
    type: Any = None  # the annotation without its None

    @property
    def is_list(self) -> bool:
        return get_origin(self.type) is list

    @property
    def value_type(self) -> Any:
        """The type of one value: of the items, for a list."""
        return get_args(self.type)[0] if self.is_list else self.type


class _Absent:
    """Marks a specifier call without `default`: the member is required."""


def _specifier(place: Place) -> Any:
    def specify(wire: str = "", *, default: Any = _Absent, **options: Any) -> Any:
        return Field(place=place, wire=wire, is_required=default is _Absent, **options)

    return specify


def in_path(wire: str, *, default: Any = _Absent) -> Any:
    """Describe a member that is a part of the path: Bucket or Key."""
    return Field(place=Place.PATH, wire=wire, is_required=default is _Absent)


def in_status(*, default: Any = _Absent) -> Any:
    """Describe the member that is the HTTP status."""
    return Field(place=Place.STATUS, wire="", is_required=default is _Absent)


def in_headers(prefix: str, *, default: Any = _Absent) -> Any:
    """Describe the member that collects all headers of one prefix."""
    return Field(place=Place.HEADER_PREFIX, wire=prefix, is_required=default is _Absent)


in_query = _specifier(Place.QUERY)
in_header = _specifier(Place.HEADER)
in_body = _specifier(Place.BODY)
in_element = _specifier(Place.ELEMENT)
in_attribute = _specifier(Place.ATTRIBUTE)


@dataclass_transform(
    kw_only_default=True,
    field_specifiers=(
        in_path, in_query, in_header, in_headers, in_status, in_body, in_element, in_attribute,
    ),
)  # fmt: skip
class Shape:
    """Base of all shapes.

    A subclass's `root` is the name of its XML document where it is one, `namespace` the
    declaration that its own attributes need.
    """

    wire_fields: ClassVar[dict[str, Field]] = {}
    wire_root: ClassVar[str] = ""
    wire_namespace: ClassVar[str] = ""

    def __init_subclass__(cls, root: str = "", namespace: str = "") -> None:
        cls.wire_root, cls.wire_namespace = root or cls.__name__, namespace
        cls.wire_fields = {}
        for name, annotation in (
            cls.__annotations__.items() if "__annotations__" in vars(cls) else ()
        ):
            specified = vars(cls)[name]
            cls.wire_fields[name] = _complete(specified, name, annotation)
            setattr(cls, name, None)

    def __init__(self, **members: Any) -> None:
        assert members.keys() <= self.wire_fields.keys(), (
            f"{type(self).__name__} has no {sorted(members.keys() - self.wire_fields.keys())}"
        )
        self.__dict__ = members

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.present() == other.present()

    def __repr__(self) -> str:
        members = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({members})"

    def present(self) -> dict[str, Any]:
        """The members that have a value."""
        return {name: value for name, value in self.__dict__.items() if value is not None}


def _complete(specified: Field, name: str, annotation: Any) -> Field:
    parts = [part for part in get_args(annotation) if part is not type(None)]
    is_optional = len(parts) < len(get_args(annotation))
    return Field(
        place=specified.place,
        wire=specified.wire,
        item=specified.item,
        time=specified.time,
        enum=specified.enum,
        is_required=specified.is_required,
        name=name,
        type=parts[0] if is_optional else annotation,
    )


def fields_at(shape: type[Shape] | None, place: Place) -> list[Field]:
    """The fields of a shape that travel in one place, in the model's order."""
    if shape is None:
        return []
    return [described for described in shape.wire_fields.values() if described.place is place]


Level = Literal["service", "bucket", "object"]


@dataclass(frozen=True, slots=True)
class OperationModel:
    """One row of the generated operation table.

    marks         query parameters that name the operation: {"uploads": ""}; "*" is any value,
                  another value must be equal
    checksum      whether an XML body may or must come with a checksum
    content_type  what the Content-Type must begin with, where it tells operations apart
    """

    name: str
    method: str
    level: Level
    status: int
    request: type[Shape]
    response: type[Shape] | None = None
    marks: dict[str, str] = field(default_factory=dict)
    checksum: Literal["", "optional", "required"] = ""
    takes_any_query: bool = False
    content_type: str = ""


SCALARS = (str, int, bool, datetime)
