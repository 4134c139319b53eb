//! Makers of CSV: dialects, line ends, headers, bad records, other formats, caps.

use std::fmt::Write as _;

use crate::support::gzip;

use super::makers;
use super::runner::SECRET;

/// A file of the four columns of `staff`.
fn rows(lines: &str) -> String {
    format!("id,name,amount,born\n{lines}")
}

/// One good row, and bytes in the name of the next.
fn name(bytes: &[u8]) -> Vec<u8> {
    [rows("1,a,1.5,2020-01-01\n2,").as_bytes(), SECRET.as_bytes(), bytes, b",1.5,2020-01-01\n"].concat()
}

/// Ten thousand rows, and a quote opened in the tenth.
fn unterminated() -> String {
    (1..=10_000).fold(rows(""), |mut text, n| {
        let quote = if n == 10 { "\"" } else { "" };
        writeln!(text, "{},{quote}Name,1.5,2020-01-01", 5000 + n).expect("memory takes it");
        text
    })
}

/// A hundred thousand times one text, with commas between.
fn wide(text: impl Fn(usize) -> String) -> String {
    (0..100_000).map(text).collect::<Vec<_>>().join(",")
}

/// Bytes that are no text, always the same.
fn garbage() -> Vec<u8> {
    let mut state: u64 = 42;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    (0..4096).map(|_| next() | 0x80).collect()
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

/// A file of one column and so many bytes.
fn sized(bytes: usize) -> String {
    format!("a\n{}\n", "x".repeat(bytes - 3))
}

/// A header, and a record of so many bytes with its line end.
fn record(bytes: usize) -> String {
    sized(bytes + 2)
}

/// The same without the line end, which counts all the same.
fn open_record(bytes: usize) -> String {
    format!("a\n{}", "x".repeat(bytes - 1))
}

/// The same as the header itself.
fn first_record(bytes: usize) -> String {
    format!("{}\n1\n", "x".repeat(bytes - 1))
}

makers! {
    comma => "1,a\n2,b\n",
    semicolon => "1;a,b\n2;\n",
    tab => "1\ta b\n2\tc\n",
    pipe => "1|a\n",
    single_quote => "1,'a,''b'\n2,\"c\n",
    escape => "1,\"a\\\"b\"\n2,\"c\\\\d\"\n",
    quotes_as_data => "1,\"a\n\"2\",b\"\n",
    lone_quote_as_data => "1,a\n2,\"",
    header_in_another_order => "b,a\nx,1\n",
    header_quoted => "\"a\",\" b \"\n1,x\n",
    doubled_quotes => "1,\"say \"\"hi\"\"\"\n",
    line_ends_in_quotes => "1,\"a\nb\"\n2,\"c\r\nd\"\n3,\",\"\n",
    quoted_empty => "1,\"\"\n",
    blanks_around => " 1 , a \n",
    only_commas => "1,a\n,\n",
    copy_traps => "\\.,\\N\n\\,a\\tb\n",
    copy_end_alone => "a,b\n\\.\n",
    comment => "#1,a\n",
    unicode => "ünï,😀\n",
    json_value => "1,\"{\"\"k\"\": [1, 2]}\"\n",

    crlf => "1,a\r\n2,b\r\n",
    cr => "1,a\r2,b\r",
    mixed_line_ends => "1,a\r\n2,b\n3,c\r4,d",
    no_final_line_end => "1,a\n2,b",
    no_final_line_end_quoted => "1,a\n2,\"b\"",
    no_final_line_end_empty_field => "1,a\n2,",
    no_final_line_feed => "1,a\r\n2,b\r",
    quoted_then_crlf => "1,\"b\"\r\n",
    blank_lines => "\n\n1,a\n\n\r\n2,b\n\n\n",

    bom => "\u{feff}1,a\n",
    bom_header => "\u{feff}a,b\r\n1,x\r\n",
    bom_quoted => "\u{feff}\"1\",a\n",
    bom_alone => "\u{feff}",
    empty => "",
    empty_with_header => "",
    header_only => "a,b\n",
    header_only_no_final => "a,b",
    only_blank_lines => "\n\r\n\n",

    ragged_short => rows("1,a,1.5,2020-01-01\n2,S3CRET,1.5\n"),
    ragged_long => rows("1,\"a\nb\",1.5,2020-01-01\n2,b,1.5,2020-01-01,S3CRET\n"),
    int_of_letters => rows("S3CRET,a,1.5,2020-01-01\n"),
    int_out_of_range => rows("1,a,1.5,2020-01-01\n3000000000,a,1.5,2020-01-01\n"),
    date_of_letters => rows("1,a,1.5,2020-01-01\n2,b,1.5,S3CRET\n"),
    numeric_of_letters => rows("1,a,S3CRET,2020-01-01\n"),
    null_where_none_may_be => rows("1,a,1.5,2020-01-01\n2,,1.5,2020-01-01\n"),
    header_within => rows("1,a,1.5,2020-01-01\nid,name,amount,born\n"),
    nul_byte => name(b"\0"),
    latin1 => name(b"\xe9"),
    surrogate => name(b"\xed\xa0\x80"),
    overlong => name(b"\xc0\xaf"),
    beyond_unicode => name(b"\xf4\x90\x80\x80"),
    unfinished_character => name(b"\xe2\x82"),

    quote_never_closed => unterminated(),
    quote_open_at_the_end => "1,a\n2,\"",
    quote_alone => "\"",
    quote_alone_in_line => "1,a\n\"",
    quote_doubled_at_the_end => "1,\"a\"\"",
    quote_open_before_line_end => "1,\"a\n",
    quote_doubled_before_line_end => "1,\"a\"\"\n",
    quote_open_gz => gzip(b"1,a\n2,\""),
    text_after_quote => "1,a\n\"S3CRET\"y,b\n",
    text_after_quoted_line_end => "1,\"a\nb\"\r\n2,\"S3CRET\" ,b\n",
    text_after_quote_header => rows("1,a,1.5,2020-01-01\n2,\"S3CRET\"x,1.5,2020-01-01\n"),
    quote_in_text => "1,a\n2,S3CRET 5\" pipe\n",
    quote_in_header => "id,na\"me\n1,S3CRET\n",
    quote_after_blank => "1, \"S3CRET, b\"\n",
    quote_closed_by_the_next => "1,\"S3CRET\n2,\"b\"\n3,c\n",
    quote_closed_far_away => format!("1,\"S3CRET\n{}2,\"b\"\n", "3,c\n".repeat(50_000)),
    doubled_where_escaped => "1,\"a\"\"S3CRET\"\n",
    unescaped_where_escaped => "1,\"a\\\\\"S3CRET\"\n",

    header_forgets => "id,amount\n1,2\n",
    header_unknown => "id,name,amount,born,shoe_size\n1,a,1,2020-01-01,S3CRET\n",
    header_twice => "id,name,id\n1,S3CRET,1\n",
    header_empty_name => "id,name,\n1,S3CRET,1\n",
    header_case => "ID,NAME\n1,S3CRET\n",
    header_other_delimiter => "id;name\n1;S3CRET\n",
    header_injection => "id,name,\"born\"\"; DROP TABLE staff; --\"\n1,a,b\n",
    header_injection_first => "\"id\"\"; DROP TABLE staff; --\",\"a\"\",b\"\n1,a\n",
    header_long => format!("id,name,{}\n", "x".repeat(100_000)),
    header_200_bytes => format!("id,name,{}\n1,a,b\n", "n".repeat(200)),
    header_nul => "id,name,bo\0rn\n1,a,b\n",
    header_escape_sequence => "id,name,\u{1b}[31mborn\n1,a,b\n",
    header_wide => wide(|n| format!("c{n}")) + "\n",
    record_wide => format!("{}{}\n", rows("1,a,"), wide(|_| "x".to_owned())),
    bytes_at_random => garbage(),
    no_header_too_many => "1,2,3\n",
    no_header_two_delimiters => "1;2\n",

    parquet => b"PAR1\x15\x04\x15PAR1",
    avro => b"Obj\x01\x04\x14avro.codec",
    orc => b"ORC\x11\0\0",
    pdf => b"%PDF-1.7\n%\xe2\xe3\n",
    html => "<!DOCTYPE html><html><body>login</body>",
    html_bare => "<HTML>\n<p>S3CRET</p>",
    xml => "<?xml version=\"1.0\"?><Error/>",
    xlsx => b"PK\x03\x04\x14\0\x08\x08\x08\0",
    elf => b"\x7fELF\x02\x01\x01",
    json => "{\"id\": 1,\n \"name\": \"S3CRET\"}\n",
    json_array => "[\n{\"id\": 1}\n]\n",
    json_lines => "{\"id\": 1}\n{\"id\": 2}\n",
    utf16_marked => utf16("\u{feff}id,name\n1,x\n", u16::to_le_bytes),
    utf16_big_endian => utf16("\u{feff}id,name\n1,x\n", u16::to_be_bytes),
    utf16_bare => utf16("id,name\n1,x\n", u16::to_le_bytes),

    utf16_rows => utf16("\u{feff}a,b\n1,ä😀\n2,\"x\ny\"\n", u16::to_le_bytes),
    utf16_rows_big_endian => utf16("\u{feff}a,b\n1,x\n", u16::to_be_bytes),
    utf16_rows_bare => utf16("a,b\n1,x\n", u16::to_le_bytes),
    utf16_odd => [utf16("a,b\n1,x\n", u16::to_le_bytes), vec![b'y']].concat(),
    utf16_half => [utf16("a,b\n1,x\n", u16::to_le_bytes), vec![0, 0xdc, b'y', 0]].concat(),
    utf8_marked => "\u{feff}a,b\n1,é\n",
    latin1_rows => b"a,b\n1,caf\xe9 \x80\n",
    windows_rows => b"a,b\n1,caf\xe9 \x80\n",
    header_not_utf8 => b"a,b\xe9\n1,x\n",
    comments => "# \"who\na,b\n#1,a\n2,#b\n",
    comments_cr => "# \"who\ra,b\r#1,a\r2,b\r",
    blank_records => "a,b\n1,x\n,\n \n,,,\n2,y\n",
    only_blank_records => ",\n  \n",
    short_records => "a,b\n1,x\n2\n3,y\n",
    short_and_long_records => "a,b\n1,x\n2\n3,y,S3CRET\n4,z\n",
    misplaced_quotes => "a,b\n1,x\n\"S3CRET\"y,b\n2,y\n3,S3CRET 5\" pipe\n4,z\n",
    misplaced_quote_uncertain => "a,b\n1,x\n2,\"S3CRET\n3,\"b\"\n4,z\n",
    cells_not_utf8 => b"a,b\n1,x\n2,\xe9\n3,\xed\xa0\x80\n4,y\n",
    ragged_both => "a,b\n1,x\n2\n3,y,S3CRET\n4,z\n",
    ints_of_all_kinds => rows("31,a,1.5,2020-01-01\n9223372036854775808,b,1,2020-01-01\n1e3,c,1,2020-01-01\n 42 ,d,1,2020-01-01\n٤٢,e,1,2020-01-01\n32,f,NaN,2020-01-01\n33,g,1,2020-01-01\n"),
    names_in_other_spelling => "ID,Name,AMOUNT\n34,a,1\n",
    names_that_two_have => "I-D,i d,name\n1,1,S3CRET\n",

    server_overflow => rows("1,a,1.5,2020-01-01\n2,b,98765.25,2020-01-01\n"),
    server_unique => rows("21,a,1.5,2020-01-01\n22,b,1.5,2020-01-01\n21,S3CRET,1.5,2020-01-01\n"),
    server_check => rows("666,S3CRET,1.5,2020-01-01\n"),

    bytes_999 => sized(999),
    bytes_1000 => sized(1000),
    bytes_1001 => sized(1001),
    bytes_1000_gz => gzip(sized(1000).as_bytes()),
    bytes_1001_gz => gzip(sized(1001).as_bytes()),
    record_299_999 => record(299_999),
    record_300_000 => record(300_000),
    record_300_001 => record(300_001),
    open_record_300_000 => open_record(300_000),
    open_record_300_001 => open_record(300_001),
    first_record_300_000 => first_record(300_000),
    first_record_300_001 => first_record(300_001),
    fields_3 => "a,b,c\n1,2,3\n",
    fields_4 => "a,b,c,d\n1,2,3,4\n",
}
