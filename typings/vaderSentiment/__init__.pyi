# vaderSentiment 3.3
