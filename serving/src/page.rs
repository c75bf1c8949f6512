//! The page: plain files that are part of the binary, so that it works without a network and without a build step.

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clicks::ledger::sha256;

#[derive(Clone, Copy)]
struct File {
    path: &'static str,
    mime: &'static str,
    bytes: &'static [u8],
}

const FILES: [File; 16] = [
    File { path: "/", mime: HTML, bytes: include_bytes!("../page/index.html") },
    File { path: "/status", mime: HTML, bytes: include_bytes!("../page/status.html") },
    File { path: "/status.js", mime: SCRIPT, bytes: include_bytes!("../page/status.js") },
    File { path: "/app.js", mime: SCRIPT, bytes: include_bytes!("../page/app.js") },
    File { path: "/access.js", mime: SCRIPT, bytes: include_bytes!("../page/access.js") },
    File { path: "/dates.js", mime: SCRIPT, bytes: include_bytes!("../page/dates.js") },
    File { path: "/view.js", mime: SCRIPT, bytes: include_bytes!("../page/view.js") },
    File { path: "/campaigns.js", mime: SCRIPT, bytes: include_bytes!("../page/campaigns.js") },
    File { path: "/tables.js", mime: SCRIPT, bytes: include_bytes!("../page/tables.js") },
    File { path: "/shared.js", mime: SCRIPT, bytes: include_bytes!("../page/shared.js") },
    File { path: "/time.js", mime: SCRIPT, bytes: include_bytes!("../page/time.js") },
    File { path: "/chart.js", mime: SCRIPT, bytes: include_bytes!("../page/chart.js") },
    File { path: "/style.css", mime: STYLE, bytes: include_bytes!("../page/style.css") },
    File { path: "/icon.svg", mime: "image/svg+xml", bytes: include_bytes!("../page/icon.svg") },
    File { path: "/uplot/uPlot.js", mime: SCRIPT, bytes: include_bytes!("../page/vendor/uplot/uPlot.iife.min.js") },
    File { path: "/uplot/uPlot.css", mime: STYLE, bytes: include_bytes!("../page/vendor/uplot/uPlot.min.css") },
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Nothing but our own files, and nothing inline: text that got into the page cannot become a program.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, file| {
        let tag = format!("\"{}\"", &sha256(file.bytes)[..32]);
        let tag = HeaderValue::from_str(&tag).expect("a quoted hexadecimal number is a header value");
        let handler = move |headers: HeaderMap| std::future::ready(answer(&file, &tag, &headers));
        router.route(file.path, get(handler))
    })
}

fn answer(file: &File, tag: &HeaderValue, headers: &HeaderMap) -> Response {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| value == tag);
    // Asked for again each time, and answered without a body while nothing has changed: a new release shows at once.
    let fixed = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    match known {
        true => (StatusCode::NOT_MODIFIED, fixed).into_response(),
        false => (fixed, [(header::CONTENT_TYPE, file.mime)], file.bytes).into_response(),
    }
}
