# nltk 3.10
