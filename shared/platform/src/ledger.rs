//! Reading and extending the ledger in an object store.

use bytes::Bytes;
use clicks::books::{Books, BooksError};
use clicks::ledger::{Body, Entry, EntryError, Genesis, entry_key, sha256};
use clicks::tables::EntryNumber;

use crate::objects::{Created, ObjectError, Objects};

/// The ledger of one installation.
#[derive(Debug, Clone)]
pub struct Ledger {
    objects: Objects,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    Ours,
    /// Another process published an entry of this number first. Nothing of ours is visible; read again and decide anew.
    Lost,
}

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("there is no ledger in {0}; `twofold topic create` begins it")]
    Missing(String),
    #[error("the ledger in {url} has no entry {number}; its last one is {head}")]
    NoEntry { url: String, number: EntryNumber, head: EntryNumber },
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error(transparent)]
    Books(#[from] BooksError),
}

impl Ledger {
    pub fn new(objects: Objects) -> Self {
        Ledger { objects }
    }

    /// Where the ledger is, for messages.
    pub fn url(&self) -> &str {
        self.objects.url()
    }

    /// Begins the ledger with entry 0, or finds it begun.
    pub async fn begin(&self, genesis: Genesis) -> Result<Books, LedgerError> {
        let entry = Entry::new(0, String::new(), Body::Genesis(genesis));
        // Whoever came first decides; the entry that is there is read below.
        self.objects.create(&entry_key(0), entry.encode().into()).await?;
        self.read().await
    }

    /// The books at the ledger's head.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] when no ledger was begun here.
    pub async fn read(&self) -> Result<Books, LedgerError> {
        let mut books = self.open().await?;
        self.catch_up(&mut books).await?;
        Ok(books)
    }

    async fn open(&self) -> Result<Books, LedgerError> {
        let Some(bytes) = self.entry_bytes(0).await? else {
            return Err(LedgerError::Missing(self.objects.url().to_owned()));
        };
        Ok(Books::open(&Entry::decode(0, &bytes)?, sha256(&bytes))?)
    }

    /// Applies the entries that were published since. Numbers are consecutive, so the next one is fetched by its name
    /// until there is none: a listing may lack one.
    pub async fn catch_up(&self, books: &mut Books) -> Result<(), LedgerError> {
        loop {
            let number = books.head() + 1;
            let Some(bytes) = self.entry_bytes(number).await? else { return Ok(()) };
            books.apply(&Entry::decode(number, &bytes)?, sha256(&bytes))?;
        }
    }

    /// The books as they were when entry `number` was the last one.
    ///
    /// # Errors
    /// [`LedgerError::NoEntry`] when the ledger does not reach so far.
    pub async fn read_at(&self, number: EntryNumber) -> Result<Books, LedgerError> {
        let mut books = self.open().await?;
        self.read_on(&mut books, number).await?;
        Ok(books)
    }

    /// Applies entries until `number` is the last one. What was applied stays when this is given up.
    ///
    /// # Errors
    /// [`LedgerError::NoEntry`] when the ledger does not reach so far.
    pub async fn read_on(&self, books: &mut Books, number: EntryNumber) -> Result<(), LedgerError> {
        while books.head() < number {
            let Some(bytes) = self.entry_bytes(books.head() + 1).await? else {
                return Err(LedgerError::NoEntry { url: self.objects.url().to_owned(), number, head: books.head() });
            };
            books.apply(&Entry::decode(books.head() + 1, &bytes)?, sha256(&bytes))?;
        }
        Ok(())
    }

    /// The bytes of an entry, as they were written; `None` when there is none of this number.
    pub async fn entry_bytes(&self, number: EntryNumber) -> Result<Option<Bytes>, LedgerError> {
        Ok(self.objects.get(&entry_key(number)).await?)
    }

    /// Publishes the next entry after `books`, and applies it to them. The entry is checked against the books first, so
    /// that nothing that readers would refuse is ever written.
    pub async fn publish(&self, books: &mut Books, body: Body) -> Result<Published, LedgerError> {
        let entry = Entry::new(books.head() + 1, books.head_hash().to_owned(), body);
        let bytes = entry.encode();
        let mut next = books.clone();
        next.apply(&entry, sha256(&bytes))?;
        match self.objects.create(&entry_key(entry.number), bytes.into()).await? {
            Created::Ours => {
                *books = next;
                Ok(Published::Ours)
            }
            Created::Taken(_) => Ok(Published::Lost),
        }
    }
}
