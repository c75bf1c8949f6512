//! From a record to a click that can be judged, in two steps.
//!
//! Records go through the steps several at a time, and each step begins to bring into the cache what the next one needs:
//! memory answers many questions together in the time of one.

use crate::dedup::DedupKey;
use crate::event::Class;
use crate::prefetch::prefetch;
use crate::time::Timestamp;
use crate::window::Minute;
use crate::wire::{self, Rejection};

use super::ads::Sought;
use super::{LiveCounter, Observed, Window};

/// A record that was read, with what is known of it if it is a click.
#[derive(Debug)]
pub(super) enum Reading<C> {
    Control,
    Rejected(Rejection),
    Click(C),
}

/// A click whose ad was not looked up yet.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    click: wire::Read<'a>,
    ad: Sought,
}

/// A click as the counter judges it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighted {
    pub(super) window: Window,
    pub(super) key: DedupKey,
    pub(super) event_time: Timestamp,
}

/// Brings the value into the cache, as far as most reach.
#[inline]
pub(super) fn touch_value(record: &Observed<'_>) {
    for line in record.value.unwrap_or_default().chunks(64).take(2) {
        prefetch(&line[0]);
    }
}

impl LiveCounter {
    /// Both steps, for a record alone.
    pub(super) fn read(&mut self, record: &Observed<'_>) -> Reading<Sighted> {
        let parsed = self.parse(record);
        self.look_up(parsed)
    }

    #[inline]
    pub(super) fn parse<'a>(&self, record: &Observed<'a>) -> Reading<Parsed<'a>> {
        if record.control {
            return Reading::Control;
        }
        match wire::read(record.value) {
            Ok(click) => {
                let ad = self.ads.seek(click.ad_id.as_bytes());
                Reading::Click(Parsed { click, ad })
            }
            Err(rejection) => Reading::Rejected(rejection),
        }
    }

    #[inline]
    pub(super) fn touch_ad(&self, reading: &Reading<Parsed<'_>>) {
        if let Reading::Click(parsed) = reading {
            self.ads.touch(&parsed.ad);
        }
    }

    #[inline]
    pub(super) fn look_up(&mut self, reading: Reading<Parsed<'_>>) -> Reading<Sighted> {
        let Parsed { click, ad } = match reading {
            Reading::Control => return Reading::Control,
            Reading::Rejected(rejection) => return Reading::Rejected(rejection),
            Reading::Click(parsed) => parsed,
        };
        let (ad, key) = self.ads.find(click.ad_id.as_bytes(), &ad);
        let key = key.click(click.click_id);
        self.dedup.touch(key);
        let window = Window { minute: Minute::of(click.event_time), class: Class::Valid, ad };
        self.counts.touch(window);
        Reading::Click(Sighted { window, key, event_time: click.event_time })
    }
}
