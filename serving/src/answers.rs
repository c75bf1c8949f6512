//! Answers that were given a moment ago: who asks the same again gets the same, without all the work, and as it was
//! compressed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clicks::id::TenantId;
use clicks::tables::EntryNumber;
use tokio::sync::watch;

use crate::api::App;
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
    answers: HashMap<Asking, Arc<Answer>>,
    bytes: usize,
    making: HashMap<Asking, watch::Receiver<()>>,
}

/// All that an answer depends on, beside what is known at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asking {
    address: String,
    accept: Vec<HeaderValue>,
    encoding: Vec<HeaderValue>,
    /// Whose numbers the caller may see; all without it.
    tenant: Option<TenantId>,
}

#[derive(Debug)]
struct Answer {
    headers: HeaderMap,
    body: Bytes,
    basis: Basis,
}

/// What is done about a question.
enum Turn<'a> {
    Given(Arc<Answer>),
    /// Somebody is making the answer.
    Wait(watch::Receiver<()>),
    Make(Making<'a>),
}

/// The answer to a question is being made. Whoever waits for it is told when that is over, whatever it ends with.
struct Making<'a> {
    answers: &'a Answers,
    asking: Asking,
    _over: watch::Sender<()>,
}

/// Gives the answer that was given to the same question a moment ago, or lets it be answered, once for all who ask it at
/// the same time. A client that holds an answer with the same tag is told so.
pub(crate) async fn repeat(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    // What is remembered is for everybody.
    let known: Vec<HeaderValue> = request.headers().get_all(header::IF_NONE_MATCH).iter().cloned().collect();
    request.headers_mut().remove(header::IF_NONE_MATCH);
    let head = app.sources.positions.current().ok().map(|position| position.books.head());
    let asking = Asking::new(&request);
    let mut making = None;
    if let Some((asking, head)) = asking.as_ref().zip(head) {
        let given = match app.answers.turn(asking, head) {
            Turn::Given(answer) => Some(answer),
            Turn::Wait(mut over) => {
                let asked = Instant::now();
                // It is over when its maker is gone. Without an answer everybody tries for himself.
                _ = over.changed().await;
                app.answers.last(asking, asked).filter(|answer| answer.basis.position >= head)
            }
            Turn::Make(turn) => {
                making = Some(turn);
                None
            }
        };
        if let Some(answer) = given {
            metrics::counter!("twofold_serving_answers_repeated_total").increment(1);
            return answer.respond(&known);
        }
    }
    let response = next.run(request).await;
    let Some(basis) = response.extensions().get::<Basis>().copied() else { return response };
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("an answer lies in memory");
    let answer = Arc::new(Answer { headers: parts.headers, body, basis });
    if let Some(asking) = asking {
        app.answers.keep(asking, answer.clone());
    }
    drop(making);
    answer.respond(&known)
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.answers.given().making.remove(&self.asking);
    }
}

impl Asking {
    /// `None` for what is no plain question.
    fn new(request: &Request) -> Option<Self> {
        let of = |name| request.headers().get_all(name).iter().cloned().collect();
        let address = request.uri().path_and_query()?.as_str().to_owned();
        let caller = request.extensions().get::<Caller>()?;
        let (accept, encoding) = (of(header::ACCEPT), of(header::ACCEPT_ENCODING));
        let tenant = caller.tenant().cloned();
        // What is asked of an earlier position is never of the last one.
        let is_pinned = request.uri().query().is_some_and(|query| query.contains("position="));
        (request.method() == Method::GET && !is_pinned).then_some(Asking { address, accept, encoding, tenant })
    }

    fn bytes(&self) -> usize {
        let headers = self.accept.iter().chain(&self.encoding).map(HeaderValue::len).sum::<usize>();
        256 + self.address.len() + headers
    }
}

impl Answer {
    fn bytes(&self) -> usize {
        self.body.len() + 64 * self.headers.len()
    }

    fn respond(&self, known: &[HeaderValue]) -> Response {
        let mut headers = self.headers.clone();
        let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        if tag.is_some_and(|tag| known.iter().any(|known| names(known, tag))) {
            // What would describe the body that is not sent.
            let of_body =
                [header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::CONTENT_ENCODING, header::CONTENT_LENGTH];
            of_body.iter().for_each(|name| _ = headers.remove(name));
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, Body::from(self.body.clone())).into_response()
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

    fn turn(&self, asking: &Asking, head: EntryNumber) -> Turn<'_> {
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
        Turn::Make(Making { answers: self, asking: asking.clone(), _over: tell })
    }

    /// The last answer to this, if it was young at that time.
    fn last(&self, asking: &Asking, time: Instant) -> Option<Arc<Answer>> {
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
    fn memory_is_bounded_and_what_is_old_or_of_another_position_is_not_given() {
        let answers = Answers::new(Duration::from_secs(3600), 100_000);
        let asking =
            |n: usize| Asking { address: format!("/{n}"), accept: Vec::new(), encoding: Vec::new(), tenant: None };
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
        let answers = Answers::new(Duration::from_secs(1), 1_000);
        let asking = Asking { address: "/".to_owned(), accept: Vec::new(), encoding: Vec::new(), tenant: None };
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
