//! The versions of the ads table in an object store.

use bytes::Bytes;
use clicks::ads::{
    AdsTable, AdsVersion, FileError, RowsRef, TableError, VERSIONS, VersionError, number_of, parse, rows_key, to_csv,
    version_key,
};
use clicks::ledger::sha256;
use clicks::time::Timestamp;

use crate::objects::{Created, ObjectError, Objects};

/// The ads table of one installation.
#[derive(Debug, Clone)]
pub struct Ads {
    objects: Objects,
}

/// What can go wrong with the ads table.
#[derive(Debug, thiserror::Error)]
pub enum AdsError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error("the ads table in {url} has no version {number}; its last one is {last}")]
    NoVersion { url: String, number: u64, last: u64 },
    #[error(
        "version {number} of the ads table: `{key}` {what}; load all ads again, with `twofold ads load FILE --replace --allow-moves`"
    )]
    Rows { number: u64, key: String, what: String },
    #[error(
        "somebody else has loaded version {0} of the ads table at the same time: look at what it holds, and load again"
    )]
    Lost(u64),
}

/// Who loads ads, and what from.
#[derive(Debug, Clone)]
pub struct Load {
    pub actor: String,
    /// The name of the file.
    pub source: String,
    pub at: Timestamp,
}

impl Ads {
    pub fn new(objects: Objects) -> Self {
        Ads { objects }
    }

    /// The number of the last version; 0 while there is none. It is not less than `known`, a version that is there.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn last(&self, known: u64) -> Result<u64, AdsError> {
        let after = (known > 0).then(|| version_key(known));
        let listed = self.objects.list(VERSIONS, after.as_deref()).await?;
        let mut last = listed.iter().filter_map(|object| number_of(&object.key)).max().unwrap_or(known);
        // A listing may lack one.
        while self.objects.get(&version_key(last + 1)).await?.is_some() {
            last += 1;
        }
        Ok(last)
    }

    /// The record of a version.
    ///
    /// # Errors
    /// [`AdsError::NoVersion`] when there is none.
    pub async fn record(&self, number: u64) -> Result<AdsVersion, AdsError> {
        match self.objects.get(&version_key(number)).await? {
            Some(bytes) => Ok(AdsVersion::decode(number, &bytes)?),
            None => Err(AdsError::NoVersion { url: self.objects.url().to_owned(), number, last: self.last(0).await? }),
        }
    }

    /// All ads of a version; of version 0, none.
    ///
    /// # Errors
    /// When the rows are not those that the record names.
    pub async fn read(&self, number: u64) -> Result<AdsTable, AdsError> {
        if number == 0 {
            return Ok(AdsTable::default());
        }
        let rows = self.record(number).await?.rows;
        let wrong = |what: String| AdsError::Rows { number, key: rows.key.clone(), what };
        let bytes = self.objects.get(&rows.key).await?.ok_or_else(|| wrong("is not there".to_owned()))?;
        if sha256(&bytes) != rows.sha256 {
            return Err(wrong("does not hold what was loaded".to_owned()));
        }
        // A large table takes a second.
        let table = tokio::task::spawn_blocking(move || table(&bytes));
        table.await.unwrap_or_else(|panic| Err(panic.to_string())).map_err(wrong)
    }

    /// Publishes `table` as the version after `before`, which it was made from, and returns the record.
    ///
    /// # Errors
    /// [`AdsError::Lost`] when there is such a version already; nothing of ours is visible then.
    pub async fn publish(
        &self,
        (number, before): (u64, &AdsTable),
        table: &AdsTable,
        load: Load,
    ) -> Result<AdsVersion, AdsError> {
        let csv = Bytes::from(to_csv(table.rows()));
        let sha256 = sha256(&csv);
        let (bytes, count) = (csv.len() as u64, table.rows().len() as u64);
        let rows = RowsRef { key: rows_key(&sha256), sha256, bytes, count };
        // First, so that whoever sees the record finds them. A key names its content, so what else is found there is damaged.
        if let Created::Taken(found) = self.objects.create(&rows.key, csv.clone()).await?
            && found != csv
        {
            self.objects.put(&rows.key, csv).await?;
        }
        let change = table.change_from(before);
        let record = AdsVersion::new(number + 1, rows, load.at, load.actor, load.source, change);
        match self.objects.create(&version_key(record.number), record.encode().into()).await? {
            Created::Ours => Ok(record),
            Created::Taken(_) => Err(AdsError::Lost(record.number)),
        }
    }
}

fn table(csv: &[u8]) -> Result<AdsTable, String> {
    let rows = parse(csv).map_err(|error: FileError| error.to_string())?;
    AdsTable::new(rows).map_err(|error: TableError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &[&str]) -> AdsTable {
        let text = format!("{}\n{}\n", clicks::ads::COLUMNS.join(","), lines.join("\n"));
        AdsTable::new(parse(text.as_bytes()).unwrap()).unwrap()
    }

    fn load(actor: &str) -> Load {
        Load { actor: actor.to_owned(), source: "ads.csv".to_owned(), at: Timestamp::EPOCH }
    }

    #[tokio::test]
    async fn of_two_who_load_at_once_one_is_told_and_nothing_of_it_is_seen() {
        let objects = Objects::memory();
        let ads = Ads::new(objects.clone());
        assert_eq!(ads.last(0).await.unwrap(), 0);
        let none = ads.read(0).await.unwrap();
        let [one, two] = ["a,t,c,n,1,EUR,2026-03-01", "b,t,c,n,,,2026-03-01"].map(|line| table(&[line]));
        let first = ads.publish((0, &none), &one, load("ann")).await.unwrap();
        assert_eq!((first.number, first.change.added), (1, 1));
        let lost = ads.publish((0, &none), &two, load("bob")).await.unwrap_err();
        assert!(matches!(lost, AdsError::Lost(1)), "{lost}");
        assert_eq!((ads.last(0).await.unwrap(), ads.read(1).await.unwrap()), (1, one.clone()));
        ads.publish((1, &one), &two, load("bob")).await.unwrap();
        for known in 0..=2 {
            assert_eq!(ads.last(known).await.unwrap(), 2);
        }
        assert_eq!(ads.read(1).await.unwrap(), one, "earlier versions stay");
        assert_eq!(ads.read(2).await.unwrap(), two);
        let none = ads.read(3).await.unwrap_err().to_string();
        assert!(none.ends_with("has no version 3; its last one is 2"), "{none}");
        let rows = ads.record(2).await.unwrap().rows;
        objects.put(&rows.key, "x".into()).await.unwrap();
        let changed = ads.read(2).await.unwrap_err().to_string();
        ads.publish((2, &two), &two, load("ann")).await.unwrap();
        assert_eq!(ads.read(3).await.unwrap(), two, "publishing the same again mends it");
        assert!(changed.contains("does not hold what was loaded; load all ads again"), "{changed}");
    }
}
