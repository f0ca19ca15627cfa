"""PDFs: what can be read is read; pages, forms and characters that cannot are named."""

from __future__ import annotations

import pytest

from app.services.documents.extraction import errors
from tests.fixtures.files import pdf, pdf_of
from tests.fixtures.reading import read_here

WAIT = (
    "Please wait... If this message is not eventually replaced by the proper contents of the document, "
    "your PDF viewer may not be able to display this type of document."
)

CUT = "BT /F1 12 Tf 72 700 Td (it ends within its text Tj ET"


def stream(content: str, more: str = "") -> str:
    return f"<< /Length {len(content)} {more}>>\nstream\n{content}\nendstream"


def pages(*contents: str, catalog: str = "", page: str = "", objects: tuple[str, ...] = ()) -> bytes:
    """A PDF of pages with these texts, or with operators that begin with `BT`; `objects` begin at number 50."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(contents)))
    made = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, content in enumerate(contents):
        made.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            f"/Resources << /Font << /F1 3 0 R >> /XObject << >> >> /Contents {5 + 2 * number} 0 R {page} >>"
        )
        shown = content if content.startswith("BT") else f"BT /F1 12 Tf 72 700 Td ({content}) Tj ET" if content else ""
        made.append(stream(shown))
    made += ["null"] * (49 - len(made))
    return pdf_of([*made, *objects])


def test_a_damaged_page_costs_only_itself_and_is_named() -> None:
    found = read_here("a.pdf", pages("Page one.", CUT, "Page three."))

    assert found.text == "Page one.\n\nPage three."
    assert found.problems == ["page 2 cannot be read: Stream has ended unexpectedly"]


def test_a_document_of_damaged_pages_is_corrupt() -> None:
    with pytest.raises(errors.DocumentCorrupt, match="ended unexpectedly"):
        read_here("a.pdf", pages(CUT, CUT))


def test_a_part_that_a_page_lacks_is_named() -> None:
    content = "BT /F1 12 Tf 72 700 Td (Page one.) Tj ET /Fm1 Do"
    form = stream(CUT, "/Type /XObject /Subtype /Form /Resources << /Font << /F1 3 0 R >> >> ")
    page = pages(content, objects=(form,)).replace(b"/XObject << >>", b"/XObject << /Fm1 50 0 R >>")

    found = read_here("a.pdf", page)
    assert found.text == "Page one."
    (problem,) = found.problems
    assert problem.startswith("page 1 may lack text: Impossible to decode XFormObject /Fm1")


def test_a_page_that_is_a_picture_among_others_is_named() -> None:
    found = read_here("a.pdf", pages("Page one.", "", "").replace(b"/XObject << >>", b"/XObject <<1>>"))
    assert found.text == "Page one."

    scanned = pages("Page one.", "", "").replace(b"/XObject << >>", b"/XObject << /I 3 0 R >>")
    assert read_here("a.pdf", scanned).problems == ["pictures without text, which need OCR: page 2, 3"]
    assert read_here("a.pdf", pages("Page one.", "")).problems == []


THREE = pages("One.", "Two.", "Three.")


@pytest.mark.parametrize("kid", [b"99 0 R", b"null", b"3 0 R"])
def test_a_page_that_cannot_be_found_is_named(kid: bytes) -> None:
    found = read_here("a.pdf", THREE.replace(b"/Kids [4 0 R 6 0 R", b"/Kids [4 0 R " + kid))

    assert found.text == "One.\n\nThree."
    assert found.problems == ["it states 3 pages, but only 2 can be found"]


@pytest.mark.parametrize(
    ("end", "text"), [(b"xref\n0", "One.\n\nTwo.\n\nThree."), (b"(Three.)", "One.\n\nTwo."), (b"(Two.)", "One.")]
)
def test_a_file_that_is_cut_is_read_up_to_its_end(end: bytes, text: str) -> None:
    found = read_here("a.pdf", THREE[: THREE.index(end)])

    assert found.text == text
    assert found.problems[0] == "its end is missing, and pages or their order may be missing with it"


def test_a_page_without_its_content_is_named() -> None:
    found = read_here("a.pdf", THREE.replace(b"/Contents 7 0 R", b"/Contents 9 9 R"))

    assert found.text == "One.\n\nThree."
    assert found.problems == ["page 2 may lack text: Object 9 9 not defined."]


def test_a_page_whose_font_tells_no_characters_is_left_out_and_named() -> None:
    two = pages("One.", "Two.").replace(
        b"/F1 3 0 R >> /XObject << >> >> /Contents 7", b"/F1 9 9 R >> /XObject << >> >> /Contents 7"
    )

    found = read_here("a.pdf", two)
    assert found.text == "One."
    assert "page 2 has characters that its font does not tell" in found.problems


def test_a_file_with_lines_before_its_header_is_read() -> None:
    assert read_here("a.pdf", b"HTTP/1.1 200 OK\r\n\r\n" + THREE).text == "One.\n\nTwo.\n\nThree."


@pytest.mark.parametrize("root", [b"/Root 1 0 R", b"/Root 9 0 R", b"/Root (x)"])
def test_a_trailer_without_a_usable_root_is_read(root: bytes) -> None:
    content = pdf("Eleven years.").replace(b"/Root 1 0 R", root if root != b"/Root 1 0 R" else b"/Roof 1 0 R")

    assert read_here("a.pdf", content).text == "Eleven years."


FIELDS = (
    "<< /FT /Tx /T (tenant) /TU (Name of the tenant) /V (Maja Lind) >>",
    "<< /FT /Tx /T (empty) >>",
    "<< /FT /Btn /T (insured) /V /Yes >>",
    "<< /FT /Btn /T (pets) /V /Off >>",
    "<< /FT /Ch /T (colours) /V [(teal) (red)] >>",
    "<< /FT /Tx /T (pin) /Ff 8192 /V (4711) >>",
    "<< /T (address) /Kids [57 0 R] >>",
    "<< /FT /Tx /T (city) /Parent 56 0 R /V <FEFF0141F3647A> >>",
)


def test_the_values_of_a_filled_form_are_read_under_the_names_that_people_see() -> None:
    fields = " ".join(f"{50 + number} 0 R" for number in range(7))
    found = read_here("a.pdf", pages("Form", catalog=f"/AcroForm << /Fields [{fields}] >>", objects=FIELDS))

    assert found.text.startswith(
        "Form\n\n- Name of the tenant: Maja Lind\n- insured: Yes\n- colours: teal, red\n- address.city: "
    )
    assert "4711" not in found.text
    assert found.problems == []


def test_a_form_that_is_broken_is_named() -> None:
    found = read_here("a.pdf", pages("Form", catalog="/AcroForm << /Fields 50 0 R >>", objects=("(no list)",)))

    assert found.text == "Form"
    assert [problem for problem in found.problems if not problem.startswith("its form fields")] == []


def test_a_remark_that_was_typed_onto_a_page_is_read() -> None:
    remark = "<< /Type /Annot /Subtype /FreeText /Contents (Paid on 3 May.) /Rect [0 0 9 9] >>"

    assert (
        read_here("a.pdf", pages("Bill", page="/Annots [50 0 R]", objects=(remark,))).text == "Bill\n\nPaid on 3 May."
    )


XFA = """<xdp:xdp xmlns:xdp="http://ns.adobe.com/xdp/"><template xmlns="t"><subform name="form1">
<draw><value><text>The notice period is six weeks.</text></value></draw>
<subform presence="hidden"><draw><value><text>Never shown.</text></value></draw></subform>
<field name="pin"><ui><passwordEdit/></ui></field>
<field name="tenant"><caption><value><text>Tenant:</text></value></caption></field>
<field name="rent"><value><text>412</text></value></field><field name="none"/></subform></template>
<xfa:datasets xmlns:xfa="x"><xfa:data><form1>
<tenant>Maja Lind</tenant><pin>4711</pin><deposit>900</deposit></form1></xfa:data>
</xfa:datasets></xdp:xdp>"""
XFA_TEXT = "The notice period is six weeks.\n\nTenant: Maja Lind\n\nrent: 412\n\ndeposit: 900"


@pytest.mark.parametrize("needs_rendering", ["/NeedsRendering true", ""])
def test_a_dynamic_form_is_read_from_its_packet_and_not_from_its_page(needs_rendering: str) -> None:
    catalog = f"/AcroForm << /Fields [] /XFA 50 0 R >> {needs_rendering}"

    assert read_here("a.pdf", pages(WAIT, catalog=catalog, objects=(stream(XFA),))).text == XFA_TEXT


def test_a_packet_in_several_streams_is_one_text() -> None:
    half = len(XFA) // 2
    catalog = "/AcroForm << /Fields [] /XFA [(a) 50 0 R (b) 51 0 R] >>"

    assert (
        read_here("a.pdf", pages(WAIT, catalog=catalog, objects=(stream(XFA[:half]), stream(XFA[half:])))).text
        == XFA_TEXT
    )


@pytest.mark.parametrize(
    ("catalog", "packet"),
    [
        ("/AcroForm << /Fields [] /XFA 50 0 R >>", "<xdp><template/></xdp>"),
        ("/AcroForm << /Fields [] /XFA 50 0 R >>", "\0\1\2"),
        ("/AcroForm << /Fields [] /XFA 50 0 R >>", '<!DOCTYPE x [<!ENTITY a "b">]><xdp><template/></xdp>'),
        ("/AcroForm << /Fields [] /XFA (text) >>", ""),
        ("", ""),
    ],
)
def test_the_placeholder_of_a_form_is_never_read(catalog: str, packet: str) -> None:
    with pytest.raises(errors.DocumentWithoutText, match="an XFA form, which only Adobe Reader shows"):
        read_here("a.pdf", pages(WAIT, catalog=catalog, objects=(stream(packet),)))


def test_a_static_form_is_read_from_its_pages_and_fields() -> None:
    catalog = "/AcroForm << /Fields [51 0 R] /XFA 50 0 R >>"
    field = "<< /FT /Tx /T (tenant) /V (Maja Lind) >>"

    assert read_here("a.pdf", pages("Lease.", catalog=catalog, objects=(stream(XFA), field))).text == (
        "Lease.\n\n- tenant: Maja Lind"
    )
    without = pages("Lease.", catalog="/AcroForm << /Fields [] /XFA 50 0 R >>", objects=(stream(XFA),))
    assert set(read_here("a.pdf", without).text.split("\n\n")) == {"Lease.", *XFA_TEXT.split("\n\n")}


def test_ligatures_become_letters() -> None:
    unicode_map = (
        "1 begincodespacerange <00> <ff> endcodespacerange 1 beginbfchar <01> <FB01> endbfchar "
        "1 beginbfrange <20> <7e> <0020> endbfrange"
    )
    font = "<< /Type /Font /Subtype /TrueType /BaseFont /Foo /ToUnicode 50 0 R >>"
    content = pages("The certi\x01cate.", objects=(stream(f"begincmap {unicode_map} endcmap"), font))

    assert read_here("a.pdf", content.replace(b"/F1 3 0 R", b"/F1 51 0 R")).text == "The certificate."


def test_titles_that_programs_write_are_no_titles() -> None:
    assert read_here("offer.pdf", pdf("x", title="Microsoft Word - draft")).title == "offer"
    assert read_here("offer.pdf", pdf("x", title="Certi\\336cate")).title != "offer"
