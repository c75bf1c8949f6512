//! The ads table, as it was last loaded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clicks::ads::AdsTable;
use clicks::view::Reason;
use platform::ads::{Ads, AdsError};

use crate::problem::Problem;

/// Deadline of one reading of the table.
const READ_MAX: Duration = Duration::from_secs(60);

/// One version of the table. A request takes one and keeps it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Version {
    /// 0: nothing was ever loaded.
    pub number: u64,
    pub table: Arc<AdsTable>,
    /// Why it is not known whether it is the last.
    trouble: Option<String>,
}

impl Version {
    /// What stands against every answer that depends on it.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let detail = self.trouble.clone()?;
        Some(Reason::AdsStale { version: self.number, detail })
    }
}

/// The last version of the table, looked for from time to time.
#[derive(Debug)]
pub(crate) struct Catalog {
    ads: Ads,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    version: Option<Version>,
    /// Why it could not be read.
    trouble: Option<String>,
}

impl Catalog {
    pub(crate) fn new(ads: Ads) -> Self {
        let trouble = Some("the ads table has not been read yet".to_owned());
        Catalog { ads, current: Mutex::new(Current { version: None, trouble }) }
    }

    /// The last version that was read; what cannot be read any more stays as it was.
    ///
    /// # Errors
    /// When none was ever read.
    pub(crate) fn current(&self) -> Result<Version, Problem> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = || Problem::no_table(current.trouble.clone().unwrap_or_default());
        current.version.clone().ok_or_else(trouble)
    }

    /// Reads what was loaded since.
    pub(crate) async fn catch_up(&self) {
        let known = self.current.lock().unwrap_or_else(PoisonError::into_inner).version.clone();
        let read = tokio::time::timeout(READ_MAX, self.read_on(known)).await;
        let read = read.map_err(|_| format!("no answer within {READ_MAX:?}"));
        let read = read.and_then(|read| read.map_err(|error| error.to_string()));
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(version) => {
                metrics::gauge!("twofold_serving_ads_version").set(version.number as f64);
                *current = Current { version: Some(version), trouble: None };
            }
            Err(trouble) => {
                metrics::counter!("twofold_serving_ads_failures_total").increment(1);
                if current.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!("the ads table cannot be read, its last version stays: {trouble}");
                }
                if let Some(version) = &mut current.version {
                    version.trouble = Some(trouble.clone());
                }
                current.trouble = Some(trouble);
            }
        }
    }

    async fn read_on(&self, known: Option<Version>) -> Result<Version, AdsError> {
        let number = self.ads.last(known.as_ref().map_or(0, |version| version.number)).await?;
        match known {
            Some(version) if version.number == number => Ok(Version { trouble: None, ..version }),
            _ => Ok(Version { number, table: Arc::new(self.ads.read(number).await?), trouble: None }),
        }
    }
}
