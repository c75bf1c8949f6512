//! Query parameters, read strictly: a parameter that is misspelt would otherwise answer another question.

use axum::extract::Query;
use axum::http::Uri;
use clicks::id::{AdId, IdError};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Interval, TimeError, Timestamp};
use clicks::window::Grain;
use clicks::zone::{UnknownZone, Zone};

use crate::problem::{Problem, shown};

/// Days of the years 1900 to 2999: beyond them dates need another spelling.
const YEARS: std::ops::Range<i32> = -25_567..376_200;

/// The parameters of one request, all of them known.
#[derive(Debug)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| Problem::query(error.to_string()))?;
        for (name, _) in &pairs {
            if !known.contains(&name.as_str()) {
                return Err(unknown(name, known));
            }
        }
        Ok(Params { pairs })
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.pairs.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(Problem::parameter(name, "it is given more than once", "give it once")),
        }
    }

    /// Ad ids; see [`Params::list`].
    pub(crate) fn ads(&self, name: &str, ads_max: usize) -> Result<Option<Vec<AdId>>, Problem> {
        let mend = "ad ids such as ad-1, several separated by commas, or leave it out for all ads together";
        self.list(name, ads_max, mend, AdId::parse)
    }

    /// Names, from a parameter that may be repeated and may hold several, separated by commas. Each once, in the order
    /// given; `None` when the parameter is absent.
    pub(crate) fn list<T: PartialEq>(
        &self,
        name: &str,
        count_max: usize,
        give: &str,
        parse: impl Fn(&str) -> Result<T, IdError>,
    ) -> Result<Option<Vec<T>>, Problem> {
        let mut found: Option<Vec<T>> = None;
        let values = self.pairs.iter().filter(|(given, _)| given == name).flat_map(|(_, value)| value.split(','));
        for text in values {
            let wrong = |error| Problem::parameter(name, format!("`{}` {error}", shown(text)), format!("give {give}"));
            let one = parse(text).map_err(wrong)?;
            let found = found.get_or_insert_default();
            if !found.contains(&one) {
                found.push(one);
            }
            if found.len() > count_max {
                let reason = format!("it names more than {count_max}, which is the limit of one request");
                return Err(Problem::parameter(name, reason, "ask in several requests"));
            }
        }
        Ok(found)
    }

    pub(crate) fn grain(&self, name: &str) -> Result<Option<Grain>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Problem::unknown_word(name, text, "use minute, hour or day"))
    }

    /// The time zone that periods and days are meant in; UTC unless one is named.
    pub(crate) fn zone(&self) -> Result<Zone, Problem> {
        let Some(text) = self.one("tz")? else { return Ok(Zone::UTC) };
        text.parse().map_err(|error: UnknownZone| {
            let mend = format!("use a name of the IANA list, such as {}", error.nearest);
            Problem::parameter("tz", format!("`{}` is no time zone", shown(text)), mend)
        })
    }

    /// An instant: an RFC 3339 timestamp, or a day, which is its first instant in the zone.
    pub(crate) fn time(&self, name: &str, zone: Zone) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        if let Ok(day) = text.parse::<Day>() {
            return Ok(Some(zone.start_of(day)));
        }
        // In a query `+` means a space; no timestamp has one in front of its offset.
        let with_plus = || text.replacen(' ', "+", 1);
        match Timestamp::parse_rfc3339(text).or_else(|error| Timestamp::parse_rfc3339(&with_plus()).map_err(|_| error))
        {
            Ok(time) => Ok(Some(time)),
            Err(TimeError::NoOffset(text)) => {
                let reason = format!("`{text}` has no offset from UTC, so it could be any hour of a day");
                Err(Problem::parameter(name, reason, format!("append `Z` or `+hh:mm`: {text}Z")))
            }
            Err(_) => {
                let reason = format!("`{}` is neither a timestamp nor a day", shown(text));
                Err(Problem::parameter(name, reason, "write it like 2026-03-01T12:00:00Z or 2026-03-01"))
            }
        }
    }

    /// The ledger position that an answer is wanted of.
    pub(crate) fn position(&self) -> Result<Option<EntryNumber>, Problem> {
        let Some(text) = self.one("position")? else { return Ok(None) };
        let wrong = |_| {
            let reason = format!("`{}` is no ledger position", shown(text));
            Problem::parameter("position", reason, "give the `ledger_position` of an earlier answer, a whole number")
        };
        text.parse().map(Some).map_err(wrong)
    }

    /// A whole number from 1 to `max`.
    pub(crate) fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.one(name)? else { return Ok(default) };
        match text.parse() {
            Ok(count @ 1..) if count <= max => Ok(count),
            _ => {
                let reason = format!("`{}` is no whole number from 1 to {max}", shown(text));
                Err(Problem::parameter(name, reason, format!("leave it out for {default}, or stay within 1 to {max}")))
            }
        }
    }

    /// `from` and `to`, which default to the last `periods_default` periods up to and with the one that is running.
    pub(crate) fn range(
        &self,
        grain: Grain,
        zone: Zone,
        periods_default: i64,
        now: Timestamp,
    ) -> Result<Interval, Problem> {
        let (from, to) = (self.time("from", zone)?, self.time("to", zone)?);
        let end = to.unwrap_or_else(|| zone.window(grain, now).end);
        let start = from.unwrap_or_else(|| zone.back(grain, end, periods_default));
        if start > end {
            let reason = format!("{} is later than `to`, {}", zone.rfc3339(start), zone.rfc3339(end));
            return Err(Problem::parameter("from", reason, "exchange the two"));
        }
        check_begin("from", start, grain, zone)?;
        check_begin("to", end, grain, zone)?;
        Ok(Interval::new(start, end))
    }

    /// `compare`: another range of as many periods, from there on.
    pub(crate) fn compared(&self, range: Interval, grain: Grain, zone: Zone) -> Result<Option<Interval>, Problem> {
        let Some(start) = self.time("compare", zone)? else { return Ok(None) };
        check_begin("compare", start, grain, zone)?;
        // By the clocks of the zone: a week may have an hour more than the one before.
        let (mut time, mut end) = (range.start, start);
        while time < range.end {
            (time, end) = (zone.window(grain, time).end, zone.window(grain, end).end);
        }
        Ok(Some(Interval::new(start, end)))
    }
}

