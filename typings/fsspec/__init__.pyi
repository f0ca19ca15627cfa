# fsspec 2026.9

from fsspec.spec import AbstractFileSystem as AbstractFileSystem
