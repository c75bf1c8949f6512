//! A TCP proxy before a service, for what a network does and a service cannot: answers that never come, that come late,
//! and connections on which nothing moves any more although both ends keep them open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

const BUFFER: usize = 64 * 1024;

/// What becomes of bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Whole,
    /// What is asked arrives. What is answered does not, from the first end of a transaction (EXEC of Redis) on: what came
    /// before it only asks. Connections that lost an answer break once this is over.
    AnswersLost,
    /// Answers arrive so much later, in their order.
    AnswersLate(Duration),
    /// Nothing arrives in either direction; connections from this time never recover, and nobody is told.
    HalfOpen,
}

/// Bound to the runtime that started it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
    lost: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Before a service at `host:port`.
    pub async fn start(service: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let network = watch::Sender::new(Network::Whole);
        let lost = Arc::new(AtomicU64::new(0));
        let (service, changes, counter) = (service.to_owned(), network.clone(), lost.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, service.clone(), changes.subscribe(), counter.clone()));
            }
        });
        Ok(Self { port, network, lost, accepting })
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Bytes of answers that arrived late or not at all.
    pub fn bytes_held(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(client: TcpStream, service: String, network: watch::Receiver<Network>, held: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(&service).await else { return };
    _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((client_in, client_out), (server_in, server_out)) = (client.into_split(), server.into_split());
    let mut seen = network.clone();
    let executed = AtomicBool::new(false);
    let half_open = async { seen.wait_for(|network| *network == Network::HalfOpen).await.is_ok() };
    tokio::select! {
        biased;
        // The sockets are neither read nor closed as long as the proxy is there.
        true = half_open => {
            let mut network = network;
            while network.changed().await.is_ok() {}
        }
        () = requests(client_in, server_out, &executed) => {}
        () = answers(server_in, client_out, network.clone(), held, &executed) => {}
    }
}

/// Tells with `executed` whether the last of them ended a transaction.
async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, executed: &AtomicBool) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        executed.store(buffer[..length].ends_with(b"EXEC\r\n"), Ordering::Relaxed);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    held: Arc<AtomicU64>,
    executed: &AtomicBool,
) {
    let (late, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async {
        let mut buffer = vec![0; BUFFER];
        let mut spoiled = false;
        loop {
            let length = tokio::select! {
                // One that lost an answer would give the next one to the wrong question.
                Ok(_) = network.wait_for(|network| *network != Network::AnswersLost), if spoiled => return,
                Ok(length @ 1..) = from.read(&mut buffer) => length,
                else => return,
            };
            let now = *network.borrow();
            let delay = match now {
                Network::AnswersLost if spoiled || executed.load(Ordering::Relaxed) => {
                    spoiled = true;
                    held.fetch_add(length as u64, Ordering::Relaxed);
                    continue;
                }
                Network::AnswersLate(delay) => delay,
                Network::Whole | Network::AnswersLost | Network::HalfOpen => Duration::ZERO,
            };
            if delay > Duration::ZERO {
                held.fetch_add(length as u64, Ordering::Relaxed);
            }
            if late.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((when, bytes)) = due.recv().await {
            sleep_until(when).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
