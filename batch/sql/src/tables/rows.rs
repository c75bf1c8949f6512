//! Tables that are small enough to be made as a whole: what the books say, and the ads.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use clicks::books::{Books, DayBook};
use clicks::ledger::{Body, Entry, Objection};
use clicks::time::{Day, Timestamp};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use recompute::published;
use rust_decimal::Decimal;

use crate::error::SqlError;
use crate::snapshot::{Pin, Snapshot};

/// Decimals of a price: the ads table takes no more.
const SCALE: u32 = 6;
const DIGITS: u8 = 38;

type Made = BoxFuture<'static, Result<Vec<ArrayRef>, SqlError>>;

/// A table that is made when it is asked for.
#[derive(Debug)]
pub(super) struct Listing {
    pin: Pin,
    schema: SchemaRef,
    make: fn(Arc<Snapshot>) -> Made,
}

#[async_trait]
impl TableProvider for Listing {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let columns = (self.make)(self.pin.get()?).await?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema.clone(), projection.cloned())?)
    }
}

fn table(pin: &Pin, fields: Vec<Field>, make: fn(Arc<Snapshot>) -> Made) -> Listing {
    Listing { pin: pin.clone(), schema: Arc::new(Schema::new(fields)), make }
}

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Makes columns of rows.
struct Columns<'a, T>(&'a [T]);

impl<T> Columns<'_, T> {
    fn days(&self, of: impl Fn(&T) -> Option<Day>) -> ArrayRef {
        Arc::new(Date32Array::from_iter(self.0.iter().map(|row| of(row).map(Day::number))))
    }

    fn times(&self, of: impl Fn(&T) -> Option<Timestamp>) -> ArrayRef {
        let times = TimestampMillisecondArray::from_iter(self.0.iter().map(|row| of(row).map(Timestamp::as_millis)));
        Arc::new(times.with_timezone("UTC"))
    }

    fn counts(&self, of: impl Fn(&T) -> Option<u64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter(self.0.iter().map(|row| of(row).map(|count| count as i64))))
    }

    fn numbers(&self, of: impl Fn(&T) -> Option<u32>) -> ArrayRef {
        Arc::new(Int32Array::from_iter(self.0.iter().map(|row| of(row).map(|number| number as i32))))
    }

    fn flags(&self, of: impl Fn(&T) -> bool) -> ArrayRef {
        Arc::new(BooleanArray::from_iter(self.0.iter().map(|row| Some(of(row)))))
    }

    fn texts<'a, S: AsRef<str> + 'a>(&'a self, of: impl Fn(&'a T) -> Option<S>) -> ArrayRef {
        Arc::new(StringArray::from_iter(self.0.iter().map(of)))
    }
}

/// What was found of final days, by minute: the adjustments that stand.
pub(super) fn adjustments(pin: &Pin) -> Listing {
    let fields = vec![
        field("day", DataType::Date32),
        field("period_start", instant()),
        field("ad_id", DataType::Utf8),
        field("class", DataType::Utf8),
        field("clicks", DataType::Int64),
        field("night", DataType::Date32),
    ];
    table(pin, fields, |snapshot| {
        Box::pin(async move {
            let books = &snapshot.books;
            let days: Vec<Day> = books.early_days().chain(books.days().map(|(day, _)| day)).collect();
            let mut rows = Vec::new();
            for day in days {
                for found in books.adjustments(day) {
                    let all = published::adjustments(snapshot.objects(), &found.file).await?;
                    rows.extend(all.into_iter().filter(|row| row.period_start.day() == day));
                }
            }
            let rows = Columns(&rows);
            Ok(vec![
                rows.days(|row| Some(row.period_start.day())),
                rows.times(|row| Some(row.period_start)),
                rows.texts(|row| Some(&row.ad)),
                rows.texts(|row| Some(row.class.name())),
                rows.counts(|row| Some(row.clicks)),
                rows.days(|row| Some(row.night)),
            ])
        })
    })
}

