# nltk 3.10

class PunktParameters:
    abbrev_types: set[str]

class PunktSentenceTokenizer:
    def __init__(self, train_text: str | PunktParameters | None = None) -> None: ...
    def tokenize(self, text: str, realign_boundaries: bool = True) -> list[str]: ...
