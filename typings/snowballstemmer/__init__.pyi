# snowballstemmer 3.1

from typing import Protocol

class _Stemmer(Protocol):
    def stemWords(self, words: list[str]) -> list[str]: ...

def stemmer(lang: str) -> _Stemmer: ...