/// Refuses a time at which no period begins.
fn check_begin(name: &str, time: Timestamp, grain: Grain, zone: Zone) -> Result<(), Problem> {
    if !YEARS.contains(&time.day().number()) {
        let reason = "it lies outside of the years 1900 to 2999, or the default before it does";
        return Err(Problem::parameter(name, reason, "nothing is counted there: give a time of this century"));
    }
    let window = zone.window(grain, time);
    if window.start != time {
        let [time, before, after] = [time, window.start, window.end].map(|time| zone.rfc3339(time));
        let reason = format!("{time} does not begin a {grain} in {zone}");
        let mend = format!("use {before} or {after}, or a finer granularity");
        return Err(Problem::parameter(name, reason, mend));
    }
    Ok(())
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    // Common beginnings weigh more than the number of letters that differ: `ad` means `ad_id`, not `to`.
    let likeness = |candidate: &str| strsim::jaro_winkler(&shown(name), candidate);
    let mend = match known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))) {
        Some(nearest) => format!("did you mean `{nearest}`? This address knows {}", known.join(", ")),
        None => "this address takes no parameters".to_owned(),
    };
    Problem::parameter(name, "it is unknown", mend)
}

/// Refuses a range of more periods than one request may ask for.
pub(crate) fn check_size(
    range: Interval,
    grain: Grain,
    series: usize,
    now: Timestamp,
    rows_max: usize,
) -> Result<(), Problem> {
    // What lies in the future is not answered, so it does not count.
    let end = range.end.min(grain.window(now).end);
    let periods = (end.since(range.start).as_millis() / grain.width().as_millis()).max(0) as usize;
    let rows = periods.saturating_mul(series);
    if rows <= rows_max {
        return Ok(());
    }
    let of_series = if series > 1 { format!(" for each of {series} ads") } else { String::new() };
    let reason = format!("the range holds {periods} periods of a {grain}{of_series}; one request may hold {rows_max}");
    Err(Problem::parameter("from", reason, "ask for a shorter range, a coarser granularity or fewer ads"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Result<Params, Problem> {
        let uri: Uri = format!("/v1/clicks?{query}").parse().unwrap();
        Params::read(&uri, &["ad_id", "from", "to", "granularity"])
    }

    #[test]
    fn a_time_is_a_timestamp_or_a_day() {
        let noon = "2026-03-01".parse::<Day>().unwrap().start() + clicks::time::Span::hours(12);
        for text in [
            "2026-03-01T12:00:00Z",
            "2026-03-01T14:00:00%2B02:00",
            "2026-03-01T14:00:00+02:00",
            "2026-03-01T07:00:00-05:00",
        ] {
            assert_eq!(params(&format!("from={text}")).unwrap().time("from", Zone::UTC).unwrap(), Some(noon), "{text}");
        }
        let day = params("from=2026-03-01").unwrap().time("from", Zone::UTC).unwrap();
        assert_eq!(day, Some(noon - clicks::time::Span::hours(12)));
        for text in ["", "now", "2026-02-30", "1772366400000", "2026-03-01T12:00:00", "2026-3-1"] {
            assert!(params(&format!("from={text}")).unwrap().time("from", Zone::UTC).is_err(), "{text}");
        }
    }

    #[test]
    fn ads_may_be_repeated_and_listed() {
        let ads = params("ad_id=b,a&ad_id=c&ad_id=a").unwrap().ads("ad_id", 3).unwrap().unwrap();
        assert_eq!(ads.iter().map(AdId::as_str).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert!(params("ad_id=b,a,c,d").unwrap().ads("ad_id", 3).is_err());
        assert!(params("ad_id=").unwrap().ads("ad_id", 3).is_err());
        assert_eq!(params("").unwrap().ads("ad_id", 3).unwrap(), None);
    }
}
