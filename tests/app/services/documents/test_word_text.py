"""Every word of a Word file is read, wherever it stands; a part that cannot be read is named."""

from __future__ import annotations

import pytest

from app.services.documents.extraction import errors
from tests.fixtures.files import archive, package, paragraph, part
from tests.fixtures.reading import read_here

RUN = "<w:r><w:t>{}</w:t></w:r>"
STYLES = part(
    "styles",
    '<w:style w:type="paragraph" w:styleId="b1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="own"><w:name w:val="Kapitel"/><w:basedOn w:val="b1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="deep"><w:name w:val="Deep"/>'
    '<w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>'
    '<w:style w:styleId="round"><w:name w:val="R"/><w:basedOn w:val="round"/></w:style>',
)


def text_of(body: str) -> str:
    return read_here("a.docx", package(body)).text


@pytest.mark.parametrize(
    "wrapped",
    [
        '<w:fldSimple w:instr=" DOCPROPERTY State ">{}</w:fldSimple>',
        '<w:bdo w:val="ltr">{}</w:bdo>',
        '<w:dir w:val="rtl">{}</w:dir>',
        '<w:hyperlink w:anchor="a">{}</w:hyperlink>',
        "<w:smartTag><w:smartTagPr/>{}</w:smartTag>",
        "<w:sdt><w:sdtPr/><w:sdtContent>{}</w:sdtContent></w:sdt>",
        "<w:ins>{}</w:ins>",
        "<w:moveTo>{}</w:moveTo>",
        "<w:ruby-like>{}</w:ruby-like>",
        '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>REF x</w:instrText></w:r>'
        '<w:r><w:fldChar w:fldCharType="separate"/></w:r>{}<w:r><w:fldChar w:fldCharType="end"/></w:r>',
    ],
)
def test_a_word_within_a_sentence_is_read_in_every_container(wrapped: str) -> None:
    body = paragraph("It lasts ", wrapped.format(RUN.format("eleven")), " years.")

    assert text_of(body) == "It lasts eleven years."


def test_what_a_reader_does_not_see_is_left_out() -> None:
    hidden = "<w:r><w:rPr><w:vanish/></w:rPr><w:t>secret</w:t></w:r>"
    shown = '<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>not secret</w:t></w:r>'
    prompt = (
        f"<w:sdt><w:sdtPr><w:showingPlcHdr/></w:sdtPr><w:sdtContent>{RUN.format('Click here')}</w:sdtContent></w:sdt>"
    )
    gone = f"<w:moveFrom>{RUN.format('moved')}</w:moveFrom><w:del><w:r><w:delText>old</w:delText></w:r></w:del>"

    assert text_of(paragraph("This is ", hidden, shown, prompt, gone, ".")) == "This is not secret."


def test_special_characters_and_chosen_entries_are_read() -> None:
    choice = (
        '<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:ddList><w:result w:val="1"/><w:listEntry w:val="red"/>'
        '<w:listEntry w:val="teal"/></w:ddList></w:ffData></w:fldChar></w:r>'
    )
    marks = "<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:noBreakHyphen/><w:t>c</w:t><w:softHyphen/><w:t>d</w:t>"
    marks += '<w:sym w:font="Arial" w:char="20AC"/><w:sym w:font="Wingdings" w:char="F0FC"/><w:sym w:char="x"/></w:r>'

    assert text_of(paragraph("Colour: ", choice, "; ", marks)) == "Colour: teal; a\tb-cd€"


def test_the_paragraphs_of_a_drawing_are_lines() -> None:
    drawing = "<w:drawing><a:p xmlns:a='a'><a:t>One</a:t></a:p><a:p xmlns:a='a'><a:t>Two</a:t></a:p></w:drawing>"

    assert text_of(paragraph("Steps: ", f"<w:r>{drawing}</w:r>")) == "Steps: One\nTwo"


