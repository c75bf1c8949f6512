//! Answers that were given a moment ago: who asks the same again gets the same, without all the work, and as it was
//! compressed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use clicks::tables::EntryNumber;
use foldhash::fast::RandomState;
use tokio::sync::watch;

use crate::gate::Caller;

/// What a handler tells of an answer that may be given again, as an extension of its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Basis {
    /// The ledger position that it was given at.
    pub position: EntryNumber,
    /// Every click that was stored before it is in the answer.
    pub read: Instant,
}

/// Answers are at most as old as live counts may be, and of the last ledger position, so one of here is no older than one
/// that is made anew.
#[derive(Debug)]
pub(crate) struct Answers {
    age_max: Duration,
    bytes_max: usize,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    answers: HashMap<Asking, Arc<Answer>, RandomState>,
    bytes: usize,
    making: HashMap<Asking, watch::Receiver<()>, RandomState>,
}

/// All that an answer depends on, beside what is known at the moment: the address, some headers, and whose numbers the caller
/// may see. None of its parts can hold a line feed, which ends each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asking(Vec<u8>);

#[derive(Debug)]
pub(crate) struct Answer {
    headers: HeaderMap,
    body: Bytes,
    basis: Basis,
}

/// What is done about a question.
pub(crate) enum Turn {
    Given(Arc<Answer>),
    /// Somebody is making the answer. It is over when that one is gone, with an answer or without one.
    Wait(watch::Receiver<()>),
    Make(Making),
}

/// The answer to a question is being made. Whoever waits for it is told when that is over, whatever it ends with.
pub(crate) struct Making {
    answers: Arc<Answers>,
    asking: Asking,
    _over: watch::Sender<()>,
}

impl Making {
    /// The answer, for everybody who asks the same, if the handler says what it was made of.
    pub(crate) async fn end(self, response: Response) -> Result<Arc<Answer>, Response> {
        let answer = Answer::of(response).await?;
        self.answers.keep(self.asking.clone(), answer.clone());
        Ok(answer)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.answers.given().making.remove(&self.asking);
    }
}

/// Headers that may change an answer.
const ASKED_BY: [header::HeaderName; 3] = [header::ACCEPT, header::ACCEPT_ENCODING, header::ORIGIN];

impl Asking {
    /// `None` for what is asked too seldom to be kept, and for an earlier position of the ledger: it is never that of the last one.
    pub(crate) fn new(request: &Request, caller: &Caller) -> Option<Self> {
        let is_pinned = request.uri().query().is_some_and(|query| query.contains("position="));
        if request.method() != Method::GET || is_pinned {
            return None;
        }
        let mut key = Vec::with_capacity(256);
        key.extend(request.uri().path_and_query()?.as_str().as_bytes());
        for name in &ASKED_BY {
            for value in request.headers().get_all(name) {
                key.push(b'\r');
                key.extend(value.as_bytes());
            }
            key.push(b'\n');
        }
        // One without a key sees all, too, and may be told so by caches that others share.
        let whose = caller.tenant().map_or("", |tenant| tenant.as_str());
        key.extend(if caller.key.is_some() { b"key " } else { b"all " });
        key.extend(whose.as_bytes());
        Some(Asking(key))
    }

    fn bytes(&self) -> usize {
        256 + self.0.len()
    }
}

impl Answer {
    fn bytes(&self) -> usize {
        self.body.len() + self.headers.values().map(|value| 64 + value.len()).sum::<usize>()
    }

    /// `None` as an error: the response, of which the handler does not say what it was made of.
    pub(crate) async fn of(response: Response) -> Result<Arc<Self>, Response> {
        let Some(basis) = response.extensions().get::<Basis>().copied() else { return Err(response) };
        let (mut parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("an answer lies in memory");
        // Each layer adds a line of its own.
        let varies: Vec<&str> = parts.headers.get_all(header::VARY).iter().filter_map(|it| it.to_str().ok()).collect();
        let varies = HeaderValue::from_str(&varies.join(", ")).expect("parts of headers make one");
        parts.headers.insert(header::VARY, varies);
        Ok(Arc::new(Answer { headers: parts.headers, body, basis }))
    }

    pub(crate) fn position(&self) -> EntryNumber {
        self.basis.position
    }

    /// The answer, for a client that holds answers with these tags.
    pub(crate) fn respond(&self, known: &[HeaderValue]) -> Response {
        let tag = self.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let is_known = tag.is_some_and(|tag| known.iter().any(|known| names(known, tag)));
        let mut response = Response::new(if is_known { Body::empty() } else { Body::from(self.body.clone()) });
        *response.headers_mut() = self.headers.clone();
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            // What would describe the body that is not sent.
            let of_body =
                [header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::CONTENT_ENCODING, header::CONTENT_LENGTH];
            of_body.iter().for_each(|name| _ = response.headers_mut().remove(name));
        }
        response
    }
}

/// Whether a value of `If-None-Match` names the tag.
fn names(value: &HeaderValue, tag: &str) -> bool {
    let bare = tag.trim_start_matches("W/");
    let listed = value.to_str().unwrap_or_default().split(',').map(str::trim);
    listed.into_iter().any(|known| known == "*" || known.trim_start_matches("W/") == bare)
}

impl Answers {
    pub(crate) fn new(age_max: Duration, bytes_max: usize) -> Self {
        Answers { age_max, bytes_max, given: Mutex::default() }
    }

