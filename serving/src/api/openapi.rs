//! `GET /v1/openapi.json`: this API for programs, made from the types that are answered with.

use ::clicks::books::PeriodState;
use ::clicks::view::Source;
use ::clicks::window::Grain;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{KnownFormat, Object, SchemaFormat};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

use super::reply::Format;
use super::{access, ads, campaigns, clicks, days, names, nights, status, stream};
use crate::problem::Fields;

pub(super) async fn get() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], document())
}

/// The document as it is served, and as it stands in the repository.
pub(super) fn document() -> String {
    let mut text = Api::openapi().to_pretty_json().expect("the document is valid JSON");
    text.push('\n');
    text
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Twofold",
        description = "Clicks per ad and period: one merged answer of the batch and the speed layer. Every answer says in \
                       `meta` how far it can be trusted; a number that is not known is null, never zero."
    ),
    paths(clicks::get, ads::get, stream::get, campaigns::get, names::get, access::get, days::get, nights::get, status::get),
    components(schemas(Fields, AdId, Granularity, GroupBy, Format)),
    modifiers(&Keys),
    security((), ("key" = []))
)]
struct Api;

/// How a key is sent.
struct Keys;

impl Modify for Keys {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description = Some("A key of `twofold key create`. Not needed where the server is open.".to_owned());
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}

/// What every address may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it only describes")]
pub(super) enum Refused {
    /// The question cannot be answered: `type`, `parameter` and `mend` say why and what can be done.
    #[response(status = "4XX", content_type = "application/problem+json")]
    Question(#[to_schema] Fields),
    /// Not now.
    #[response(status = 503, content_type = "application/problem+json")]
    NotNow(#[to_schema] Fields),
}

// --- parameters ------------------------------------------------------------------------------------------------------

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it only describes")]
pub(super) enum Granularity {
    Minute,
    Hour,
    Day,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it only describes")]
pub(super) enum GroupBy {
    Ad,
    Campaign,
    Tenant,
}

/// 1 to 64 of `A-Z a-z 0-9 _ . -`.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_.-]{1,64}$", example = "ad-1")]
#[expect(dead_code, reason = "it only describes")]
pub(super) struct AdId(String);

// --- types of the core, which knows nothing of HTTP ------------------------------------------------------------------

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn text_or_null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

fn known(format: KnownFormat) -> Option<SchemaFormat> {
    Some(SchemaFormat::KnownFormat(format))
}

pub(super) fn time() -> Object {
    text().format(known(KnownFormat::DateTime)).build()
}

pub(super) fn time_or_null() -> Object {
    text_or_null().format(known(KnownFormat::DateTime)).build()
}

pub(super) fn day() -> Object {
    text().format(known(KnownFormat::Date)).build()
}

pub(super) fn day_or_null() -> Object {
    text_or_null().format(known(KnownFormat::Date)).build()
}

pub(super) fn grain() -> Object {
    text().enum_values(Some(Grain::ALL.map(Grain::name))).build()
}

pub(super) fn source() -> Object {
    text().enum_values(Some([Source::Batch, Source::Speed, Source::Mixed, Source::None].map(Source::name))).build()
}

pub(super) fn state() -> Object {
    text().enum_values(Some(PeriodState::ALL.map(PeriodState::name))).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `TWOFOLD_WRITE=1` writes the document anew.
    #[test]
    fn the_document_in_the_repository_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("TWOFOLD_WRITE").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap();
        assert!(stored == document(), "the API has changed: write serving/openapi.json anew (TWOFOLD_WRITE=1)");
    }
}
