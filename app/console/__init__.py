"""The application's pages in the web console: what its tasks do for customers.

Who may read a page is who may read the same data through the API.
"""
