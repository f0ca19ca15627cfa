"""From a file to passages: its kind, its text, its pieces. A process of its own reads the file, which may be hostile.

runner    starts `python -m app.services.documents.extraction` and limits it: memory, CPU, time, output
kinds     detects the kind of a file by its content, and compares it with the claimed kind
pdf, docx, html, plain    one reader per kind
text      the normal form of every text
splitting splits a text into passages
errors    the named errors of extraction
"""
