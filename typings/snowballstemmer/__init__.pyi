# snowballstemmer 3.1

class EnglishStemmer:
    def stemWord(self, word: str) -> str: ...
