//! One CSV record taken apart: fields quoted as in RFC 4180, blanks around a field no part of it.
//!
//! The `csv` crate is not used because a quote that is opened by mistake makes it read the rest of the file, however
//! large, as one field; a test holds this reader against it on files without mistakes.

use std::borrow::Cow;

use super::report::Reason;

/// Hands every field of a record to `field`, with its place; returns how many there are.
pub(super) fn split<'t>(
    text: &'t str,
    delimiter: u8,
    mut field: impl FnMut(usize, Cow<'t, str>),
) -> Result<usize, Fault> {
    let delimiter = char::from(delimiter);
    let mut rest = text;
    let mut place = 0;
    loop {
        let end = match rest.trim_start_matches(' ').strip_prefix('"') {
            Some(inner) => {
                let (value, behind) = quoted(inner).ok_or(Fault::OpenQuote(place))?;
                field(place, value);
                rest = behind.trim_start_matches(' ');
                if !(rest.is_empty() || rest.starts_with(delimiter)) {
                    return Err(Fault::TextBehindQuote(place));
                }
                rest.len().min(1)
            }
            None => {
                let end = rest.bytes().position(|byte| char::from(byte) == delimiter);
                field(place, Cow::Borrowed(rest[..end.unwrap_or(rest.len())].trim_ascii()));
                end.map_or(0, |end| end + 1)
            }
        };
        place += 1;
        // Nothing was cut off: this was the last field.
        if end == 0 {
            return Ok(place);
        }
        rest = &rest[end..];
    }
}

/// Splits behind the closing quote; `None` when there is none.
fn quoted(inner: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut at = 0;
    loop {
        let quote = at + inner[at..].find('"')?;
        if !inner[quote + 1..].starts_with('"') {
            let value = &inner[..quote];
            let value = if at == 0 { Cow::Borrowed(value) } else { Cow::Owned(value.replace("\"\"", "\"")) };
            return Some((value, &inner[quote + 1..]));
        }
        at = quote + 2;
    }
}

/// Why a record cannot be taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooLong,
    NotUtf8(usize),
    /// In this column, counted from 0; the next line may close it.
    OpenQuote(usize),
    TextBehindQuote(usize),
    Ragged {
        found: usize,
        header: usize,
    },
}

impl From<Fault> for Reason {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLong => Reason::too_long(),
            Fault::NotUtf8(bytes_good) => Reason::not_utf8(bytes_good),
            Fault::OpenQuote(place) => {
                Reason::new("bad_quote", format!("the quote of field {} is not closed", place + 1))
            }
            Fault::TextBehindQuote(place) => Reason::new(
                "bad_quote",
                format!("field {} goes on behind its closing quote; a quote inside of quotes is doubled", place + 1),
            ),
            Fault::Ragged { found, header } => {
                let fields = if found == 1 { "field" } else { "fields" };
                Reason::new("ragged", format!("it has {found} {fields} where the header has {header}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    fn fields(text: &str, delimiter: u8) -> Result<Vec<String>, Fault> {
        let mut fields = Vec::new();
        let found = split(text, delimiter, |place, field| {
            assert_eq!(place, fields.len());
            fields.push(field.into_owned());
        })?;
        assert_eq!(found, fields.len());
        Ok(fields)
    }

    #[test]
    fn records_are_taken_apart() {
        let cases: [(&str, &[&str]); 10] = [
            ("", &[""]),
            (",", &["", ""]),
            ("a,b", &["a", "b"]),
            (" a , b\t", &["a", "b"]),
            ("\"a\",\"\"", &["a", ""]),
            ("\"a,\"\"b\"\"\" , c", &["a,\"b\"", "c"]),
            (" \" a \",b", &[" a ", "b"]),
            ("a\"b,c\"", &["a\"b", "c\""]),
            ("\"\"\"\"", &["\""]),
            ("\"a\nb\",ü", &["a\nb", "ü"]),
        ];
        for (text, expected) in cases {
            assert_eq!(fields(text, b',').unwrap(), expected, "{text:?}");
        }
        assert_eq!(fields("a\t b\t", b'\t').unwrap(), ["a", "b", ""]);
        assert_eq!(fields("a,b", b';').unwrap(), ["a,b"]);
        for (text, fault) in [
            ("\"", Fault::OpenQuote(0)),
            ("a,\"b", Fault::OpenQuote(1)),
            ("a,\"b\"\"", Fault::OpenQuote(1)),
            ("a,\"b\"c", Fault::TextBehindQuote(1)),
        ] {
            assert_eq!(fields(text, b','), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn what_the_csv_crate_writes_is_read_as_it_was_meant() {
        let mut random = SmallRng::seed_from_u64(1);
        for _ in 0..2_000 {
            let delimiter = *b",;\t".choose(&mut random).unwrap();
            let record: Vec<String> = (0..random.random_range(1..6))
                .map(|_| {
                    let length = random.random_range(0..6);
                    let text: String = (0..length)
                        .map(|_| *['a', '"', ',', ';', '\t', '\n', 'é', ' '].choose(&mut random).unwrap())
                        .collect();
                    // Blanks at the ends are no part of a field here, which RFC 4180 sees otherwise.
                    text.trim_matches([' ', '\t']).to_owned()
                })
                .collect();
            let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
            writer.write_record(&record).unwrap();
            let written = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            assert_eq!(fields(written.strip_suffix('\n').unwrap(), delimiter).unwrap(), record, "{written:?}");
        }
    }
}
