//! What tunes one collector. Every limit has a reason beside it; none of them changes the meaning of a count.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clicks::ledger::TopicLife;
use clicks::rules::{Rules, RulesBook};

/// Settings of one collector.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one, see [`crate::Collector::address`].
    pub listen: SocketAddr,
    /// The rules in force. Clicks that they would reject at the counters are refused here, where the sender still hears it.
    pub rules: RulesBook,
    /// The topic life that the ledger knows: clicks that go into another one would be read by nobody. `None` takes any.
    pub life: Option<TopicLife>,
    /// Longest request body.
    pub body_limit_bytes: usize,
    /// Most clicks in one request.
    pub batch_max: usize,
    /// Most records, over all requests, that wait for the log.
    pub in_flight_max: usize,
    /// Most bytes, over all requests, of bodies that are being read or whose records wait for the log. Together with
    /// `in_flight_max` and `connections_max` it bounds the memory of the process, at about three times this value.
    pub bodies_limit_bytes: usize,
    /// Most connections; beyond it further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// How long a request waits for room under the two limits above before it is answered 503.
    pub admission_wait: Duration,
    /// How long a request waits for the log's acknowledgement before it is answered 503.
    pub append_timeout: Duration,
    /// How long a body may take to arrive, as a whole.
    pub body_timeout: Duration,
    /// How long the head of a request may take to arrive. It also ends connections that are idle for so long: behind a
    /// load balancer it should be longer than the balancer's own idle time.
    pub header_timeout: Duration,
    /// How long requests that were begun may take to end once the collector was told to stop.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            rules: RulesBook::new(Rules::default()).expect("the default rules are valid, as their own tests show"),
            life: None,
            body_limit_bytes: 1 << 20,
            batch_max: 1_000,
            in_flight_max: 20_000,
            bodies_limit_bytes: 64 << 20,
            connections_max: 4_096,
            admission_wait: Duration::from_millis(500),
            append_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// Options with which some request could never be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("`{0}` is 0; nothing would ever be accepted, give it at least 1")]
    Zero(&'static str),
    #[error("`{larger}` is {value}, less than `{smaller}` ({least}); a full request would never find room, raise it")]
    TooSmall { larger: &'static str, value: usize, smaller: &'static str, least: usize },
    #[error("`{name}` is {value}; the most that is supported is {most}")]
    TooLarge { name: &'static str, value: usize, most: usize },
}

impl Options {
    /// Limits that fit each other.
    pub fn check(&self) -> Result<(), OptionsError> {
        let limits = [
            ("body_limit_bytes", self.body_limit_bytes),
            ("batch_max", self.batch_max),
            ("in_flight_max", self.in_flight_max),
            ("bodies_limit_bytes", self.bodies_limit_bytes),
            ("connections_max", self.connections_max),
        ];
        // Permits of a semaphore are taken by `u32`.
        const MOST: usize = u32::MAX as usize >> 3;
        for (name, value) in limits {
            match value {
                0 => return Err(OptionsError::Zero(name)),
                1..=MOST => {}
                _ => return Err(OptionsError::TooLarge { name, value, most: MOST }),
            }
        }
        let pairs = [
            ("in_flight_max", self.in_flight_max, "batch_max", self.batch_max),
            ("bodies_limit_bytes", self.bodies_limit_bytes, "body_limit_bytes", self.body_limit_bytes),
        ];
        for (larger, value, smaller, least) in pairs {
            if value < least {
                return Err(OptionsError::TooSmall { larger, value, smaller, least });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_must_fit_each_other() {
        let default = Options::default();
        assert_eq!(default.check(), Ok(()));
        let cases = [
            (Options { batch_max: 0, ..default.clone() }, "`batch_max` is 0"),
            (Options { in_flight_max: 999, ..default.clone() }, "`in_flight_max` is 999, less than `batch_max` (1000)"),
            (Options { bodies_limit_bytes: 1, ..default.clone() }, "`bodies_limit_bytes` is 1, less than"),
            (Options { connections_max: usize::MAX, ..default }, "`connections_max` is 18446744073709551615; the most"),
        ];
        for (options, message) in cases {
            let error = options.check().map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|e| e.starts_with(message)), "{error:?}");
        }
    }
}
