"""Runs a Python driver as a module, since workers know its tasks by that name: `drive.py MODULE VERB COUNT`."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    module = sys.argv.pop(1)
    importlib.import_module(module).drive()