/// Every day that a night has come to.
pub(super) fn periods(pin: &Pin) -> Listing {
    let fields = vec![
        field("day", DataType::Date32),
        field("state", DataType::Utf8),
        optional("revision", DataType::Int32),
        optional("rules_version", DataType::Int32),
        optional("clicks", DataType::Int64),
        field("adjustment", DataType::Int64),
        optional("late", DataType::Int64),
        optional("duplicates", DataType::Int64),
        optional("live_clicks", DataType::Int64),
        field("entry", DataType::Int64),
        optional("published_at", instant()),
        field("held", DataType::Boolean),
        optional("accepted_by", DataType::Utf8),
        optional("accepted_reason", DataType::Utf8),
        optional("objections", DataType::Utf8),
    ];
    table(pin, fields, |snapshot| {
        Box::pin(async move {
            let entries = snapshot.entries().await?;
            Ok(period_columns(&snapshot.books, &entries))
        })
    })
}

fn period_columns(books: &Books, entries: &[Arc<Entry>]) -> Vec<ArrayRef> {
    let closed = books.days().map(|(day, book)| Period { day, entry: book.entry, book: Some(book), objections: None });
    let withheld = books.withheld().iter().map(|(day, withheld)| {
        let objections = Some(Objection::list(&withheld.objections));
        Period { day: *day, entry: withheld.entry, book: None, objections }
    });
    let mut rows: Vec<Period<'_>> = closed.chain(withheld).collect();
    rows.sort_by_key(|row| row.day);
    let rows = Columns(&rows);
    let published = |number: u64| entries.get(number as usize).and_then(|entry| published_at(&entry.body));
    let totals = |row: &Period<'_>| row.book.map(|book| book.revision.totals);
    vec![
        rows.days(|row| Some(row.day)),
        rows.texts(|row| Some(books.state(row.day).name())),
        rows.numbers(|row| row.book.map(|book| book.revision.revision)),
        rows.numbers(|row| row.book.map(|book| book.revision.rules_version)),
        rows.counts(|row| totals(row).map(|totals| totals.clicks)),
        rows.counts(|row| Some(books.adjustments(row.day).iter().map(|found| found.clicks).sum())),
        rows.counts(|row| totals(row).map(|totals| totals.late)),
        rows.counts(|row| totals(row).map(|totals| totals.duplicates)),
        rows.counts(|row| totals(row).map(|totals| totals.live())),
        rows.counts(|row| Some(row.entry)),
        rows.times(|row| published(row.entry)),
        rows.flags(|row| row.book.is_some_and(|book| book.is_held)),
        rows.texts(|row| Some(&row.book?.accepted.as_ref()?.actor)),
        rows.texts(|row| Some(&row.book?.accepted.as_ref()?.reason)),
        rows.texts(|row| row.objections.as_ref()),
    ]
}

/// A day that a night has come to; without a book it was withheld.
struct Period<'a> {
    day: Day,
    entry: u64,
    book: Option<&'a DayBook>,
    objections: Option<String>,
}

fn published_at(body: &Body) -> Option<Timestamp> {
    match body {
        Body::Night(night) => Some(night.published_at),
        Body::Recount(recount) => Some(recount.published_at),
        Body::Genesis(_) | Body::Topic(_) | Body::Epoch(_) | Body::Rules(_) | Body::Period(_) => None,
    }
}

/// What each entry that has counted has read, and what became of it.
pub(super) fn quality(pin: &Pin) -> Listing {
    let fields = vec![
        field("entry", DataType::Int64),
        field("night", DataType::Date32),
        field("recounted", DataType::Boolean),
        field("day", DataType::Date32),
        field("published_at", instant()),
        field("release", DataType::Utf8),
        field("objects", DataType::Int64),
        field("records", DataType::Int64),
        field("counted", DataType::Int64),
        field("duplicates", DataType::Int64),
        field("rejected", DataType::Int64),
        field("control", DataType::Int64),
        field("other_days", DataType::Int64),
        field("adjusted", DataType::Int64),
        optional("objections", DataType::Utf8),
        optional("accepted_by", DataType::Utf8),
        optional("accepted_reason", DataType::Utf8),
    ];
    table(pin, fields, |snapshot| {
        Box::pin(async move {
            let entries = snapshot.entries().await?;
            let rows: Vec<Counted<'_>> =
                entries.iter().filter_map(|entry| Counted::of(entry.number, &entry.body)).collect();
            let rows = Columns(&rows);
            Ok(vec![
                rows.counts(|row| Some(row.entry)),
                rows.days(|row| Some(row.night)),
                rows.flags(|row| row.recounted),
                rows.days(|row| Some(row.day)),
                rows.times(|row| Some(row.published_at)),
                rows.texts(|row| Some(row.release)),
                rows.counts(|row| Some(row.objects)),
                rows.counts(|row| Some(row.balance.rows)),
                rows.counts(|row| Some(row.balance.counted)),
                rows.counts(|row| Some(row.balance.duplicates)),
                rows.counts(|row| Some(row.balance.rejected)),
                rows.counts(|row| Some(row.balance.control)),
                rows.counts(|row| Some(row.balance.other_days)),
                rows.counts(|row| Some(row.adjusted)),
                rows.texts(|row| row.objections.map(Objection::list)),
                rows.texts(|row| row.accepted.map(|accepted| &accepted.actor)),
                rows.texts(|row| row.accepted.map(|accepted| &accepted.reason)),
            ])
        })
    })
}

