//! `GET /v1/clicks?ad_id=&tenant=&campaign=&group_by=&from=&to=&granularity=&tz=&compare=&position=&format=`: clicks per
//! period.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use clicks::books::PeriodState;
use clicks::id::{AdId, CampaignId, TenantId};
use clicks::tables::EntryNumber;
use clicks::time::Interval;
use clicks::view::{Answer, PeriodAnswer, Question, Source};
use clicks::window::Grain;
use clicks::zone::Zone;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::{Meta, Stamp};
use super::reply::{self, Format, Reply, column, count_column, time_column};
use super::{App, openapi};
use crate::catalog::Version;
use crate::gate::Caller;
use crate::params::{Params, check_size};
use crate::problem::Problem;
use crate::sources::Answered;
use crate::subject::{Label, Series, Subject};

/// One period of one ad, or of all ads together. A number that is not known is null, never zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[schema(as = Period)]
pub(super) struct Row {
    #[schema(schema_with = openapi::time)]
    pub period_start: Stamp,
    /// Exclusive.
    #[schema(schema_with = openapi::time)]
    pub period_end: Stamp,
    /// Null for several ads together.
    #[schema(value_type = Option<String>, example = "ad-1")]
    pub ad_id: Option<AdId>,
    /// Whose group of ads this is; null where the answer is not grouped, and of ads that the ads table does not know.
    #[schema(value_type = Option<String>, example = "acme")]
    pub tenant: Option<TenantId>,
    #[schema(value_type = Option<String>, example = "spring")]
    pub campaign: Option<CampaignId>,
    clicks: Option<u64>,
    /// Clicks that were found after the day had become final; they are billed too.
    adjustment: Option<u64>,
    /// `clicks + adjustment`.
    total: Option<u64>,
    /// Late clicks that `total` does not hold yet.
    late_pending: Option<u64>,
    /// Of a closed period: what the live view counted, while all of that is still stored.
    last_live: Option<u64>,
    /// Of a closed period: those of `clicks` that came late, so that the live view did not count them.
    late: Option<u64>,
    /// `last_live + late - clicks`: what the live view counted and the batch did not, duplicates that came after its horizon.
    removed: Option<i64>,
    #[schema(schema_with = openapi::source)]
    source: Source,
    #[schema(schema_with = openapi::state)]
    state: PeriodState,
    revision: Option<u32>,
    /// Everything that belongs into `total` by now is in it; otherwise it is at least so many.
    complete: bool,
}

impl reply::Row for Row {
    const NAME: &'static str = "clicks";

    fn columns() -> Vec<Field> {
        let mut columns = vec![time_column("period_start"), time_column("period_end")];
        columns.extend(["ad_id", "tenant", "campaign"].map(|name| column(name, DataType::Utf8)));
        columns.extend(
            ["clicks", "adjustment", "total", "late_pending", "last_live", "late", "removed"].map(count_column),
        );
        columns.extend(["source", "state"].map(|name| column(name, DataType::Utf8)));
        columns.extend([column("revision", DataType::Int32), column("complete", DataType::Boolean)]);
        columns
    }
}

