"""What the documentation site adds to the pages in docs/: the reference, which is generated from the code."""
