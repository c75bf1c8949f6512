//! What a person decides about closed days: each is one entry of the ledger.

use clicks::books::{Books, BooksError, PeriodState};
use clicks::ledger::{Body, PeriodAction, PeriodChange};
use clicks::tables::EntryNumber;
use clicks::time::Day;
use platform::clock::Clock;
use platform::ledger::{Ledger, LedgerError, Published};
use platform::objects::Objects;

use crate::archived::Archived;
use crate::error::BatchError;
use crate::previous::check_still_there;

/// Records that `actor` approves, holds or reopens `day`, and why. Gives the entry.
///
/// # Errors
/// [`BatchError::Period`] when the day's state does not permit it; [`BatchError::Input`] when a day is to be reopened of
/// which raw objects are gone.
pub async fn change_period(
    objects: &Objects,
    ledger: &Ledger,
    clock: &dyn Clock,
    day: Day,
    action: PeriodAction,
    actor: &str,
    reason: &str,
) -> Result<EntryNumber, BatchError> {
    let mut books = ledger.read().await?;
    loop {
        check_raw(objects, &books, day, action).await?;
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        let change = PeriodChange { day, action, actor, reason, at: clock.now() };
        match ledger.publish(&mut books, Body::Period(change)).await {
            Ok(Published::Ours) => return Ok(books.head()),
            // A night may have come in between, so whether it is permitted is asked anew.
            Ok(Published::Lost) => ledger.catch_up(&mut books).await?,
            Err(LedgerError::Books(BooksError::Period { day, state, action, mend, .. })) => {
                return Err(BatchError::Period { day, state, action, mend });
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A day that is reopened will be counted again, for which its raw objects are needed.
async fn check_raw(objects: &Objects, books: &Books, day: Day, action: PeriodAction) -> Result<(), BatchError> {
    let is_final = matches!(books.state(day), PeriodState::Final | PeriodState::Adjusted);
    if action != PeriodAction::Reopen || !is_final || books.day(day).is_none() {
        return Ok(());
    }
    let archived = Archived::read(objects, books).await?;
    check_still_there(objects, books, &archived, day).await
}
