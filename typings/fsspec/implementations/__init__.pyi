# fsspec 2026.9
