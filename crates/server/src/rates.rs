//! Limits on rates, in memory only: per address (IPv6 by /64) and per log.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use corncrake_wire::{ErrorCode, LogId, Refusal};

use crate::config::Limits;

/// Seconds over which an empty bucket fills.
const FILL: f64 = 10.0;
/// Buckets kept before full ones are forgotten.
const MANY: usize = 50_000;

/// An address as limits see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl Origin {
    /// The limits' view of an address: IPv6 by /64, mapped IPv4 as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                Self(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into())
            }
            v4 => Self(v4),
        }
    }
}

/// A network that an address lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr, u8);

impl Origin {
    /// The networks that the address lies in, each with how many times the limit of an address
    /// it has: who has a /48 has 65,536 networks of 64 bits, and no use for each of them.
    pub(crate) fn networks(self) -> impl Iterator<Item = (Network, usize)> {
        const V4: &[(u8, usize)] = &[(32, 1)];
        const V6: &[(u8, usize)] = &[(64, 1), (56, 2), (48, 4)];
        let nested = if self.0.is_ipv4() { V4 } else { V6 };
        nested.iter().map(move |(bits, weight)| {
            let network = match self.0 {
                IpAddr::V6(v6) => {
                    Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - bits))).into()
                }
                v4 => v4,
            };
            (Network(network, *bits), *weight)
        })
    }
}

/// All buckets.
#[derive(Debug)]
pub(crate) struct Rates {
    requests: Buckets<Origin>,
    attempts: Buckets<Origin>,
    appends: Buckets<LogId>,
    /// The appends of one address to one log, when its bucket runs low.
    shares: Buckets<(LogId, Origin)>,
}

impl Rates {
    /// Buckets of these sizes.
    pub(crate) fn new(limits: &Limits) -> Self {
        let rate =
            |per_second: f64| (!limits.no_rate_limits && per_second > 0.0).then_some(per_second);
        Self {
            requests: Buckets::new(rate(limits.requests_per_second.into())),
            attempts: Buckets::new(rate(f64::from(limits.attempts_per_minute) / 60.0)),
            appends: Buckets::new(rate(limits.appends_per_second.into())),
            shares: Buckets::new(rate(f64::from(limits.appends_per_second) / 2.0)),
        }
    }

    /// Counts a request or a frame.
    pub(crate) fn request(&self, from: Origin) -> Result<(), Refusal> {
        self.requests.take(from)
    }

    /// Counts a sign-up, a log-in or a renewal.
    pub(crate) fn attempt(&self, from: Origin) -> Result<(), Refusal> {
        self.attempts.take(from)
    }

    /// Counts an append. One address never takes more than half of a log's rate, so that others
    /// still find room.
    pub(crate) fn append(&self, log: LogId, from: Origin) -> Result<(), Refusal> {
        self.shares.take((log, from))?;
        self.appends.take(log)
    }
}

/// Token buckets of one rate.
#[derive(Debug)]
struct Buckets<K> {
    per_second: Option<f64>,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Eq + std::hash::Hash> Buckets<K> {
    fn new(per_second: Option<f64>) -> Self {
        Self { per_second, buckets: Mutex::new(HashMap::new()) }
    }

    fn take(&self, key: K) -> Result<(), Refusal> {
        let Some(per_second) = self.per_second else {
            return Ok(());
        };
        self.take_at(key, per_second, Instant::now())
    }

    fn take_at(&self, key: K, per_second: f64, now: Instant) -> Result<(), Refusal> {
        let most = (per_second * FILL).max(1.0);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MANY {
            buckets.retain(|_, bucket| now.duration_since(bucket.at).as_secs_f64() < FILL);
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: most, at: now });
        let since = now.duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * per_second).min(most);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let wait = ((1.0 - bucket.left) / per_second).ceil().clamp(1.0, 3600.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 3600"
        )]
        Err(Refusal { code: ErrorCode::RateLimited, retry_after: Some(wait as u32) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_empties_refills_and_says_when_to_come_back() {
        let buckets = Buckets::new(Some(0.5));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..5 {
            assert_eq!(buckets.take_at('a', 0.5, at(0)), Ok(()));
        }
        let refusal = buckets.take_at('a', 0.5, at(0)).unwrap_err();
        assert_eq!(refusal, Refusal { code: ErrorCode::RateLimited, retry_after: Some(2) });
        assert_eq!(buckets.take_at('b', 0.5, at(0)), Ok(()));
        assert_eq!(buckets.take_at('a', 0.5, at(2)), Ok(()));
        assert!(buckets.take_at('a', 0.5, at(2)).is_err());
    }

    #[test]
    fn one_address_leaves_room_in_a_log_for_others() {
        let mut limits = crate::Config::for_tests("unused".into()).limits;
        limits.no_rate_limits = false;
        let rates = Rates::new(&limits);
        let greedy = Origin::of([10, 0, 0, 1].into());
        let modest = Origin::of([10, 0, 0, 2].into());
        let log = LogId([1; 32]);
        while rates.append(log, greedy).is_ok() {}
        assert_eq!(rates.append(log, modest), Ok(()));
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let origin = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(origin("2001:db8:0:1::1"), origin("2001:db8:0:1:ffff::2"));
        assert_ne!(origin("2001:db8:0:1::1"), origin("2001:db8:0:2::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
        assert_ne!(origin("10.0.0.1"), origin("10.0.0.2"));
    }
}
