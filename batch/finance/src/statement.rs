//! What is billed, in the periods of a zone. Days are read one after the other and tables as a stream: what is held is one
//! line per ad of one period.

use std::collections::HashMap as StdHashMap;
use std::fmt;
use std::sync::Arc;

use clicks::ads::{AdsTable, Price};
use clicks::books::{Books, PeriodState};
use clicks::id::{AdId, TenantId};
use clicks::time::{Day, Interval, Span, Timestamp};
use clicks::window::Grain;
use clicks::zone::Zone;
use hashbrown::HashMap;
use platform::objects::Objects;
use recompute::TableError;
use recompute::published::{self, AdjustmentRow};
use rust_decimal::Decimal;

use crate::export::{ExportError, Form};
use crate::lines::{Line, Period};
use crate::money::{Counts, Money, Totals};
use crate::provisional::Provisional;

/// What a statement is of, and how it is cut into lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// It begins and ends with dates of the zone.
    pub range: Interval,
    pub zone: Zone,
    pub step: Step,
    pub by: By,
    /// Only periods all of whose days are final. Otherwise all days must be closed.
    pub final_only: bool,
}

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Grain(Grain),
    /// All of the range.
    Whole,
}

/// What has lines of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Ad,
    Campaign,
    Tenant,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub totals: Totals,
    /// Of the days of UTC in what was written the least settled state; `None` when nothing was.
    pub state: Option<PeriodState>,
    /// Days of UTC that are not final, for whose sake periods were left out.
    pub left_out: Vec<OpenDay>,
}

/// A day that stands against a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenDay {
    pub day: Day,
    pub state: PeriodState,
}

/// Why there is no statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    #[error("the period is not closed yet, for {}. `twofold batch run --catch-up` closes what is due", list(.0))]
    Open(Vec<OpenDay>),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("`{key}` names the ad `{ad}`, which is no id; restore the file from a copy or recompute the day")]
    Ad { key: String, ad: String },
    #[error(transparent)]
    Form(#[from] ExportError),
}

const LISTED_MAX: usize = 5;

fn list(days: &[OpenDay]) -> String {
    let texts: Vec<String> = days.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    let rest = if days.len() > LISTED_MAX { format!(" and {} more", days.len() - LISTED_MAX) } else { String::new() };
    texts.join(", ") + &rest
}

impl fmt::Display for OpenDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.day, self.state.name())
    }
}

impl Scope {
    /// The days of UTC that the range touches.
    pub(crate) fn days(&self) -> impl DoubleEndedIterator<Item = Day> + use<> {
        days_of(self.range)
    }

    fn window(&self, time: Timestamp) -> Interval {
        match self.step {
            Step::Grain(grain) => self.zone.window(grain, time),
            Step::Whole => self.range,
        }
    }

    fn part_of(&self, day: Day) -> Interval {
        Interval::new(self.range.start.max(day.start()), self.range.end.min(day.end()))
    }

    /// The coarsest table of a day whose rows each lie in one period of the range, or in none.
    fn table_grain(&self, day: Day) -> Grain {
        let part = self.part_of(day);
        let mut edges = vec![part.start, part.end];
        let mut end = self.window(part.start).end;
        while end < part.end {
            edges.push(end);
            end = self.window(end).end;
        }
        let lies_on = |grain: Grain| edges.iter().all(|edge| grain.window(*edge).start == *edge);
        [Grain::Day, Grain::Hour].into_iter().find(|grain| lies_on(*grain)).unwrap_or(Grain::Minute)
    }
}

/// The days of UTC that an interval touches.
pub(crate) fn days_of(interval: Interval) -> impl DoubleEndedIterator<Item = Day> + use<> {
    interval.start.day().until((interval.end - Span::millis(1)).day().next())
}

/// Writes a statement.
///
/// # Errors
/// When days of the range are not closed, a table cannot be read, or the form cannot be written.
pub async fn write(
    objects: &Objects,
    books: &Books,
    ads: &AdsTable,
    scope: &Scope,
    form: &mut dyn Form,
) -> Result<Written, StatementError> {
    write_with(objects, books, ads, scope, &Provisional::default(), form).await
}

