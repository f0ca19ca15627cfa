"""The web console; its pages come with a later release."""
