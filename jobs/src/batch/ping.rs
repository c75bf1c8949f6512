//! Telling a dead-man service (healthchecks.io and its like) that the batch is alive: it raises the alarm when it hears
//! nothing. A ping that fails is logged and changes nothing.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use platform::settings::Secret;
use reqwest::{Client, Url};

use crate::exit::{Exit, Misconfigured};

/// A night is not held up for longer by a service that does not answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where to ping; nowhere without a URL.
#[derive(Debug)]
pub(super) struct Pings(Option<(Client, Url)>);

impl Pings {
    pub(super) fn new(url: Option<&Secret>) -> Result<Self> {
        let Some(url) = url else { return Ok(Pings(None)) };
        let client = Client::builder().timeout(TIMEOUT).build().context("the HTTP client for pings")?;
        Ok(Pings(Some((client, parse(url.reveal()).map_err(Misconfigured::new)?))))
    }

    pub(super) async fn start(&self) {
        self.ping(Some("start")).await;
    }

    /// Success is told, and failure; a run that is to be tried again (10, 11) is neither: the service waits on.
    pub(super) async fn end(&self, exit: Exit) {
        match exit {
            Exit::Done => self.ping(None).await,
            Exit::Incomplete | Exit::Lost => {}
            _ => self.ping(Some("fail")).await,
        }
    }

    async fn ping(&self, what: Option<&str>) {
        let Some((client, url)) = &self.0 else { return };
        let mut url = url.clone();
        if let (Some(what), Ok(mut path)) = (what, url.path_segments_mut()) {
            path.pop_if_empty().push(what);
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        if let Err(error) = answer {
            // The path of such a URL is a secret: whoever knows it can ping.
            let error = error.without_url();
            let reason = std::error::Error::source(&error).map(|source| format!(" ({source})")).unwrap_or_default();
            tracing::warn!(host, "the ping did not arrive: {error}{reason}");
        }
    }
}

fn parse(text: &str) -> Result<Url> {
    let url: Url =
        text.parse().map_err(|error| anyhow!("the ping URL cannot be read: {error}; give https://host/path"))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("the ping URL begins with `{}:`; give http:// or https://", url.scheme());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn pings(url: &str) -> Result<Pings> {
        Pings::new(Some(&Secret::new(url.to_owned())))
    }

    /// Answers `count` requests with `status` and gives their first lines.
    async fn hear(listener: TcpListener, count: usize, status: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (mut request, mut bytes) = (String::new(), [0; 1024]);
            while !request.contains("\r\n\r\n") {
                let n = socket.read(&mut bytes).await.unwrap();
                request.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
            heard.push(request.lines().next().unwrap().to_owned());
        }
        heard
    }

    #[tokio::test]
    async fn start_success_and_failure_are_told_and_what_is_to_be_tried_again_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/secret/?tag=a", listener.local_addr().unwrap());
        let hearing = tokio::spawn(hear(listener, 5, "200 OK"));
        let pings = pings(&url).unwrap();
        pings.start().await;
        for exit in [Exit::Done, Exit::Incomplete, Exit::Lost, Exit::Gate, Exit::Failure, Exit::Usage] {
            pings.end(exit).await;
        }
        let heard = hearing.await.unwrap();
        let get = |path: &str| format!("GET {path} HTTP/1.1");
        let (ok, fail) = (get("/secret/?tag=a"), get("/secret/fail?tag=a"));
        assert_eq!(heard, [get("/secret/start?tag=a"), ok, fail.clone(), fail.clone(), fail]);
    }

    #[tokio::test]
    async fn a_service_that_refuses_or_is_away_changes_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hearing = tokio::spawn(hear(listener, 1, "500 No"));
        let pings = pings(&format!("http://{address}")).unwrap();
        pings.start().await;
        assert_eq!(hearing.await.unwrap(), ["GET /start HTTP/1.1"]);
        pings.end(Exit::Done).await;
    }

    #[test]
    fn a_url_that_cannot_be_pinged_is_a_mistake_of_the_settings() {
        for (url, named) in [("hc-ping.com/x", "https://"), ("ftp://x/y", "`ftp:`")] {
            let error = pings(url).unwrap_err();
            assert!(Exit::of_error(&error) == Exit::Usage && error.to_string().contains(named), "{error:#}");
        }
    }
}
