//! What the demo says over HTTP: clicks to the collector, questions to the API. Nothing goes around the front door.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clicks::time::Day;
use serde_json::Value;

/// Clicks of one request: what the collector takes. A click is shorter than 300 bytes, so its limit of the body is kept.
pub const BATCH_MAX: usize = 1_000;

/// An HTTP client of the two front doors.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    collector: SocketAddr,
    page: SocketAddr,
}

/// What the collector did with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub accepted: u64,
    pub rejected: u64,
}

impl Client {
    pub fn new(collector: SocketAddr, page: SocketAddr) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).tcp_nodelay(true).build()?;
        Ok(Client { http, collector, page })
    }

    pub fn collector_url(&self) -> String {
        format!("http://{}/v1/clicks", self.collector)
    }

    pub fn page_url(&self) -> String {
        format!("http://{}/", self.page)
    }

    /// Sends NDJSON and waits for the acknowledgement of every line.
    pub async fn send(&self, lines: String) -> Result<Answer> {
        let request = self.http.post(self.collector_url()).header("content-type", "application/x-ndjson").body(lines);
        let response = request.send().await.context("sending clicks to the collector")?;
        let status = response.status().as_u16();
        let text = response.text().await.context("reading the collector's answer")?;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        match status {
            202 => {
                let count = |name: &str| body[name].as_u64().with_context(|| format!("`{name}` is missing in {text}"));
                Ok(Answer { accepted: count("accepted")?, rejected: count("rejected")? })
            }
            // Not one line was accepted.
            422 => {
                Ok(Answer { accepted: 0, rejected: body["errors"].as_array().map_or(1, |errors| errors.len() as u64) })
            }
            _ => bail!("the collector answered {status}: {text}"),
        }
    }

    /// Clicks of all ads on one day as the merged view tells it.
    pub async fn day(&self, day: Day) -> Result<DayAnswer> {
        let path = format!("/v1/clicks?from={}&to={}&granularity=day", day.start(), day.end());
        let body = self.get(&path).await?;
        let period = &body["data"][0];
        let text = |name: &str| period[name].as_str().unwrap_or_default().to_owned();
        Ok(DayAnswer {
            total: period["total"].as_u64(),
            source: text("source"),
            state: text("state"),
            complete: body["meta"]["complete"].as_bool().unwrap_or(false),
        })
    }

    /// The ads with the most clicks from the start of one day to the end of another, and how many ads there are.
    pub async fn top_ads(&self, first: Day, last: Day, limit: usize) -> Result<(u64, Vec<(String, u64)>)> {
        let body = self.get(&format!("/v1/ads?from={}&to={}&limit={limit}", first.start(), last.end())).await?;
        let rows = body["data"].as_array().context("`data` is missing")?.iter();
        let row = |row: &Value| Some((row["ad_id"].as_str()?.to_owned(), row["total"].as_u64()?));
        Ok((body["count"].as_u64().unwrap_or(0), rows.filter_map(row).collect()))
    }

    /// Clicks of some ads on each of some days, ad by ad in the order given; `None` where it is unknown.
    pub async fn ads_by_day(&self, ads: &[&str], first: Day, last: Day) -> Result<Vec<Vec<Option<u64>>>> {
        let (ids, from, to) = (ads.join(","), first.start(), last.end());
        let body = self.get(&format!("/v1/clicks?ad_id={ids}&from={from}&to={to}&granularity=day")).await?;
        let rows = body["data"].as_array().context("`data` is missing")?;
        let of_ad =
            |ad: &&str| rows.iter().filter(|row| row["ad_id"] == **ad).map(|row| row["total"].as_u64()).collect();
        Ok(ads.iter().map(of_ad).collect())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let url = format!("http://{}{path}", self.page);
        let response = self.http.get(&url).send().await.with_context(|| format!("asking {url}"))?;
        let status = response.status();
        let text = response.text().await.with_context(|| format!("reading the answer of {url}"))?;
        if !status.is_success() {
            bail!("{url} answered {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{url} answered no JSON: {text}"))
    }
}

/// One day of the merged view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayAnswer {
    pub total: Option<u64>,
    pub source: String,
    pub state: String,
    pub complete: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clicks::event::Click;
    use clicks::id::{AdId, ClickId, NAME_LENGTH_MAX, UserId};
    use clicks::time::Timestamp;

    #[test]
    fn a_full_request_of_the_longest_clicks_keeps_the_collectors_limits() {
        let name = "x".repeat(NAME_LENGTH_MAX);
        let click = Click {
            click_id: ClickId::from_u128(1),
            ad_id: AdId::parse(&name).unwrap(),
            user_id: UserId::parse(&name).unwrap(),
            event_time: Timestamp::EPOCH,
        };
        let limits = collector::Options::default();
        assert!(BATCH_MAX <= limits.batch_max);
        assert!(BATCH_MAX * (clicks::wire::encode(&click).len() + 1) <= limits.body_limit_bytes);
    }
}
