//! Receiving a request body within limits of length, memory and time.

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::{Kind, Problem};
use crate::intake::Intake;

/// A body, and the room that it takes until its records are on the log.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) room: OwnedSemaphorePermit,
}

/// Reads the whole body.
///
/// # Errors
/// A problem when it is too long, too slow, cut off, or finds no room.
pub(crate) async fn receive(intake: &Intake, headers: &HeaderMap, body: Body) -> Result<Received, Problem> {
    let limit = intake.options.body_limit_bytes;
    let mut stream = body.into_data_stream();
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        // Whoever asked first need not be read: it hears the answer instead of sending.
        if !headers.contains_key(header::EXPECT) {
            discard(&mut stream).await;
        }
        return Err(too_large(limit));
    }
    let timeout = intake.options.body_timeout;
    tokio::select! {
        biased;
        received = read(intake, &mut stream, limit) => received,
        () = intake.closing.cancelled() => {
            Err(Problem::new(&Kind::STOPPING, "the collector is stopping; send the request again").closing())
        }
        () = tokio::time::sleep(timeout) => {
            let detail = format!("the body did not arrive within {timeout:?}; send it in smaller parts");
            Err(Problem::new(&Kind::SLOW_BODY, detail).closing())
        }
    }
}

async fn read(intake: &Intake, stream: &mut BodyDataStream, limit: usize) -> Result<Received, Problem> {
    let mut room = admit(intake, 0).await?;
    let mut whole = BytesMut::new();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| {
            Problem::new(&Kind::INCOMPLETE_BODY, format!("the body broke off: {error}; send the request again"))
                .closing()
        })?;
        if whole.len() + part.len() > limit {
            drop((whole, room));
            discard(stream).await;
            return Err(too_large(limit));
        }
        // Room is taken as the bytes arrive: a sender that only announces a megabyte holds none.
        room.merge(admit(intake, part.len()).await?);
        whole.extend_from_slice(&part);
    }
    Ok(Received { bytes: whole.freeze(), room })
}

async fn admit(intake: &Intake, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let wait = Arc::clone(&intake.bodies).acquire_many_owned(bytes);
    match tokio::time::timeout(intake.options.admission_wait, wait).await {
        Ok(Ok(room)) => Ok(room),
        Ok(Err(_)) | Err(_) => {
            Err(Problem::new(&Kind::OVERLOADED, "there is no room for the body; send the request again").closing())
        }
    }
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body is longer than {limit} bytes; send the clicks in several requests");
    Problem::new(&Kind::BODY_TOO_LARGE, detail).closing()
}

/// Bytes and time that are spent on the rest of a body that is refused.
const DISCARD_MAX_BYTES: usize = 8 << 20;
const DISCARD_MAX: Duration = Duration::from_secs(1);

/// Closing a connection on which the client still writes loses the answer on its way (RFC 9112, section 9.6), so a
/// moderate rest is read and thrown away.
async fn discard(stream: &mut BodyDataStream) {
    let reading = async {
        let mut left = DISCARD_MAX_BYTES;
        while let Some(Ok(part)) = stream.next().await {
            left = left.saturating_sub(part.len());
            if left == 0 {
                return;
            }
        }
    };
    // Too slow or too long: then the answer may be lost, the refusal stands.
    let _ = tokio::time::timeout(DISCARD_MAX, reading).await;
}

/// Whether the sender declared NDJSON.
///
/// # Errors
/// A problem when the body is declared to be of a type, or encoded in a way, that is not read.
pub(crate) fn declares_lines(headers: &HeaderMap) -> Result<bool, Problem> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| encoding.trim() != "identity") {
        let detail = format!("the body is encoded as `{encoding}`; send it plain, without Content-Encoding");
        return Err(Problem::new(&Kind::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let declared = text(header::CONTENT_TYPE).unwrap_or_default();
    let media_type = declared.split(';').next().unwrap_or_default().trim();
    match media_type {
        "" | "application/json" | "text/plain" => Ok(false),
        "application/x-ndjson" => Ok(true),
        other => {
            let detail = format!(
                "the body is declared as `{other}`; send `Content-Type: application/json`, `application/x-ndjson` or `text/plain`"
            );
            Err(Problem::new(&Kind::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}