/// An entry that has counted.
struct Counted<'a> {
    entry: u64,
    night: Day,
    recounted: bool,
    day: Day,
    published_at: Timestamp,
    release: &'a str,
    objects: u64,
    balance: clicks::ledger::Balance,
    /// Clicks of final days that it has found.
    adjusted: u64,
    objections: Option<&'a [Objection]>,
    accepted: Option<&'a clicks::ledger::Acceptance>,
}

impl<'a> Counted<'a> {
    fn of(entry: u64, body: &'a Body) -> Option<Self> {
        Some(match body {
            Body::Night(night) => Counted {
                entry,
                night: night.night,
                recounted: false,
                day: night.night,
                published_at: night.published_at,
                release: &night.release,
                objects: night.inputs.rows,
                balance: night.balance,
                adjusted: night.adjustments.iter().flat_map(|found| found.clicks.values()).sum(),
                objections: night.withheld.as_ref().map(|withheld| withheld.objections.as_slice()),
                accepted: night.accepted.as_ref(),
            },
            Body::Recount(recount) => Counted {
                entry,
                night: recount.night,
                recounted: true,
                day: recount.day.day,
                published_at: recount.published_at,
                release: &recount.release,
                objects: recount.inputs.rows,
                balance: recount.balance,
                adjusted: 0,
                objections: None,
                accepted: recount.accepted.as_ref(),
            },
            Body::Genesis(_) | Body::Topic(_) | Body::Epoch(_) | Body::Rules(_) | Body::Period(_) => return None,
        })
    }
}

/// Whose an ad is, what it is called, and what a click on it costs, each from a day on until another.
pub(super) fn ads(pin: &Pin) -> Listing {
    let fields = vec![
        field("ad_id", DataType::Utf8),
        field("tenant", DataType::Utf8),
        field("campaign", DataType::Utf8),
        field("name", DataType::Utf8),
        optional("price", DataType::Decimal128(DIGITS, SCALE as i8)),
        optional("currency", DataType::Utf8),
        field("valid_from", DataType::Date32),
        optional("valid_to", DataType::Date32),
    ];
    table(pin, fields, |snapshot| {
        Box::pin(async move {
            let ads = snapshot.ads.rows();
            let next = ads.iter().skip(1).map(Some).chain([None]);
            let rows: Vec<_> = ads.iter().zip(next).collect();
            let prices = ads.iter().map(|row| row.price.map(|price| micros(price.amount)));
            let prices = Decimal128Array::from_iter(prices).with_precision_and_scale(DIGITS, SCALE as i8);
            let prices = prices.map_err(|error| SqlError::Read(error.to_string()))?;
            let rows = Columns(&rows);
            Ok(vec![
                rows.texts(|row| Some(row.0.ad.as_str())),
                rows.texts(|row| Some(row.0.tenant.as_str())),
                rows.texts(|row| Some(row.0.campaign.as_str())),
                rows.texts(|row| Some(&row.0.name)),
                Arc::new(prices),
                rows.texts(|row| row.0.price.map(|price| price.currency.code())),
                rows.days(|row| Some(row.0.valid_from)),
                rows.days(|(row, next)| next.filter(|next| next.ad == row.ad).map(|next| next.valid_from)),
            ])
        })
    })
}

/// A price in millionths.
fn micros(mut price: Decimal) -> i128 {
    price.rescale(SCALE);
    price.mantissa()
}
