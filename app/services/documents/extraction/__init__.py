"""From a file to passages: what kind it is, its text, its pieces; hostile files are read in a process of their own.

runner    starts `python -m app.services.documents.extraction` and bounds it: memory, CPU, time, output
kinds     which kind a file is, by its content; and whether that is what it is said to be
pdf, docx, html, plain    one reader a kind
text      one normal form for every text
splitting passages of a text
errors    the names of what can go wrong
"""
