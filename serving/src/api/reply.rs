//! How an answer is written: as JSON, CSV or an Arrow stream. All three are made of the same rows.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::ipc::writer::StreamWriter;
use axum::Extension;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use clicks::ledger::sha256;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::Meta;
use crate::answers::Basis;
use crate::params::Params;
use crate::problem::{Problem, shown};

/// The forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Format {
    Json,
    Csv,
    Arrow,
}

impl Format {
    const ALL: [Format; 3] = [Format::Json, Format::Csv, Format::Arrow];

    const fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Arrow => "arrow",
        }
    }

    const fn mime(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// `format` says it, or else what the client accepts. A link and a spreadsheet can only do the former.
    pub(super) fn asked(params: &Params, headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(name) = params.one("format")? {
            let found = Format::ALL.into_iter().find(|format| format.name() == name);
            let unknown =
                || Problem::parameter("format", format!("`{}` is unknown", shown(name)), "use json, csv or arrow");
            return found.ok_or_else(unknown);
        }
        let Some(accept) = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()) else {
            return Ok(Format::Json);
        };
        let best = accept.split(',').filter_map(liked).reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|(format, _)| format).ok_or_else(|| Problem::not_acceptable(accept))
    }
}

/// One of our forms that a part of `Accept` allows, and how much it is liked.
fn liked(range: &str) -> Option<(Format, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
    let format = match &*media {
        "*/*" | "application/*" | "application/json" | "" => Format::Json,
        "text/csv" | "text/*" => Format::Csv,
        "application/vnd.apache.arrow.stream" => Format::Arrow,
        _ => return None,
    };
    (quality > 0.0).then_some((format, quality))
}

/// A row of an answer. Its columns are its fields, in every form.
pub(super) trait Row: Serialize {
    /// What the rows are about, for the name of a file.
    const NAME: &'static str;
    /// The columns in order, with their types.
    fn columns() -> Vec<Field>;
}

pub(super) fn column(name: &str, kind: DataType) -> Field {
    Field::new(name, kind, true)
}

pub(super) fn time_column(name: &str) -> Field {
    column(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))
}

/// A number of clicks. Signed, as in the published tables.
pub(super) fn count_column(name: &str) -> Field {
    column(name, DataType::Int64)
}

/// An answer: how far it can be trusted, and its rows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reply<R> {
    pub meta: Meta,
    /// Ads, campaigns or tenants with clicks in the range, those beyond the limit included. Only in a ranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    pub data: Vec<R>,
    /// The same about the range that it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared<R>>,
    /// Every click that was stored before it is in the answer.
    #[serde(skip)]
    pub read: Instant,
}

/// The answer about another range of as many periods.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Compared<R> {
    meta: Meta,
    data: Vec<R>,
}

impl<R: Row> Reply<R> {
    /// With another answer beside it.
    pub(super) fn compared_with(self, Reply { meta, data, read, .. }: Self) -> Self {
        Reply { read: self.read.min(read), compared: Some(Compared { meta, data }), ..self }
    }

    /// In the form that the client wants. Where no period is live and nothing is missing, the answer has a tag. It is asked
    /// for again each time all the same: a closed day can still be restated. Only what was published at a named position may
    /// be kept, for an hour, because the address does not say of which ledger.
    pub(super) fn written(&self, format: Format) -> Response {
        let body = match format {
            Format::Json => serde_json::to_vec(&self).expect("an answer is valid JSON"),
            Format::Csv => self.csv(),
            Format::Arrow => self.arrow(),
        };
        let mut headers = HeaderMap::new();
        let is_kept = |meta: &Meta| meta.pinned && meta.complete;
        let is_kept = is_kept(&self.meta) && self.compared.as_ref().is_none_or(|compared| is_kept(&compared.meta));
        let kept = if is_kept { "max-age=3600, immutable" } else { "no-cache" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        if self.meta.is_settled() && self.compared.as_ref().is_none_or(|compared| compared.meta.is_settled()) {
            // Weak: the same bytes may be compressed or not.
            let said: Vec<String> = self.meta.as_headers().map(|(_, text)| text).collect();
            let tag = format!("W/\"{}\"", &sha256(&[&body, said.join("\n").as_bytes()].concat())[..32]);
            headers.insert(header::ETAG, value(&tag));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.mime()));
        if format != Format::Json {
            headers.insert(header::CONTENT_DISPOSITION, value(&self.file_name(format)));
        }
        if format == Format::Csv {
            // What the rows cannot say.
            headers.extend(self.meta.as_headers().map(|(name, text)| (HeaderName::from_static(name), value(&text))));
        }
        let basis = Basis { position: self.meta.ledger_position, read: self.read };
        (Extension(basis), headers, body).into_response()
    }

    fn csv(&self) -> Vec<u8> {
        let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        let written = csv
            .write_record(R::columns().iter().map(Field::name))
            .and_then(|()| self.data.iter().try_for_each(|row| csv.serialize(row)));
        written.expect("rows are flat, and memory can be written to");
        csv.into_inner().expect("memory can be written to")
    }

    fn arrow(&self) -> Vec<u8> {
        let meta = serde_json::to_string(&self.meta).expect("what is said of an answer is valid JSON");
        let schema = Schema::new(R::columns()).with_metadata([("twofold.meta".to_owned(), meta)].into());
        let schema = Arc::new(schema);
        let decoder = arrow_json::ReaderBuilder::new(schema.clone()).build_decoder();
        let batch = decoder.and_then(|mut decoder| {
            decoder.serialize(&self.data)?;
            Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(schema.clone())))
        });
        let written = batch.and_then(|batch| {
            let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
            writer.write(&batch)?;
            writer.into_inner()
        });
        written.expect("rows fit their columns, and memory can be written to")
    }

    /// `clicks_2026-03-01T000000Z_2026-03-02T000000Z_position-4.csv`: what is in it, without opening it.
    fn file_name(&self, format: Format) -> String {
        let Meta { from, to, ledger_position, .. } = &self.meta;
        let plain = |text: String| -> String {
            text.replace(".000", "").chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+')).collect()
        };
        let (from, to) = (plain(from.to_string()), plain(to.to_string()));
        format!("attachment; filename=\"{}_{from}_{to}_position-{ledger_position}.{}\"", R::NAME, format.name())
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("times, names and numbers are plain ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str, accept: Option<&str>) -> Result<Format, Problem> {
        let uri = format!("/v1/clicks?{query}").parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.extend(accept.map(|accept| (header::ACCEPT, accept.parse().unwrap())));
        Format::asked(&Params::read(&uri, &["format"]).unwrap(), &headers)
    }

    #[test]
    fn the_form_is_what_is_asked_for_or_else_what_is_liked_best() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let cases = [
            ("", None, Format::Json),
            ("", Some(browser), Format::Json),
            ("", Some("text/csv"), Format::Csv),
            ("", Some("application/json;q=0.5, TEXT/CSV"), Format::Csv),
            ("", Some("text/csv;q=0.1,application/json;q=0.2"), Format::Json),
            ("", Some("text/csv;q=0, */*"), Format::Json),
            ("", Some("application/vnd.apache.arrow.stream"), Format::Arrow),
            ("format=csv", Some("application/json"), Format::Csv),
        ];
        for (query, accept, format) in cases {
            assert_eq!(asked(query, accept).unwrap(), format, "{query} {accept:?}");
        }
        for (query, accept) in [("", Some("image/png")), ("format=xml", None), ("format=csv&format=csv", None)] {
            assert!(asked(query, accept).is_err(), "{query} {accept:?}");
        }
    }
}
