from typing import Any

class XMLSyntaxError(SyntaxError):
    code: int

class XMLParser:
    def __init__(
        self,
        *,
        recover: bool = ...,
        resolve_entities: bool = ...,
        load_dtd: bool = ...,
        no_network: bool = ...,
        huge_tree: bool = ...,
        remove_comments: bool = ...,
        remove_pis: bool = ...,
    ) -> None: ...

def fromstring(text: bytes, parser: XMLParser) -> Any: ...
