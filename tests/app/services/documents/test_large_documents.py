"""Files of 190 MB: the memory of the worker and of the process that reads them."""

from __future__ import annotations

import io
import os
import re
import resource
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.settings import DocumentSettings
from app.services.documents.extraction.errors import TextTooLarge
from app.services.documents.extraction.kinds import claimed_kind
from app.services.documents.extraction.reading import Limits
from app.services.documents.extraction.runner import Extracted, extract
from app.services.integrations.storage import make_storage
from laneway.platform.settings import ChildSettings
from tests.fixtures import files

MB = 1024 * 1024
SIZE = 190 * MB
TEXT = "Bells ring on every bicycle."
pytestmark = pytest.mark.timeout(120)


def pdf_with_a_picture(path: Path) -> None:
    mark = "PICTURE"
    small = files.pdf_of(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 5 0 R "
            "/Resources << /Font << /F1 3 0 R >> /XObject << /I 6 0 R >> >> >>",
            f"<< /Length 75 >>\nstream\n{f'BT /F1 11 Tf 50 780 Td ({TEXT}) Tj ET /I Do':75}\nendstream",
            "<< /Type /XObject /Subtype /Image /Width 8000 /Height 8301 /ColorSpace /DeviceRGB /BitsPerComponent 8 "
            f"/Length {SIZE} >>\nstream\n{mark}\nendstream",
        ]
    )
    before, after = small.split(mark.encode())
    start = int(re.findall(rb"startxref\n(\d+)", after)[0])
    after = after.replace(b"startxref\n%d" % start, b"startxref\n%d" % (start + SIZE - len(mark)))
    with path.open("wb") as file:
        file.write(before)
        for _ in range(SIZE // MB):
            file.write(os.urandom(MB))
        file.write(after)


def word_with_a_picture(path: Path) -> None:
    relation = (
        b'<Relationship Id="rIdX" Target="media/i.png" Type="http://schemas.openxmlformats.org/officeDocument'
        b'/2006/relationships/image"/></Relationships>'
    )
    with zipfile.ZipFile(io.BytesIO(files.word([TEXT]))) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "word/_rels/document.xml.rels":
                content = content.replace(b"</Relationships>", relation)
            if name == "[Content_Types].xml" and b'"png"' not in content:
                kind = b'<Default Extension="png" ContentType="image/png"/></Types>'
                content = content.replace(b"</Types>", kind)
            new.writestr(name, content)
        with new.open("word/media/i.png", "w", force_zip64=True) as picture:
            for _ in range(SIZE // MB):
                picture.write(os.urandom(MB))


def endless_text(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(SIZE // MB):
            file.write(b"Some words of a text. \n" * (MB // 23))


def read(path: Path, *, memory: int) -> Extracted:
    """Fetch and read a file as the worker does, in a process with this limit of memory (address space)."""
    limits = Limits(file_bytes=200 * MB, text_bytes=10 * MB, pages=5000, seconds=60, memory_bytes=memory)
    with tempfile.TemporaryFile(dir=path.parent) as file:
        storage = make_storage(DocumentSettings.model_validate({"storage_url": str(path.parent)}), data_dir=path.parent)
        storage.fetch(path.name, file, max_bytes=200 * MB, progress=lambda _done, _of: None)
        return extract(
            file,
            name=path.name,
            claimed=claimed_kind(None, path.name),
            limits=limits,
            folder=path.parent,
            report=lambda _percent, _message: None,
            children=ChildSettings(),
        )


@pytest.mark.parametrize(
    ("name", "make", "memory"), [("a.pdf", pdf_with_a_picture, 256 * MB), ("a.docx", word_with_a_picture, 512 * MB)]
)
def test_a_file_of_190_mb_is_read_in_bounded_memory(
    tmp_path: Path, name: str, make: Callable[[Path], None], memory: int
) -> None:
    make(tmp_path / name)
    before = _peak()

    assert read(tmp_path / name, memory=memory).passages == [TEXT]
    assert _peak() - before < 20, "of the worker"


def test_a_text_of_190_mb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    endless_text(tmp_path / "a.txt")
    before = _peak()

    with pytest.raises(TextTooLarge):
        read(tmp_path / "a.txt", memory=256 * MB)

    assert _peak() - before < 20


def _peak() -> float:
    """The peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
