"""Turns a file into passages. A separate process reads the file, because the file may be hostile.

runner    starts `python -m app.services.documents.extraction` and limits it: memory, CPU, time, output
kinds     detects the kind of a file by its content, and compares it with the claimed kind
pdf, docx, html, plain    one reader per kind
pdf_forms, word_package, word_text, hostile_xml, encodings    their parts
text      the normal form of every text
splitting splits a text into passages
errors    the named errors of extraction
"""
