//! What stands before the router. Who asks again what was answered a moment ago is answered here, once it is let in; the
//! router and all that lies around it would cost several times as much.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use futures::FutureExt;
use futures::future::{BoxFuture, Either};
use metrics::Counter;
use tower::Service;

use crate::answers::{Answer, Asking, Turn};
use crate::api::{Admitted, App, Measures, Needs};
use crate::gate::{Allowance, Caller};

/// The server as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    app: Arc<App>,
    router: Router,
    repeated: Arc<[Repeated]>,
    answered: Counter,
}

/// An address whose answers are given again.
#[derive(Debug)]
struct Repeated {
    path: &'static str,
    needs: Needs,
    measures: Measures,
}

/// A question at such an address, of a caller who was let in.
struct Asked {
    place: usize,
    begun: Instant,
    caller: Caller,
    allowance: Option<Allowance>,
    /// The tags of answers that the client holds.
    known: Vec<HeaderValue>,
}

/// How often a question waits for an answer that somebody else makes.
const WAITS_MAX: u32 = 2;

impl Front {
    /// `paths`: whose answers are given again, and what they need.
    pub(crate) fn new(app: Arc<App>, router: Router, paths: &[(&'static str, Needs)]) -> Self {
        let repeated = |(path, needs): &(&'static str, Needs)| {
            let (path, needs) = (*path, *needs);
            Repeated { path, needs, measures: Measures::new(path) }
        };
        let answered = metrics::counter!("twofold_serving_answers_repeated_total");
        Front { app, router, repeated: paths.iter().map(repeated).collect(), answered }
    }

    /// `None` for what the router answers alone: other addresses, and callers that are not let in, who are told so there.
    fn admit(&self, request: &Request) -> Option<Asked> {
        let (begun, headers) = (Instant::now(), request.headers());
        let is_here = |repeated: &Repeated| repeated.path == request.uri().path();
        let place = self.repeated.iter().position(is_here).filter(|_| is_question(request.method()))?;
        let caller = self.app.gate.known(headers).ok().flatten()?;
        self.repeated[place].needs.allow(&caller).ok()?;
        let allowance = self.app.gate.take(&caller).ok()?;
        let known = headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect();
        Some(Asked { place, begun, caller, allowance, known })
    }

    fn give(&self, answer: &Answer, asked: &Asked) -> Response {
        self.answered.increment(1);
        self.end(answer.respond(&asked.known), asked)
    }

    /// What differs from one caller to the next, and from one request to the next.
    fn end(&self, mut response: Response, asked: &Asked) -> Response {
        if let Some(allowance) = asked.allowance {
            allowance.tell(response.headers_mut());
        }
        self.repeated[asked.place].measures.record(response.status(), asked.begun.elapsed());
        response
    }

    async fn answer(mut self, mut turn: Option<(Turn, Asking)>, mut request: Request, asked: Asked) -> Response {
        let mut waits = 0;
        let making = loop {
            match turn {
                Some((Turn::Given(answer), _)) => return self.give(&answer, &asked),
                Some((Turn::Wait(mut over), asking)) if waits < WAITS_MAX => {
                    let since = Instant::now();
                    _ = over.changed().await;
                    if let Some(answer) = self.app.answers.last(&asking, since).filter(|answer| self.is_current(answer))
                    {
                        return self.give(&answer, &asked);
                    }
                    // There is none, or it was read too long ago: the next one makes it, and the others wait once more.
                    waits += 1;
                    turn = self.app.sources.positions.head().map(|head| (self.app.answers.turn(&asking, head), asking));
                }
                Some((Turn::Make(making), _)) => break Some(making),
                // Everybody for himself.
                Some((Turn::Wait(_), _)) | None => break None,
            }
        };
        // What is remembered is for everybody.
        request.headers_mut().remove(header::IF_NONE_MATCH);
        request.extensions_mut().insert(Admitted(asked.caller.clone()));
        let response = self.router.call(request).await.unwrap_or_else(|never| match never {});
        let answer = match making {
            Some(making) => making.end(response).await,
            None => Answer::of(response).await,
        };
        let response = answer.map_or_else(|response| response, |answer| answer.respond(&asked.known));
        self.end(response, &asked)
    }

    fn is_current(&self, answer: &Answer) -> bool {
        self.app.sources.positions.head().is_some_and(|head| answer.position() >= head)
    }
}

/// The answer to HEAD is that to GET, of which the server sends the head.
fn is_question(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(asked) = self.admit(&request) else { return Either::Right(self.router.call(request).boxed()) };
        let asking = Asking::new(&request, &asked.caller).zip(self.app.sources.positions.head());
        let turn = asking.map(|(asking, head)| (self.app.answers.turn(&asking, head), asking));
        if let Some((Turn::Given(answer), _)) = &turn {
            return Either::Left(ready(Ok(self.give(answer, &asked))));
        }
        Either::Right(self.clone().answer(turn, request, asked).map(Ok).boxed())
    }
}
