"""What the application knows of English: words, sentences, sentiment and key phrases. Nothing here needs a network."""