/// The same, with live numbers of days that are not closed: such a day is no reason against it.
///
/// # Errors
/// As [`write`].
pub async fn write_with(
    objects: &Objects,
    books: &Books,
    ads: &AdsTable,
    scope: &Scope,
    provisional: &Provisional,
    form: &mut dyn Form,
) -> Result<Written, StatementError> {
    let unsettled: Vec<OpenDay> = scope
        .days()
        .map(|day| OpenDay { day, state: books.state(day) })
        .filter(|open| match scope.final_only {
            true => !is_final(open.state),
            false => !is_closed(open.state) && !provisional.has(open.day),
        })
        .collect();
    if !scope.final_only && !unsettled.is_empty() {
        return Err(StatementError::Open(unsettled));
    }
    let mut writer = Writer::new(books, ads, scope, form);
    let mut nights = Nights::default();
    let mut state: Option<PeriodState> = None;
    for day in scope.days() {
        if !writer.wants(day) {
            continue;
        }
        state = state.into_iter().chain([books.state(day)]).min_by_key(|state| state.settledness());
        let part = scope.part_of(day);
        let adjustments = nights.of(objects, books, day).await?;
        let mut adjustments = adjustments.iter().filter(|row| part.contains(row.period_start)).peekable();
        if let Some(book) = books.day(day) {
            let file = book.revision.file(scope.table_grain(day));
            let mut table = published::table(objects, file).await?;
            while let Some(batch) = table.next_batch()? {
                for row in batch.rows().filter(|row| part.contains(row.start)) {
                    if !writer.is_in(row.start) {
                        // There may be periods of adjustments alone.
                        let start = scope.window(row.start).start;
                        while let Some(earlier) = adjustments.next_if(|earlier| earlier.period_start < start) {
                            writer.adjust(earlier)?;
                        }
                        writer.enter(row.start)?;
                    }
                    writer.count(row.ad, day, Counts::of(&row)).map_err(|ad| bad_ad(&file.key, ad))?;
                }
            }
        }
        adjustments.try_for_each(|row| writer.adjust(row))?;
        for (start, ad, clicks) in provisional.of(day).filter(|(start, ..)| part.contains(*start)) {
            writer.enter(start)?;
            let counts = Counts { clicks, ..Counts::default() };
            writer.count(ad.as_str(), day, counts).map_err(|ad| bad_ad("the live numbers", ad))?;
        }
    }
    writer.end()?;
    Ok(Written { totals: writer.totals, state, left_out: unsettled })
}

fn bad_ad(key: &str, ad: String) -> StatementError {
    StatementError::Ad { key: key.to_owned(), ad }
}

pub(crate) const fn is_closed(state: PeriodState) -> bool {
    !matches!(state, PeriodState::Live | PeriodState::Withheld)
}

pub(crate) const fn is_final(state: PeriodState) -> bool {
    matches!(state, PeriodState::Final | PeriodState::Adjusted)
}

/// Clicks of final days that were found later and stand beside their revisions, by time and ad.
///
/// # Errors
/// When a file cannot be read.
pub async fn adjustments_of(
    objects: &Objects,
    books: &Books,
    range: Interval,
) -> Result<Vec<AdjustmentRow>, TableError> {
    let mut nights = Nights::default();
    let mut all = Vec::new();
    for day in days_of(range) {
        let of_day = nights.of(objects, books, day).await?;
        all.extend(of_day.into_iter().filter(|row| range.contains(row.period_start)));
    }
    Ok(all)
}

/// The adjustments that nights have found: one file of each, of all days.
#[derive(Default)]
struct Nights {
    files: StdHashMap<String, Arc<Vec<AdjustmentRow>>>,
}

impl Nights {
    /// Those of a day, sorted.
    async fn of(&mut self, objects: &Objects, books: &Books, day: Day) -> Result<Vec<AdjustmentRow>, TableError> {
        let mut rows = Vec::new();
        for adjustment in books.adjustments(day) {
            let key = &adjustment.file.key;
            if !self.files.contains_key(key) {
                let read = published::adjustments(objects, &adjustment.file).await?;
                self.files.insert(key.clone(), Arc::new(read));
            }
            rows.extend(self.files[key].iter().filter(|row| row.period_start.day() == day).cloned());
        }
        rows.sort_unstable();
        Ok(rows)
    }
}

/// An ad, and what has its line.
struct Ad {
    id: AdId,
    /// Number of the ad, or of its campaign or tenant; 0 when the ads table knows neither.
    who: usize,
    /// Its price on a day.
    price: (Day, Option<Price>),
}

/// What a line comes to.
#[derive(Default)]
struct Sum {
    counts: Counts,
    amount: Decimal,
    price: Option<Decimal>,
    /// Clicks of another price are among them.
    is_mixed: bool,
}

struct Writer<'a> {
    books: &'a Books,
    table: &'a AdsTable,
    scope: &'a Scope,
    form: &'a mut dyn Form,
    tenants: Vec<&'a TenantId>,
    ads: Vec<Ad>,
    numbers: HashMap<AdId, usize, foldhash::fast::RandomState>,
    /// The period that is being added up, and whether it is given.
    window: Option<(Interval, bool)>,
    /// By [`Ad::who`] and currency.
    sums: HashMap<(usize, Option<&'static str>), Sum, foldhash::fast::RandomState>,
    totals: Totals,
}

impl<'a> Writer<'a> {
    fn new(books: &'a Books, table: &'a AdsTable, scope: &'a Scope, form: &'a mut dyn Form) -> Self {
        Writer {
            books,
            table,
            scope,
            form,
            tenants: table.tenants().collect(),
            ads: Vec::new(),
            numbers: HashMap::default(),
            window: None,
            sums: HashMap::default(),
            totals: Totals::default(),
        }
    }

    /// Whether a period that is given touches the day.
    fn wants(&self, day: Day) -> bool {
        let part = self.scope.part_of(day);
        let mut window = self.scope.window(part.start);
        loop {
            if self.is_given(window) {
                return true;
            }
            if window.end >= part.end {
                return false;
            }
            window = self.scope.window(window.end);
        }
    }

