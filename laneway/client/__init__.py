"""Client and AsyncClient over HTTP; they come with a later release."""
