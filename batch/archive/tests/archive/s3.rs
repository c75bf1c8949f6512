//! S3 over HTTP as far as an archive needs it, in memory, with one answer that goes wrong as told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{ClientOptions, RetryConfig};
use platform::objects::Objects;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How a request is answered instead of truthfully.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    /// No answer until the client has given up.
    Timeout,
    /// The connection is reset where the answer should come.
    Reset,
    /// The answer breaks off in its head, so that it is lost.
    LostReply,
    /// A status of success, and a body that breaks off.
    TruncatedBody,
}

/// The first request of this method whose key contains a text goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub method: &'static str,
    pub key: &'static str,
    pub outcome: Outcome,
    /// It takes effect before it is answered.
    pub landed: bool,
}

/// Clones are the same server.
#[derive(Debug, Clone, Default)]
pub struct S3(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    fault: Option<Fault>,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

const CLIENT_TIMEOUT: Duration = Duration::from_millis(400);

impl S3 {
    /// Serves on a free port until the runtime ends, and gives a client of it.
    pub async fn start(fault: Option<Fault>) -> (S3, Objects) {
        let server = S3(Arc::new(Mutex::new(State { objects: BTreeMap::new(), fault })));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = serving.clone();
                // A client that goes away is no matter.
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        let client = AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_bucket_name("b")
            .with_region("us-east-1")
            .with_access_key_id("a")
            .with_secret_access_key("s")
            .with_virtual_hosted_style_request(false)
            .with_client_options(ClientOptions::new().with_allow_http(true).with_timeout(CLIENT_TIMEOUT))
            .with_retry(RetryConfig { max_retries: 1, ..RetryConfig::default() })
            .build()
            .unwrap();
        (server, Objects::over(Arc::new(client), "s3://b"))
    }

    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().unwrap().objects.clone()
    }

    /// The fault that was told has not happened yet.
    pub fn is_sound(&self) -> bool {
        self.0.lock().unwrap().fault.is_some()
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read(&mut stream).await? {
            let fault = {
                let mut state = self.0.lock().unwrap();
                let hit = |fault: &Fault| fault.method == request.method && request.path.contains(fault.key);
                let fault = state.fault.filter(hit);
                if fault.is_some() {
                    state.fault = None;
                }
                fault
            };
            let truth = match fault {
                Some(Fault { landed: false, .. }) => Answer { status: 200, headers: String::new(), body: Vec::new() },
                _ => self.answer(&request),
            };
            let Some(fault) = fault else {
                write(&mut stream, &truth, truth.body.len()).await?;
                continue;
            };
            match fault.outcome {
                Outcome::Status(status) => {
                    let body = b"<Error><Code>Scripted</Code><Message>as told</Message></Error>".to_vec();
                    write(&mut stream, &Answer { status, headers: String::new(), body: body.clone() }, body.len())
                        .await?;
                }
                Outcome::Timeout => tokio::time::sleep(CLIENT_TIMEOUT * 2).await,
                Outcome::Reset => stream.get_ref().set_zero_linger()?,
                Outcome::LostReply => stream.write_all(b"HTTP/1.1 2").await?,
                Outcome::TruncatedBody => {
                    let half = truth.body.len() / 2;
                    let answer = Answer { body: truth.body[..half].to_vec(), ..truth };
                    write(&mut stream, &answer, answer.body.len() * 2 + 10).await?;
                }
            }
            return Ok(());
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Answer {
        let objects = &mut self.0.lock().unwrap().objects;
        let of = |status, body| Answer { status, headers: meta(), body };
        match request.method.as_str() {
            "PUT" if request.headers.contains_key("if-none-match") && objects.contains_key(&request.path) => {
                of(412, Vec::new())
            }
            "PUT" => {
                objects.insert(request.path.clone(), request.body.clone());
                of(200, Vec::new())
            }
            "POST" => {
                let text = String::from_utf8(request.body.clone()).unwrap();
                let mut deleted = "<DeleteResult>".to_owned();
                for part in text.split("<Key>").skip(1) {
                    let key = part.split("</Key>").next().unwrap();
                    objects.remove(key);
                    write!(deleted, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
                }
                of(200, (deleted + "</DeleteResult>").into_bytes())
            }
            "GET" if request.query.contains_key("list-type") => of(200, list(objects, &request.query)),
            "GET" => match objects.get(&request.path) {
                None => of(404, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>".to_vec()),
                Some(object) => match request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")) {
                    None => of(200, object.clone()),
                    Some(range) => {
                        let (from, to) = range.split_once('-').unwrap();
                        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                        let to = to.min(object.len() - 1);
                        let headers = format!("{}content-range: bytes {from}-{to}/{}\r\n", meta(), object.len());
                        Answer { status: 206, headers, body: object[from..=to].to_vec() }
                    }
                },
            },
            other => panic!("{other} {} is not served", request.path),
        }
    }
}

fn meta() -> String {
    "etag: \"e\"\r\nlast-modified: Sun, 01 Mar 2026 12:00:00 GMT\r\n".to_owned()
}

fn list(objects: &BTreeMap<String, Vec<u8>>, query: &BTreeMap<String, String>) -> Vec<u8> {
    let (none, mut text) = (String::new(), "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned());
    let (prefix, after) = (query.get("prefix").unwrap_or(&none), query.get("start-after").unwrap_or(&none));
    for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(prefix) && *key > after) {
        let size = object.len();
        write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>2026-03-01T12:00:00.000Z</LastModified><ETag>\"e\"</ETag>\
             <Size>{size}</Size></Contents>"
        )
        .unwrap();
    }
    (text + "</ListBucketResult>").into_bytes()
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap_or("/").to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = pairs.map(|(name, value)| (name.to_owned(), unescaped(value))).collect();
    let path = unescaped(path.strip_prefix("/b").unwrap_or(path)).trim_start_matches('/').to_owned();
    Ok(Some(Request { method, path, query, headers, body }))
}

async fn write(stream: &mut BufReader<TcpStream>, answer: &Answer, length: usize) -> std::io::Result<()> {
    let Answer { status, headers, body } = answer;
    let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).await
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