    fn is_given(&self, window: Interval) -> bool {
        !self.scope.final_only || days_of(window).all(|day| is_final(self.books.state(day)))
    }

    fn is_in(&self, time: Timestamp) -> bool {
        self.window.is_some_and(|(window, _)| window.contains(time))
    }

    /// Goes on to the period that holds `time`, which is the same or a later one.
    fn enter(&mut self, time: Timestamp) -> Result<(), StatementError> {
        if !self.is_in(time) {
            self.end()?;
            let window = self.scope.window(time);
            self.window = Some((window, self.is_given(window)));
        }
        Ok(())
    }

    fn adjust(&mut self, row: &AdjustmentRow) -> Result<(), StatementError> {
        self.enter(row.period_start)?;
        let counts = Counts { adjustment: row.clicks, ..Counts::default() };
        let counted = self.count(&row.ad, row.period_start.day(), counts);
        counted.map_err(|ad| bad_ad(&format!("the adjustments of night {}", row.night), ad))
    }

    /// `Err`: what is no id of an ad.
    fn count(&mut self, ad: &str, day: Day, counts: Counts) -> Result<(), String> {
        if self.window.is_none_or(|(_, is_given)| !is_given) {
            return Ok(());
        }
        let number = match self.numbers.get(ad) {
            Some(number) => *number,
            None => self.add(AdId::parse(ad).map_err(|_| ad.to_owned())?),
        };
        let ad = &mut self.ads[number];
        if ad.price.0 != day {
            ad.price = (day, self.table.price_on(&ad.id, day));
        }
        let price = ad.price.1;
        let sum = self.sums.entry((ad.who, price.map(|price| price.currency.code()))).or_default();
        sum.counts.add(counts);
        if let Some(price) = price {
            sum.amount += price.amount * Decimal::from(counts.total());
            sum.is_mixed |= sum.price.replace(price.amount).is_some_and(|before| before != price.amount);
        }
        Ok(())
    }

    fn add(&mut self, id: AdId) -> usize {
        let number = self.ads.len();
        let campaign = self.table.campaign_of(&id);
        let who = match self.scope.by {
            By::Ad => number,
            By::Campaign => campaign.map_or(0, |campaign| campaign + 1),
            By::Tenant => campaign.map_or(0, |campaign| {
                let tenant = &self.table.campaigns()[campaign].0;
                1 + self.tenants.binary_search(&tenant).expect("it has a campaign, so it is among them")
            }),
        };
        self.numbers.insert(id.clone(), number);
        self.ads.push(Ad { id, who, price: (Day::from_number(i32::MIN), None) });
        number
    }

    /// Gives the lines of the period that was added up.
    fn end(&mut self) -> Result<(), StatementError> {
        let Some((window, true)) = self.window.take() else { return Ok(()) };
        let days = || days_of(window);
        let state = days().map(|day| self.books.state(day)).min_by_key(|state| state.settledness());
        let state = state.expect("a period touches a day");
        let revision = days().next().filter(|_| days().count() == 1).and_then(|day| self.books.day(day));
        let period = Period { interval: window, state, revision: revision.map(|book| book.revision.revision) };
        let last_day = days().next_back().expect("a period touches a day");
        let mut sums: Vec<_> = self.sums.drain().filter(|(_, sum)| sum.counts.total() > 0).collect();
        sums.sort_unstable_by(|((a, in_a), _), ((b, in_b), _)| {
            let names = |who: usize| if self.scope.by == By::Ad { Some(&self.ads[who].id) } else { None };
            (names(*a), a, in_a).cmp(&(names(*b), b, in_b))
        });
        let lines: Vec<Line<'_>> = sums
            .iter()
            .map(|((who, currency), sum)| {
                let price = sum.price.filter(|_| !sum.is_mixed);
                let money = currency.map(|currency| Money { currency, amount: sum.amount });
                let line = Line { counts: sum.counts, price, money, ..Line::default() };
                match (self.scope.by, who.checked_sub(1)) {
                    (By::Ad, _) => {
                        let ad = &self.ads[*who].id;
                        let row = self.table.row_on(ad, last_day);
                        let (name, tenant) = (row.map(|row| &*row.name), row.map(|row| &row.tenant));
                        Line { ad: Some(ad), name, tenant, campaign: row.map(|row| &row.campaign), ..line }
                    }
                    (By::Campaign, Some(campaign)) => {
                        let (tenant, campaign) = &self.table.campaigns()[campaign];
                        Line { tenant: Some(tenant), campaign: Some(campaign), ..line }
                    }
                    (By::Tenant, Some(tenant)) => Line { tenant: Some(self.tenants[tenant]), ..line },
                    (By::Campaign | By::Tenant, None) => line,
                }
            })
            .collect();
        for line in &lines {
            self.totals.add(line.counts, line.money.as_ref());
        }
        if !lines.is_empty() {
            self.form.lines(&period, &lines)?;
        }
        Ok(())
    }
}
