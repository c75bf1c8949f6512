//! `serve --pgwire`: the tables over PostgreSQL's protocol, in a build that has it.

use std::net::SocketAddr;

use anyhow::Result;
use platform::settings::Settings;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "pgwire")]
pub use with::Tables;

#[cfg(feature = "pgwire")]
mod with {
    use platform::keys::Keys;
    use platform::settings::Access;
    use sql::Limits;
    use sql::pgwire::{Options, Tls, serve};
    use tokio::net::TcpListener;
    use tracing::info;

    use super::{CancellationToken, Result, Settings, SocketAddr};
    use crate::connect;

    /// At an address that is taken already.
    #[derive(Debug)]
    pub struct Tables {
        listener: TcpListener,
        tls: Option<Tls>,
        is_open: bool,
    }

    impl Tables {
        /// Takes the address, if it may be served; why not, is for a person.
        pub async fn bind(settings: &Settings, address: SocketAddr) -> Result<Self, String> {
            let tls = match (&settings.sql.tls_certificate, &settings.sql.tls_key) {
                (Some(certificate), Some(key)) => Some(Tls::read(certificate, key).map_err(|error| error.to_string())?),
                (None, None) => None,
                _ => return Err("sql.tls_certificate and sql.tls_key go together: set both, or none".to_owned()),
            };
            if tls.is_none() && !address.ip().is_loopback() {
                return Err(format!(
                    "{address} is reached by other machines, and without TLS what is asked, answered and given as a password \
                     could be read on the way: set sql.tls_certificate and sql.tls_key, or take a loopback address"
                ));
            }
            let is_open = match settings.serving.access {
                Access::Open => true,
                Access::Keys => false,
                Access::Auto => address.ip().is_loopback(),
            };
            let listener = TcpListener::bind(address).await;
            let listener =
                listener.map_err(|error| format!("{address} cannot be used for PostgreSQL's protocol: {error}"))?;
            Ok(Tables { listener, tls, is_open })
        }

        pub async fn run(self, settings: Settings, stop: CancellationToken) -> Result<()> {
            let (objects, ledger) = (connect::objects(&settings)?, connect::ledger(&settings)?);
            let options = Options {
                keys: (!self.is_open).then(|| Keys::new(objects.clone())),
                tls: self.tls,
                limits: Limits {
                    memory_bytes: settings.sql.memory_bytes,
                    spill_bytes: settings.sql.spill_bytes,
                    time: settings.sql.timeout.0,
                    rows: Some(settings.sql.rows_max),
                },
                connections_max: settings.sql.connections_max,
                questions_max: settings.sql.questions_max,
            };
            info!(address = %self.listener.local_addr()?, "the tables are served over PostgreSQL's protocol");
            Ok(serve(self.listener, options, (objects, ledger), connect::clock(&settings), stop).await?)
        }
    }
}

/// There are none.
#[cfg(not(feature = "pgwire"))]
#[derive(Debug)]
pub enum Tables {}

#[cfg(not(feature = "pgwire"))]
impl Tables {
    /// Says how to have them.
    pub async fn bind(_: &Settings, _: SocketAddr) -> Result<Self, String> {
        Err("this program was built without PostgreSQL's protocol: build it with `--features pgwire`".to_owned())
    }

    pub async fn run(self, _: Settings, _: CancellationToken) -> Result<()> {
        match self {}
    }
}
