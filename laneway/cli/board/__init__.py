"""`laneway top`: the overview of a platform in a terminal.

`pages.py` reads what a view shows and turns it into rows; `app.py` shows rows and takes keys. Only `app.py` and the
screens import Textual, so that the pages are tested without a terminal.
"""
