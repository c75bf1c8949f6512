//! `GET /v1/status`: where the ledger and every partition stand.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use clicks::books::partitions_of;
use clicks::ledger::{Objection, TopicLife};
use clicks::live::{Meta, Totals};
use clicks::position::PartitionId;
use clicks::time::{Day, Interval, Timestamp};
use clicks::view::Missing;
use platform::store::{LiveQuery, LiveSlice};
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::Stamp;
use super::{App, openapi};
use crate::archived::Reach;
use crate::params::Params;
use crate::problem::Problem;
use crate::sources::AskError;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Status)]
pub(super) struct Body {
    release: &'static str,
    #[schema(schema_with = openapi::time)]
    now: Stamp,
    ledger: Ledger,
    partitions: Vec<Partition>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LedgerStatus)]
struct Ledger {
    position: u64,
    #[schema(schema_with = openapi::day)]
    first_day: Day,
    #[schema(schema_with = openapi::day_or_null)]
    last_night: Option<Day>,
    #[schema(schema_with = openapi::day)]
    next_night: Day,
    /// From then on the next night can be published.
    #[schema(schema_with = openapi::time)]
    next_due: Stamp,
    /// Days that their nights have left out, until a person has decided.
    withheld: Vec<WithheldDay>,
    #[schema(schema_with = openapi::time)]
    read_at: Stamp,
    /// Why it could not be read since.
    trouble: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WithheldDay {
    #[schema(schema_with = openapi::day)]
    day: Day,
    /// What speaks against publishing it.
    objections: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PartitionStatus)]
struct Partition {
    #[schema(value_type = String)]
    partition: PartitionId,
    /// Its topic life is over: nobody goes on counting it.
    ended: bool,
    /// Why nothing is known of its live counts.
    trouble: Option<String>,
    live: Option<Live>,
    /// What is stored of it for the nights; null when that is not known here.
    archive: Option<Stored>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ArchiveStatus)]
struct Stored {
    /// Why that cannot be told.
    trouble: Option<String>,
    /// Every record before it is stored, or known to be missing.
    next_offset: Option<u64>,
    /// Append time of the last record that is stored: a night can be published once that of every partition has reached
    /// its cut.
    #[schema(schema_with = openapi::time_or_null)]
    append_time: Option<Stamp>,
    lag_ms: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveStatus)]
struct Live {
    generation: String,
    next_offset: u64,
    #[schema(schema_with = openapi::time_or_null)]
    append_time: Option<Stamp>,
    lag_ms: Option<i64>,
    #[schema(schema_with = openapi::day)]
    base_day: Day,
    #[schema(schema_with = openapi::day)]
    base_night: Day,
    rebuilding: bool,
    /// Another generation is counted to take its place.
    in_doubt: bool,
    /// How often the store was found to have gone back, and the partition was counted anew, as far as is remembered.
    rollbacks: u64,
    rebuilds: u64,
    dedup_evicted: u64,
    /// Duplicates that were appended from here on, up to the next (exclusive), may have been counted.
    #[schema(schema_with = openapi::time_or_null)]
    drift_from: Option<Stamp>,
    #[schema(schema_with = openapi::time_or_null)]
    drift_to: Option<Stamp>,
    /// Records that fell off the log before they were counted; they were appended from here on, up to the next (exclusive).
    lost: u64,
    #[schema(schema_with = openapi::time_or_null)]
    lost_from: Option<Stamp>,
    #[schema(schema_with = openapi::time_or_null)]
    lost_to: Option<Stamp>,
    seen: u64,
    control: u64,
    rejected: u64,
    duplicate: u64,
    late: u64,
    counted: u64,
    expired: u64,
    late_expired: u64,
}

