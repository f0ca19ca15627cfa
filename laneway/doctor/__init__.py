"""`laneway doctor`: looks for what is set up wrongly or does not work, and says why it matters and what to do.

A part (`parts.py`) collects the facts of one area, such as the server. The rules of the area are pure functions over
these facts. So a rule is tested without a server, and an area that cannot be reached hides no other.
"""
