"""`laneway ingest` with files of every kind."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.files import pdf, word
from tests.fixtures.shell import Shell


def test_files_of_every_kind_are_ingested_and_the_bad_one_is_named(laneway: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, content in {
        "a.pdf": pdf("Bells."),
        "b.docx": word(["Brakes."]),
        "c.html": b"<p>Chains.",
        "d.md": b"# Dynamo\n\n" + b"The dynamo is fine. " * 9 + b"\xff",
        "e.bin": b"x",
        "broken.pdf": pdf("Bells.")[:100],
    }.items():
        (folder / name).write_bytes(content)

    ran = laneway("ingest", str(folder))

    assert ran.code == 1
    assert [line.split(":")[0] for line in ran.out.splitlines()] == ["a.pdf", "b.docx", "c.html", "d.md"]
    assert "'broken.pdf': it is broken" in ran.err
    assert "d.md: a character is broken" in ran.err
    assert laneway("ingest", str(folder / "a.pdf")).out.strip() == "a.pdf: 1 passage (unchanged)"
