"""Reads XML that somebody else has made: without external files, entities and document types, and of bounded depth.

Damaged XML is read up to the damage.
"""

from __future__ import annotations

from typing import Any, Final

from lxml import etree

Element = Any
"""An element of lxml."""
NO_MEMORY: Final = 2
"""libxml2's XML_ERR_NO_MEMORY."""


class BadXml(ValueError):
    """Nothing of it can be read, or it declares a document type."""


def parsed(content: bytes) -> tuple[Element, str]:
    """The root element, and what is wrong with the XML (empty: nothing). Raises BadXml, MemoryError."""
    try:
        root, damage = etree.fromstring(content, _parser(recover=False)), ""
    except etree.XMLSyntaxError as error:
        if not error.lineno or error.code == NO_MEMORY:  # libxml2 tells a full memory like this.
            raise MemoryError from error
        root, damage = _recovered(content), str(error)
    if root is None:
        raise BadXml(f"its XML is damaged: {damage}")
    if root.getroottree().docinfo.internalDTD is not None:
        raise BadXml("it declares a document type")
    return root, damage


def local(element: Element) -> str:
    """An element's name without its namespace; empty for an entity."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: Element, name: str) -> str:
    """An attribute by its local name; empty if there is none."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def _recovered(content: bytes) -> Element:
    try:
        return etree.fromstring(content, _parser(recover=True))
    except etree.XMLSyntaxError:
        return None


def _parser(*, recover: bool) -> etree.XMLParser:
    return etree.XMLParser(
        recover=recover,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
