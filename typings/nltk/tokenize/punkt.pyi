# nltk 3.10

from typing import Any

class PunktParameters:
    abbrev_types: set[str]

class PunktSentenceTokenizer:
    def __init__(
        self,
        train_text: str | PunktParameters | None = None,
        verbose: bool = False,
        lang_vars: Any = None,
        token_cls: Any = ...,
    ) -> None: ...
    def tokenize(self, text: str, realign_boundaries: bool = True) -> list[str]: ...