def test_notes_stand_at_their_paragraph_and_text_boxes_after_it() -> None:
    box = "<w:txbxContent>" + paragraph("Callout: 17 crowns.") + "</w:txbxContent>"
    shape = (
        f'<mc:AlternateContent xmlns:mc="m"><mc:Choice><w:drawing>{box}</w:drawing></mc:Choice>'
        f"<mc:Fallback><w:pict>{box}</w:pict></mc:Fallback></mc:AlternateContent>"
    )
    reference = '<w:r><w:{}Reference w:id="{}"/></w:r>'
    body = (
        paragraph("It is returned.", reference.format("footnote", 2), reference.format("footnote", 2))
        + paragraph("Second", reference.format("endnote", 1), shape)
        + paragraph("Third", reference.format("footnote", 9))
    )
    notes = (
        f'<w:footnote w:type="separator" w:id="0">{paragraph("---")}</w:footnote>'
        f'<w:footnote w:id="2">{paragraph("Within 14 days", reference.format("footnote", 2))}</w:footnote>'
        f'<w:footnote w:id="3">{paragraph("Never referred to.")}</w:footnote>'
    )
    found = read_here(
        "a.docx",
        package(
            body,
            related=[("footnotes", "footnotes.xml"), ("endnotes", "/word/endnotes.xml")],
            parts={
                "word/footnotes.xml": part("footnotes", notes),
                "word/endnotes.xml": part("endnotes", f'<w:endnote w:id="1">{paragraph("An end.")}</w:endnote>'),
            },
        ),
    )

    assert found.text == (
        "It is returned. (Within 14 days)\n\nSecond (An end.)\n\nCallout: 17 crowns.\n\nThird\n\nNever referred to."
    )
    assert found.problems == ["a footnote is missing"]


def test_headers_footers_and_diagrams_are_read_once_at_the_end() -> None:
    diagram = '<x xmlns:a="a"><a:p><a:t>Order</a:t></a:p><a:p><a:t>Ship</a:t></a:p></x>'
    related = [("header", "h1.xml"), ("header", "h2.xml"), ("footer", "f.xml"), ("diagramData", "diagrams/d.xml")]
    parts = {
        "word/h1.xml": part("hdr", paragraph("Northmark Rental")),
        "word/h2.xml": part("hdr", paragraph("Northmark Rental")),
        "word/f.xml": part("ftr", paragraph("Call 555-0170.")),
        "word/diagrams/d.xml": diagram,
    }

    assert read_here("a.docx", package(paragraph("Body."), related=related, parts=parts)).text == (
        "Body.\n\nNorthmark Rental\n\nCall 555-0170.\n\nOrder\nShip"
    )


def test_headings_and_lists_are_known_by_style_base_and_outline() -> None:
    body = (
        paragraph('<w:pPr><w:pStyle w:val="own"/></w:pPr>', "One")
        + paragraph('<w:pPr><w:pStyle w:val="deep"/></w:pPr>', "Two")
        + paragraph('<w:pPr><w:outlineLvl w:val="1"/></w:pPr>', "Three")
        + paragraph('<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>', "item")
        + paragraph('<w:pPr><w:pStyle w:val="round"/></w:pPr>', "plain")
    )
    found = read_here("a.docx", package(body, related=[("styles", "styles.xml")], parts={"word/styles.xml": STYLES}))

    assert found.text == "# One\n\n### Two\n\n## Three\n\n- item\n\nplain"
    assert found.title == "One"


def test_a_table_with_merged_cells_deleted_rows_and_controls_is_read() -> None:
    cell = "<w:tc><w:tcPr>{}</w:tcPr>{}</w:tc>"
    continued = cell.format("<w:vMerge/>", "<w:p/>")
    rows = (
        f"<w:tr>{continued}{cell.format('', paragraph('A'))}</w:tr>"
        f"<w:tr>{continued}<w:sdt><w:sdtContent>{cell.format('', paragraph('B'))}</w:sdtContent></w:sdt></w:tr>"
        f"<w:tr><w:trPr><w:del/></w:trPr>{cell.format('', paragraph('gone'))}</w:tr>"
        f"<w:ins><w:tr>{cell.format('', paragraph('C') + paragraph('D'))}</w:tr></w:ins>"
    )

    assert text_of(f"<w:tbl><w:tblPr/>{rows}</w:tbl>") == "A\n\nB\n\nC D"


