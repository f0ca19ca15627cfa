# flower 2.2

from typing import Any

handlers: list[Any]