/// Clicks per period, of all ads together, of each ad that is named, or of each group of ads.
#[utoipa::path(
    get, operation_id = "getClicks", path = "/v1/clicks",
    params(
        ("ad_id" = Option<Vec<openapi::AdId>>, Query, style = Form, explode = false,
            description = "Ad ids, several separated by commas; all ads together without it.", example = json!(["ad-1"])),
        ("tenant" = Option<Vec<openapi::AdId>>, Query, style = Form, explode = false,
            description = "Only ads of these tenants of the ads table; not together with `ad_id`.", example = json!(["acme"])),
        ("campaign" = Option<Vec<openapi::AdId>>, Query, style = Form, explode = false,
            description = "Only ads of these campaigns of the ads table; not together with `ad_id`.", example = json!(["spring"])),
        ("group_by" = Option<openapi::GroupBy>, Query, description = "One series for each; one for all of them without it.", example = "campaign"),
        ("from" = Option<String>, Query, example = "2026-03-01",
            description = "RFC 3339 timestamp or day of the zone; by default the last hour, day or month."),
        ("to" = Option<String>, Query, example = "2026-03-02", description = "Exclusive; by default the end of the running period."),
        ("granularity" = Option<openapi::Granularity>, Query, description = "By default minute.", example = "hour"),
        ("tz" = Option<String>, Query, description = "IANA time zone of periods and days; UTC by default.", example = "Europe/Berlin"),
        ("compare" = Option<String>, Query, example = "2026-02-22",
            description = "RFC 3339 timestamp or day of the zone: as many periods from there on are answered beside them. In JSON only."),
        ("position" = Option<u64>, Query, description = "What was published at this ledger position, of closed days only."),
        ("format" = Option<Format>, Query, description = "What `Accept` says without it.", example = "json"),
    ),
    responses(
        (status = 200, description = "The periods in order, one ad or group after the other.", content(
            (Reply<Row> = "application/json"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
        )),
        (status = 304, description = "The answer is still the one of `If-None-Match`."),
        openapi::Refused,
    )
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let own = ["from", "to", "granularity", "tz", "compare", "position", "format"];
    let params = Params::read(&uri, &[&Subject::PARAMETERS[..], &own].concat())?;
    let format = Format::asked(&params, &headers)?;
    let grain = params.grain("granularity")?.unwrap_or(Grain::Minute);
    let (zone, now) = (params.zone()?, app.sources.clock.now());
    let series = Subject::read(&params, app.options.ads_max)?.series(&caller, &app.catalog, app.options.ads_max)?;
    let range = params.range(grain, zone, periods_default(grain), now)?;
    let compared = params.compared(range, grain, zone)?;
    if compared.is_some() && format != Format::Json {
        let mend = "ask for JSON, or about each of the two ranges by itself";
        return Err(Problem::parameter("compare", "a table holds one answer", mend));
    }
    let answers = 1 + usize::from(compared.is_some());
    check_size(range, grain, answers * series.labels.len(), now, app.options.rows_max)?;
    let (period, wanted) = (Period { range, grain, zone }, params.position()?);
    let reply = ask(&app, &caller, &series, period, wanted).await?;
    let Some(range) = compared else { return Ok(reply.written(format)) };
    let compared = ask(&app, &caller, &series, Period { range, ..period }, wanted).await?;
    // The ledger may have moved between the two; it seldom does.
    let reply = match reply.meta.ledger_position == compared.meta.ledger_position {
        true => reply,
        false => ask(&app, &caller, &series, period, wanted).await?,
    };
    Ok(reply.compared_with(compared).written(format))
}

/// Which periods are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period {
    pub range: Interval,
    pub grain: Grain,
    pub zone: Zone,
}

/// The answer at the last position of the ledger, or at the one that is wanted.
pub(super) async fn ask(
    app: &App,
    caller: &Caller,
    series: &Series,
    Period { range, grain, zone }: Period,
    wanted: Option<EntryNumber>,
) -> Result<Reply<Row>, Problem> {
    let Series { asked, labels, ads } = series;
    let question = Question { asked: asked.clone(), range, grain, zone };
    let against = ads.as_ref().and_then(Version::reason);
    let Answered { position, read, answer } = app.sources.answer(&question, wanted, against).await?;
    let meta = Meta::new(&answer.standing, &position, Some(grain), zone, caller.sees());
    let meta = meta.pinned(wanted.is_some()).by_ads(ads.as_ref().map(|version| version.number));
    Ok(Reply { meta, count: None, data: rows(answer, labels, zone), compared: None, read })
}

/// The last hour, the last day, the last month.
pub(super) fn periods_default(grain: Grain) -> i64 {
    match grain {
        Grain::Minute => 60,
        Grain::Hour => 24,
        Grain::Day => 30,
    }
}

/// How the last live number of a closed period became what is billed.
fn removed(period: &PeriodAnswer) -> Option<i64> {
    let counted = period.last_live? + period.late?;
    Some(counted as i64 - period.clicks? as i64)
}

fn rows(answer: Answer, labels: &[Label], zone: Zone) -> Vec<Row> {
    let rows = answer
        .series
        .into_iter()
        .zip(labels)
        .flat_map(|(series, label)| series.periods.into_iter().map(move |period| row(label, period, zone)));
    rows.collect()
}

fn row(label: &Label, period: PeriodAnswer, zone: Zone) -> Row {
    let (tenant, campaign) = label.home();
    Row {
        period_start: Stamp(period.start, zone),
        period_end: Stamp(period.end, zone),
        ad_id: label.ad().cloned(),
        tenant,
        campaign,
        clicks: period.clicks,
        adjustment: period.adjustment,
        total: period.total,
        late_pending: period.late_pending,
        last_live: period.last_live,
        late: period.late,
        removed: removed(&period),
        source: period.source,
        state: period.state,
        revision: period.revision,
        complete: period.complete,
    }
}