@pytest.mark.parametrize("name", ["word/document2.xml", "Word/Body.xml", "body.xml"])
def test_the_body_is_found_by_its_relationship(name: str) -> None:
    assert read_here("a.docx", package(paragraph("Eleven years."), name=name)).text == "Eleven years."


def test_the_body_is_found_without_relationships_too() -> None:
    body = part("document", f"<w:body>{paragraph('Eleven years.')}</w:body>").encode()
    types = b'<Types><Override PartName="/word/text.xml" ContentType="application/vnd.x.document.main+xml"/></Types>'

    assert read_here("a.docx", archive(**{"word/document.xml": body})).text == "Eleven years."
    assert read_here("a.docx", archive(**{"word/text.xml": body, "[Content_Types].xml": types})).text == "Eleven years."
    with pytest.raises(errors.UnsupportedDocument):
        read_here("a.docx", package("").replace(b"document", b"workbook"))


def test_a_strict_file_is_read() -> None:
    note = '<w:r><w:footnoteReference w:id="1"/></w:r>'
    notes = f'<w:footnotes xmlns:w="urn:x"><w:footnote w:id="1">{paragraph("Note.")}</w:footnote></w:footnotes>'
    content = package(
        paragraph("Strict.", note),
        strict=True,
        title="Own title",
        related=[("footnotes", "footnotes.xml")],
        parts={"word/footnotes.xml": notes},
    )

    found = read_here("a.docx", content)
    assert (found.title, found.text) == ("Own title", "Strict. (Note.)")


def test_a_relationship_to_nothing_costs_nothing() -> None:
    content = package(paragraph("Seven years."), related=[("image", "NULL"), ("image", "../../../etc/passwd")])

    found = read_here("a.docx", content)
    assert (found.text, found.problems) == ("Seven years.", [])


def test_a_part_that_cannot_be_read_costs_only_itself_and_is_named() -> None:
    related = [("footnotes", "gone.xml"), ("styles", "styles.xml"), ("header", "h.xml"), ("footer", "f.xml")]
    parts = {
        "word/styles.xml": b"\0\1\2",
        "word/h.xml": part("hdr", paragraph("Top") + "<w:p><w:r><w:t>cut"),
        "word/f.xml": '<!DOCTYPE x [<!ENTITY a "b">]>' + part("ftr", paragraph("&a;")),
    }
    body = paragraph("Body.") + '<w:altChunk r:id="r1" xmlns:r="r"/>'
    found = read_here("a.docx", package(body, related=related, parts=parts))

    assert found.text == "Body.\n\nTop\n\ncut"
    styles, notes, embedded, header, footer = found.problems
    assert styles.startswith("its styles cannot be read, so that headings look like text: its XML is damaged")
    assert notes == "its footnotes cannot be read: it is missing"
    assert embedded == "an embedded document within it was not read"
    assert header.startswith("a header cannot be read completely: ")
    assert footer == "a footer cannot be read: it declares a document type"


def test_a_damaged_body_is_read_up_to_the_damage() -> None:
    misnested = package(paragraph("First.") + paragraph("Second.").replace("</w:p>", "</w:q>"))
    whole = package("".join(paragraph(f"Sentence {number}.") for number in range(999)))
    found = [read_here("a.docx", misnested), read_here("a.docx", whole.replace(b"tence 900", b"tence ~~~"))]

    assert found[0].text == "First.\n\nSecond."
    assert "Sentence 800." in found[1].text
    for one in found:
        (problem,) = one.problems
        assert problem.startswith("its body is damaged")


@pytest.mark.parametrize("stated", ["", "Word Document", "Microsoft Word - draft3.docx", "Untitled", "Document1"])
def test_a_file_without_a_title_of_its_own_has_its_first_heading_or_its_name(stated: str) -> None:
    heading = paragraph('<w:pPr><w:outlineLvl w:val="0"/></w:pPr>', "Rental terms")

    assert read_here("a/offer.docx", package(paragraph("x") + heading, title=stated)).title == "Rental terms"
    assert read_here("a/offer.docx", package(paragraph("x"), title=stated)).title == "offer"
    assert read_here("a/offer.docx", package(heading, title="Word documents in use")).title == "Word documents in use"
