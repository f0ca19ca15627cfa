# rake-nltk 1.0

from collections.abc import Callable
from enum import Enum

class Metric(Enum):
    DEGREE_TO_FREQUENCY_RATIO = 0
    WORD_DEGREE = 1
    WORD_FREQUENCY = 2

class Rake:
    def __init__(
        self,
        stopwords: set[str] | None = None,
        punctuations: set[str] | None = None,
        language: str = "english",
        ranking_metric: Metric = ...,
        max_length: int = 100000,
        min_length: int = 1,
        include_repeated_phrases: bool = True,
        sentence_tokenizer: Callable[[str], list[str]] | None = None,
        word_tokenizer: Callable[[str], list[str]] | None = None,
    ) -> None: ...
    def extract_keywords_from_sentences(self, sentences: list[str]) -> None: ...
    def get_ranked_phrases_with_scores(self) -> list[tuple[float, str]]: ...
