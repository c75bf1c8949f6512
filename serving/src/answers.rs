//! Answers that were given a moment ago: who asks the same again gets the same, without all the work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, Uri, header};
use clicks::id::TenantId;
use clicks::tables::EntryNumber;

use crate::api::Written;
use crate::gate::Caller;

/// All that an answer depends on, beside what is known at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asking {
    address: String,
    accept: Option<Vec<u8>>,
    /// Whose numbers the caller may see; all without it.
    tenant: Option<TenantId>,
}

impl Asking {
    pub(crate) fn new(uri: &Uri, headers: &HeaderMap, caller: &Caller) -> Self {
        let address = uri.path_and_query().map_or_else(String::new, |address| address.as_str().to_owned());
        let accept = headers.get(header::ACCEPT).map(|accept| accept.as_bytes().to_vec());
        Asking { address, accept, tenant: caller.tenant().cloned() }
    }

    fn bytes(&self) -> usize {
        256 + self.address.len() + self.accept.as_ref().map_or(0, Vec::len)
    }
}

/// They are as old as live counts may be, so an answer of here is no older than one that is made anew, and of the same
/// ledger position.
#[derive(Debug)]
pub(crate) struct Answers {
    age_max: Duration,
    bytes_max: usize,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    answers: HashMap<Asking, Arc<Written>>,
    bytes: usize,
}

impl Answers {
    pub(crate) fn new(age_max: Duration, bytes_max: usize) -> Self {
        Answers { age_max, bytes_max, given: Mutex::default() }
    }

    /// The answer that was given to this a moment ago, at this ledger position.
    pub(crate) fn given(&self, asking: &Asking, position: EntryNumber) -> Option<Arc<Written>> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = given.answers.get(asking)?;
        (answer.position == position && answer.read.elapsed() < self.age_max).then(|| answer.clone())
    }

    /// Remembers an answer.
    pub(crate) fn keep(&self, asking: Asking, written: Arc<Written>) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = |asking: &Asking, written: &Written| asking.bytes() + written.bytes();
        if given.bytes + bytes(&asking, &written) > self.bytes_max {
            given.answers.retain(|_, answer| answer.read.elapsed() < self.age_max);
            given.bytes = given.answers.iter().map(|(asking, answer)| bytes(asking, answer)).sum();
            // Young ones all of them: to choose would cost more than to make some again.
            if given.bytes > self.bytes_max / 2 {
                *given = Given::default();
            }
        }
        given.bytes += bytes(&asking, &written);
        if let Some(before) = given.answers.insert(asking.clone(), written) {
            given.bytes -= bytes(&asking, &before);
        }
    }
}