    fn is_young(&self, answer: &Answer) -> bool {
        answer.basis.read.elapsed() < self.age_max
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn turn(self: &Arc<Self>, asking: &Asking, head: EntryNumber) -> Turn {
        let mut given = self.given();
        let answer = given.answers.get(asking);
        if let Some(answer) = answer.filter(|answer| answer.basis.position == head && self.is_young(answer)) {
            return Turn::Given(answer.clone());
        }
        if let Some(over) = given.making.get(asking) {
            return Turn::Wait(over.clone());
        }
        let (tell, over) = watch::channel(());
        given.making.insert(asking.clone(), over);
        Turn::Make(Making { answers: self.clone(), asking: asking.clone(), _over: tell })
    }

    /// The last answer to this, if it was young at that time.
    pub(crate) fn last(&self, asking: &Asking, time: Instant) -> Option<Arc<Answer>> {
        let given = self.given();
        given.answers.get(asking).filter(|answer| answer.basis.read + self.age_max >= time).cloned()
    }

    fn keep(&self, asking: Asking, answer: Arc<Answer>) {
        let mut given = self.given();
        let bytes = |asking: &Asking, answer: &Answer| asking.bytes() + answer.bytes();
        if bytes(&asking, &answer) > self.bytes_max / 2 {
            return;
        }
        if given.bytes + bytes(&asking, &answer) > self.bytes_max {
            given.answers.retain(|_, answer| self.is_young(answer));
            given.bytes = given.answers.iter().map(|(asking, answer)| bytes(asking, answer)).sum();
            // Young ones all of them: to choose would cost more than to make some again.
            if given.bytes > self.bytes_max / 2 {
                (given.answers, given.bytes) = Default::default();
            }
        }
        given.bytes += bytes(&asking, &answer);
        if let Some(before) = given.answers.insert(asking.clone(), answer) {
            given.bytes -= bytes(&asking, &before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_any_list() {
        for (value, known) in [("*", true), ("\"b\", W/\"a\"", true), ("\"a\"", true), ("W/\"b\"", false), ("a", false)]
        {
            assert_eq!(names(&HeaderValue::from_static(value), "W/\"a\""), known, "{value}");
        }
    }

    #[test]
    fn all_that_changes_an_answer_makes_another_question() {
        let anybody = Caller { key: None };
        let asking = |address: &str, headers: &[(header::HeaderName, &'static str)]| {
            let mut request = Request::builder().uri(address).body(Body::empty()).unwrap();
            for (name, value) in headers {
                request.headers_mut().append(name, HeaderValue::from_static(value));
            }
            Asking::new(&request, &anybody).unwrap()
        };
        let (accept, encoding, origin) = (header::ACCEPT, header::ACCEPT_ENCODING, header::ORIGIN);
        let others = [
            asking("/a", &[]),
            asking("/a?b", &[]),
            asking("/a", &[(accept.clone(), "text/csv")]),
            asking("/a", &[(encoding.clone(), "text/csv")]),
            asking("/a", &[(origin.clone(), "text/csv")]),
            asking("/a", &[(encoding.clone(), "gzip"), (encoding.clone(), "zstd")]),
            asking("/a", &[(encoding, "gzip, zstd")]),
            asking("/a", &[(accept, "gzip"), (origin, "zstd")]),
        ];
        assert_eq!(others.iter().collect::<std::collections::HashSet<_>>().len(), others.len());
        assert_eq!(asking("/a", &[(header::USER_AGENT, "x")]), others[0]);
    }

    #[test]
    fn memory_is_bounded_and_what_is_old_or_of_another_position_is_not_given() {
        let answers = Arc::new(Answers::new(Duration::from_secs(3600), 100_000));
        let asking = |n: usize| Asking(format!("/{n}").into_bytes());
        let answer = |position, read| {
            let basis = Basis { position, read };
            Arc::new(Answer { headers: HeaderMap::new(), body: vec![0; 1_000].into(), basis })
        };
        let now = Instant::now();
        for n in 0..1_000 {
            answers.keep(asking(n % 300), answer(7, now));
            let given = answers.given.lock().unwrap();
            let bytes: usize = given.answers.iter().map(|(asking, answer)| asking.bytes() + answer.bytes()).sum();
            assert!(bytes == given.bytes && bytes <= 100_000, "{n}: {bytes} {}", given.bytes);
        }
        let is_given = |n: usize, head| matches!(answers.turn(&asking(n), head), Turn::Given(_));
        assert!(is_given(999 % 300, 7));
        assert!(!is_given(999 % 300, 8), "another position");
        assert!(!is_given(301, 7), "another question");
        answers.keep(asking(1), answer(7, now.checked_sub(Duration::from_secs(3601)).unwrap_or(now)));
        assert!(!is_given(1, 7), "too old");
    }

    #[tokio::test]
    async fn who_asks_while_an_answer_is_made_waits_for_its_end() {
        let answers = Arc::new(Answers::new(Duration::from_secs(1), 1_000));
        let asking = Asking(b"/".to_vec());
        for _ in 0..2 {
            let Turn::Make(making) = answers.turn(&asking, 1) else { panic!("nobody makes it") };
            let Turn::Wait(mut over) = answers.turn(&asking, 1) else { panic!("somebody makes it") };
            let waits = tokio::time::timeout(Duration::from_millis(20), over.changed()).await;
            assert!(waits.is_err(), "it is being made");
            // Whether it was answered or not, and if its client went away.
            drop(making);
            assert!(over.changed().await.is_err());
            assert!(answers.given().making.is_empty());
        }
    }
}
