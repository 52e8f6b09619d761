"""XML bodies: shapes compiled once into readers and writers.

Reading follows the shape while expat parses, so an element that the shape does not have ends the
parse at once: nothing is built that was not asked for, nesting is bounded by the shapes, and
memory by XML_BYTES_MAX. A document type declaration, and with it every entity, is refused.
Namespaces are not compared: S3's own has several spellings among clients, and some send none.
"""

from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from common.limits import XML_BYTES_MAX, XML_DEPTH_MAX
from gateway.s3 import text
from gateway.s3.errors import MalformedXML, MaxMessageLengthExceeded
from gateway.s3.markup import DECLARATION, NAMESPACE, escape, escape_attribute
from gateway.s3.shape import Field, Place, Shape, fields_at

Write = Callable[[Any], str]

ROOT_NAMESPACE = f'xmlns="{NAMESPACE}"'


# --- reading ----------------------------------------------------------------------------------


class ElementReader:
    """How to read one element: its children, or the text of a scalar; made once per shape.

    children  name to (member, reader, is repeated); None for a scalar
    shape     what to build of the children; None for a wrapped list
    """

    __slots__ = ("attributes", "children", "convert", "depth", "required", "shape")

    def __init__(
        self,
        children: dict[str, tuple[str, "ElementReader", bool]] | None,
        shape: type[Shape] | None = None,
        convert: text.Read = str,
    ) -> None:
        self.children = children
        self.shape = shape
        self.convert = convert
        fields = shape.wire_fields.values() if shape else ()
        self.required = [
            field.name
            for field in fields
            if field.is_required and field.place in (Place.ELEMENT, Place.ATTRIBUTE)
        ]
        self.attributes = {
            field.wire.rpartition(":")[2]: (field.name, _scalar_reader(field).convert)
            for field in fields
            if field.place is Place.ATTRIBUTE
        }
        self.depth: int = 1 + max(
            (child.depth for _, child, _ in (children or {}).values()), default=0
        )
        assert self.depth < XML_DEPTH_MAX, f"{shape} nests deeper than XML_DEPTH_MAX"


def shape_reader(shape: type[Shape]) -> ElementReader:
    """The reader of a shape's element."""
    children = {
        field.wire: (field.name, _field_reader(field), field.is_list and not field.item)
        for field in fields_at(shape, Place.ELEMENT)
    }
    return ElementReader(children, shape)


def _field_reader(field: Field) -> ElementReader:
    kind = field.value_type
    read = shape_reader(kind) if issubclass(kind, Shape) else _scalar_reader(field)
    if field.is_list and field.item:
        return ElementReader({field.item: ("", read, True)})
    return read


def _scalar_reader(field: Field) -> ElementReader:
    convert = text.reader(field.value_type, field.time or "iso")
    return ElementReader(None, convert=text.one_of(field.enum, convert) if field.enum else convert)


class _Parse:
    """One document being read: expat's handlers and the elements now open."""

    __slots__ = ("_open", "_reader", "_texts", "_value", "result")

    def __init__(self, root: str, reader: ElementReader) -> None:
        self.result: Any = None
        self._open: list[tuple[ElementReader, Any, str, bool]] = []
        self._reader = ElementReader({root: ("", reader, False)})
        self._value: Any = {}
        self._texts: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        reader, name = self._reader, tag.rpartition(":")[2]
        known = reader.children.get(name) if reader.children is not None else None
        if known is None:
            raise MalformedXML(Element=name)
        member, child, repeats = known
        self._open.append((reader, self._value, member, repeats))
        self._reader = child
        self._texts.clear()
        if child.children is not None:
            self._value = {} if child.shape else []
            if child.attributes:
                self._read_attributes(child, attributes)

    def _read_attributes(self, reader: ElementReader, attributes: dict[str, str]) -> None:
        for tag, value in attributes.items():
            known = reader.attributes.get(tag.rpartition(":")[2])
            if known:
                self._value[known[0]] = known[1](value)

    def end(self, tag: str) -> None:
        reader, value = self._reader, self._value
        if reader.children is None:
            value = reader.convert("".join(self._texts))
            self._texts.clear()
        elif reader.shape is not None:
            for name in reader.required:
                if name not in value:
                    raise MalformedXML(Element=reader.shape.wire_fields[name].wire)
            members, value = value, object.__new__(reader.shape)
            value.__dict__ = members
        self._reader, self._value, member, repeats = self._open.pop()
        if not self._open:
            self.result = value
        elif not repeats:
            if member in self._value:
                raise MalformedXML(Element=tag)
            self._value[member] = value
        elif member:
            self._value.setdefault(member, []).append(value)
        else:
            self._value.append(value)

    def characters(self, data: str) -> None:
        if self._reader.children is None:
            self._texts.append(data)
        elif not data.isspace():
            raise MalformedXML


def _refuse_doctype(*_: object) -> None:
    raise MalformedXML("A document type declaration is not allowed")


def parse(root: str, reader: ElementReader, body: bytes) -> Any:
    """Read a document whose root element is called `root`.

    raises  MalformedXML, MaxMessageLengthExceeded
    """
    if len(body) > XML_BYTES_MAX:
        raise MaxMessageLengthExceeded(MaxMessageLengthBytes=XML_BYTES_MAX)
    document = _Parse(root, reader)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = document.start
    parser.EndElementHandler = document.end
    parser.CharacterDataHandler = document.characters
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise MalformedXML from error
    return document.result


# --- writing ----------------------------------------------------------------------------------


def shape_writer(shape: type[Shape], tag: str, namespace: str = "") -> Write:
    """The writer of a shape as an element called `tag`."""
    opening = " ".join(part for part in (f"<{tag}", namespace, shape.wire_namespace) if part)
    closing = f"</{tag}>"
    attributes = [(field.name, field.wire) for field in fields_at(shape, Place.ATTRIBUTE)]
    elements = [(field.name, _field_writer(field)) for field in fields_at(shape, Place.ELEMENT)]

    def write_children(value: Shape) -> str:
        get = value.__dict__.get
        return "".join(
            [write(member) for name, write in elements if (member := get(name)) is not None]
        )

    def write_plain(value: Shape) -> str:
        return f"{opening}>{write_children(value)}{closing}"

    def write_with_attributes(value: Shape) -> str:
        get = value.__dict__.get
        written = "".join(
            f' {wire}="{escape_attribute(member)}"'
            for name, wire in attributes
            if (member := get(name)) is not None
        )
        return f"{opening}{written}>{write_children(value)}{closing}"

    return write_with_attributes if attributes else write_plain


def _field_writer(field: Field) -> Write:
    kind = field.value_type
    tag = field.item if field.is_list and field.item else field.wire
    write = shape_writer(kind, tag) if issubclass(kind, Shape) else scalar_writer(tag, field)
    if not field.is_list:
        return write
    opening, closing = (f"<{field.wire}>", f"</{field.wire}>") if field.item else ("", "")
    return lambda values: opening + "".join([write(value) for value in values]) + closing


def scalar_writer(tag: str, field: Field, namespace: str = "") -> Write:
    """The writer of a scalar as an element called `tag`."""
    opening, closing = f"<{tag} {namespace}>" if namespace else f"<{tag}>", f"</{tag}>"
    kind = field.value_type
    if kind is str:
        return lambda value: f"{opening}{escape(value)}{closing}"
    convert = text.writer(kind, field.time or "iso")
    return lambda value: f"{opening}{convert(value)}{closing}"


def dump(write: Write, value: Any) -> bytes:
    """Write a whole document."""
    return f"{DECLARATION}{write(value)}".encode()