/// Where the ledger and every partition stand.
#[utoipa::path(
    get, operation_id = "getStatus", path = "/v1/status",
    responses(
        (status = 200, description = "As far as it is known.", body = Body),
        openapi::Refused,
    )
)]
pub(super) async fn get(State(app): State<Arc<App>>, uri: Uri) -> Result<Json<Body>, Problem> {
    Params::read(&uri, &[])?;
    let position = app.sources.positions.current().map_err(AskError::NotReady)?;
    let now = app.sources.clock.now();
    let books = &position.books;
    // Of a life whose days are closed nobody misses anything, nor counts it any more.
    let is_missed = |life: &&TopicLife| books.last_day_of(life).is_none_or(|last_day| last_day >= books.next_night());
    let asked = books.lives().iter().filter(is_missed).flat_map(partitions_of);
    let asked: Vec<PartitionId> = asked.collect();
    let live = app.sources.live.read(asked.clone(), LiveQuery::of_meta());
    let ((read, _), stored) = futures::join!(live, app.archived.reaches(asked));
    let stored = stored.unwrap_or_default();
    let has_ended = |id: &PartitionId| {
        books.lives().iter().any(|life| life.topic_id == id.topic && life.region == id.region && books.has_ended(life))
    };
    let partitions = read.iter().map(|(id, slice)| Partition {
        archive: stored.get(id).map(|reach| archived(reach, now)),
        ..told(id, slice, has_ended(id), now)
    });
    let ledger = Ledger {
        position: books.head(),
        first_day: books.first_day(),
        last_night: books.last_night(),
        next_night: books.next_night(),
        next_due: Stamp::utc(books.rules().cut_time(books.next_night())),
        withheld: books.withheld().iter().map(withheld).collect(),
        read_at: Stamp::utc(position.read_at),
        trouble: position.trouble.clone(),
    };
    Ok(Json(Body {
        release: env!("CARGO_PKG_VERSION"),
        now: Stamp::utc(now),
        ledger,
        partitions: partitions.collect(),
    }))
}

fn withheld((day, withheld): (&Day, &clicks::books::WithheldDay)) -> WithheldDay {
    WithheldDay { day: *day, objections: Objection::list(&withheld.objections) }
}

fn told(partition: &PartitionId, slice: &Result<LiveSlice, Missing>, ended: bool, now: Timestamp) -> Partition {
    let (trouble, live) = match slice {
        Ok(slice) => (None, Some(live(slice, now))),
        Err(Missing::NoGeneration) => (Some("no generation is live".to_owned()), None),
        Err(Missing::Unreachable(detail)) => (Some(detail.clone()), None),
    };
    Partition { partition: partition.clone(), ended, trouble, live, archive: None }
}

fn archived(reach: &Result<Reach, String>, now: Timestamp) -> Stored {
    match reach {
        Ok(Reach { next_offset, append_time }) => Stored {
            trouble: None,
            next_offset: Some(next_offset.value()),
            append_time: append_time.map(Stamp::utc),
            lag_ms: append_time.map(|time| now.since(time).as_millis().max(0)),
        },
        Err(trouble) => Stored { trouble: Some(trouble.clone()), ..Stored::default() },
    }
}

fn live(slice: &LiveSlice, now: Timestamp) -> Live {
    let Meta {
        next_offset,
        append_time,
        base_day,
        base_night,
        totals,
        dedup_evicted,
        drift,
        lost,
        rollbacks,
        rebuilds,
        ..
    } = &slice.meta;
    let Totals { seen, control, rejected, duplicate, late, counted, expired, late_expired } = *totals;
    let reached = Some(*append_time).filter(|time| *time > Timestamp::MIN);
    let known = |interval: &Interval| Some(*interval).filter(|interval| !interval.is_empty());
    let (drifted, lost_in) = (known(drift), known(&lost.appended));
    Live {
        generation: slice.generation.to_string(),
        next_offset: next_offset.value(),
        append_time: reached.map(Stamp::utc),
        lag_ms: reached.map(|time| now.since(time).as_millis().max(0)),
        base_day: *base_day,
        base_night: *base_night,
        rebuilding: slice.meta.is_rebuilding(),
        in_doubt: slice.is_in_doubt,
        rollbacks: *rollbacks,
        rebuilds: *rebuilds,
        dedup_evicted: *dedup_evicted,
        drift_from: drifted.map(|drift| Stamp::utc(drift.start)),
        drift_to: drifted.map(|drift| Stamp::utc(drift.end)),
        lost: lost.records,
        lost_from: lost_in.map(|appended| Stamp::utc(appended.start)),
        lost_to: lost_in.map(|appended| Stamp::utc(appended.end)),
        seen,
        control,
        rejected,
        duplicate,
        late,
        counted,
        expired,
        late_expired,
    }
}
