//! Limits on rates, in memory only: requests, attempts and bytes, per address and its networks,
//! per log, and in all.
//!
//! A request costs one, whatever it asks for; what it brings is charged by the byte, before any
//! work. Nothing here grows without end and nothing is searched: buckets lie in shards, each of
//! two generations, and the older one is thrown away whole once all of its buckets would be full.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    mem,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use corncrake_wire::{AccountId, ErrorCode, LogId, PackageId, Refusal, limits};

use crate::config::Limits;

/// Over how long an empty bucket of requests fills.
const FILL: Duration = Duration::from_secs(10);
/// How many attempts are let through at once, however few in a minute: a sign-up takes several.
const ATTEMPTS: f64 = 10.0;
/// Over how long an empty bucket of bytes fills.
const FILL_BYTES: Duration = Duration::from_secs(60);
/// Parts of a map with a lock each.
const SHARDS: usize = 64;
/// Over how long an empty bucket of notices fills.
const FILL_NOTICES: Duration = Duration::from_hours(24);
/// Log-ins to one account from one address: so many at once, and one more each minute.
const LOG_INS: f64 = 10.0;
const FILL_LOG_INS: Duration = Duration::from_secs(600);
/// Key packages of one account claimed from one address: so many at once, and one more every two
/// minutes. A stranger in a hurry is not to use up what others would need.
const CLAIMS: f64 = 30.0;
const FILL_CLAIMS: Duration = Duration::from_hours(1);
/// What one address may have of a day's notices for a key package of last resort.
const NOTICES_SHARE: f64 = 0.2;
const MIB: f64 = 1024.0 * 1024.0;

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
    requests: Buckets<Network>,
    attempts: Buckets<Network>,
    appends: Buckets<LogId>,
    /// The appends of one address to one log.
    shares: Buckets<(LogId, Origin)>,
    bytes: Buckets<Network>,
    log_bytes: Buckets<LogId>,
    log_byte_shares: Buckets<(LogId, Origin)>,
    all_bytes: Buckets<()>,
    /// Log-ins that didn't come to a good end, by name and address: by name alone a stranger could
    /// lock an owner out, and by address alone many names could be tried.
    log_ins: Buckets<(String, Network)>,
    /// The notices for a key package of last resort.
    notices: Buckets<PackageId>,
    notice_shares: Buckets<(PackageId, Network)>,
    claims: Buckets<(AccountId, Network)>,
}

impl Rates {
    /// Buckets of these sizes.
    pub(crate) fn new(limits: &Limits) -> Self {
        let rate =
            |per_second: f64| (!limits.no_rate_limits && per_second > 0.0).then_some(per_second);
        let count = |per_second: f64| rate(per_second);
        let bytes = |mib: u32| rate(f64::from(mib) * MIB / 60.0);
        let attempts = count(f64::from(limits.attempts_per_minute) / 60.0);
        let fill_attempts =
            attempts.map_or(FILL, |rate| FILL.max(Duration::from_secs_f64(ATTEMPTS / rate)));
        let notices = f64::from(limits::NOTICES_A_DAY) / FILL_NOTICES.as_secs_f64();
        Self {
            requests: Buckets::new(count(limits.requests_per_second.into()), FILL),
            attempts: Buckets::new(attempts, fill_attempts),
            appends: Buckets::new(count(limits.appends_per_second.into()), FILL),
            shares: Buckets::new(count(f64::from(limits.appends_per_second) / 2.0), FILL),
            bytes: Buckets::new(bytes(limits.mib_per_minute), FILL_BYTES),
            log_bytes: Buckets::new(bytes(limits.log_mib_per_minute), FILL_BYTES),
            log_byte_shares: Buckets::new(
                bytes(limits.log_mib_per_minute).map(|rate| rate / 2.0),
                FILL_BYTES,
            ),
            all_bytes: Buckets::new(bytes(limits.all_mib_per_minute), FILL_BYTES),
            log_ins: Buckets::new(rate(LOG_INS / FILL_LOG_INS.as_secs_f64()), FILL_LOG_INS),
            notices: Buckets::new(Some(notices), FILL_NOTICES),
            notice_shares: Buckets::new(rate(notices * NOTICES_SHARE), FILL_NOTICES),
            claims: Buckets::new(rate(CLAIMS / FILL_CLAIMS.as_secs_f64()), FILL_CLAIMS),
        }
    }

    /// Counts a request or a frame.
    pub(crate) fn request(&self, from: Origin) -> Result<(), Refusal> {
        self.requests.take_nested(from, 1.0)
    }

    /// Counts a sign-up, a log-in or a renewal.
    pub(crate) fn attempt(&self, from: Origin) -> Result<(), Refusal> {
        self.attempts.take_nested(from, 1.0)
    }

    /// Counts a log-in that begins: whoever has the answer can test a guess, also if the log-in
    /// never ends. One that ends well is given back.
    pub(crate) fn log_in(&self, name: &str, from: Origin) -> Result<(), Refusal> {
        self.take_log_in(name, from, 1.0)
    }

    /// A log-in came to a good end.
    pub(crate) fn logged_in(&self, name: &str, from: Origin) {
        // What is given back fits: nothing refuses it.
        let _ = self.take_log_in(name, from, -1.0);
    }

    fn take_log_in(&self, name: &str, from: Origin, cost: f64) -> Result<(), Refusal> {
        self.log_ins.take_for(&name.to_owned(), from, cost)
    }

    /// Counts a claim of an account's key packages.
    pub(crate) fn claim(&self, account: AccountId, from: Origin) -> Result<(), Refusal> {
        self.claims.take_for(&account, from, 1.0)
    }

    /// Counts bytes that an address brings.
    pub(crate) fn write(&self, from: Origin, bytes: usize) -> Result<(), Refusal> {
        self.bytes.take_nested(from, cost(bytes))?;
        self.all_bytes.take((), 1.0, cost(bytes))
    }

    /// Counts a notice for a key package of last resort, of which anybody may have a copy.
    pub(crate) fn last_resort(&self, package: PackageId, from: Origin) -> Result<(), Refusal> {
        let share = self.notice_shares.take_for(&package, from, 1.0);
        let taken = share.and_then(|()| self.notices.take(package, 1.0, 1.0));
        taken.map_err(|refusal| Refusal { code: ErrorCode::TooManyNotices, ..refusal })
    }

    /// Counts an append and its bytes. One address never takes more than half of a log's rate,
    /// so that others still find room.
    pub(crate) fn append(&self, log: LogId, from: Origin, bytes: usize) -> Result<(), Refusal> {
        self.shares.take((log, from), 1.0, 1.0)?;
        self.appends.take(log, 1.0, 1.0)?;
        self.log_byte_shares.take((log, from), 1.0, cost(bytes))?;
        self.log_bytes.take(log, 1.0, cost(bytes))
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2⁵³")]
const fn cost(bytes: usize) -> f64 {
    bytes as f64
}

/// Token buckets of one rate.
#[derive(Debug)]
struct Buckets<K> {
    per_second: Option<f64>,
    fill: Duration,
    hasher: RandomState,
    shards: Vec<Mutex<Shard<K>>>,
}

#[derive(Debug)]
struct Shard<K> {
    /// Buckets that were asked for since then.
    young: HashMap<K, Bucket>,
    begun: Option<Instant>,
    /// Those that were last asked for in the generation before. Each is full at its end.
    old: HashMap<K, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Buckets<Network> {
    /// Takes from the bucket of an address and from those of its networks, which are larger.
    fn take_nested(&self, from: Origin, cost: f64) -> Result<(), Refusal> {
        from.networks().try_for_each(|(network, weight)| {
            self.take(network, u8::try_from(weight).map_or(1.0, f64::from), cost)
        })
    }
}

impl<K: Clone + Eq + Hash> Buckets<(K, Network)> {
    /// Takes from the buckets that an address and its networks have for something.
    fn take_for(&self, what: &K, from: Origin, cost: f64) -> Result<(), Refusal> {
        from.networks().try_for_each(|(network, weight)| {
            let weight = u8::try_from(weight).map_or(1.0, f64::from);
            self.take((what.clone(), network), weight, cost)
        })
    }
}

impl<K: Eq + Hash> Buckets<K> {
    fn new(per_second: Option<f64>, fill: Duration) -> Self {
        let shard = || Shard { young: HashMap::new(), begun: None, old: HashMap::new() };
        let shards = (0..SHARDS).map(|_| Mutex::new(shard())).collect();
        Self { per_second, fill, hasher: RandomState::new(), shards }
    }

    fn take(&self, key: K, weight: f64, cost: f64) -> Result<(), Refusal> {
        match self.per_second {
            Some(per_second) => self.take_at(key, per_second * weight, cost, Instant::now()),
            None => Ok(()),
        }
    }

    fn take_at(&self, key: K, per_second: f64, cost: f64, now: Instant) -> Result<(), Refusal> {
        let most = (per_second * self.fill.as_secs_f64()).max(1.0);
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let place = self.hasher.hash_one(&key) as usize % SHARDS;
        let Some(shard) = self.shards.get(place) else {
            return Ok(());
        };
        // Freed after the lock: what is declared first is dropped last.
        let _gone;
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        _gone = shard.age(now, self.fill);
        let bucket = shard.bucket(key, Bucket { left: most, at: now });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * per_second).min(most);
        bucket.at = now;
        // What is larger than the bucket needs a full one, and leaves a debt. Whatever was
        // refused changes nothing.
        let needed = cost.min(most);
        if bucket.left >= needed {
            bucket.left -= cost;
            return Ok(());
        }
        let wait = ((needed - bucket.left) / per_second).ceil().clamp(1.0, 3600.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 3600"
        )]
        Err(Refusal { code: ErrorCode::RateLimited, retry_after: Some(wait as u32) })
    }
}

impl<K: Eq + Hash> Shard<K> {
    /// Begins another generation when it is time, and gives what is forgotten with it. A bucket
    /// may be in debt by a few times its size, so a generation lasts as long as a few fillings.
    fn age(&mut self, now: Instant, fill: Duration) -> Option<HashMap<K, Bucket>> {
        let begun = *self.begun.get_or_insert(now);
        let age = now.saturating_duration_since(begun);
        let generation = fill * 4;
        if age < generation {
            return None;
        }
        self.begun = Some(now);
        let young = mem::take(&mut self.young);
        Some(mem::replace(&mut self.old, young))
    }

    fn bucket(&mut self, key: K, full: Bucket) -> &mut Bucket {
        let known = self.old.remove(&key).unwrap_or(full);
        self.young.entry(key).or_insert(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let mut limits = crate::Config::for_tests("unused".into()).limits;
        limits.no_rate_limits = false;
        limits
    }

    #[test]
    fn a_bucket_empties_refills_and_says_when_to_come_back() {
        let buckets = Buckets::new(Some(0.5), FILL);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..5 {
            assert_eq!(buckets.take_at('a', 0.5, 1.0, at(0)), Ok(()));
        }
        let refusal = buckets.take_at('a', 0.5, 1.0, at(0)).unwrap_err();
        assert_eq!(refusal, Refusal { code: ErrorCode::RateLimited, retry_after: Some(2) });
        assert_eq!(buckets.take_at('b', 0.5, 1.0, at(0)), Ok(()));
        assert_eq!(buckets.take_at('a', 0.5, 1.0, at(2)), Ok(()));
        assert!(buckets.take_at('a', 0.5, 1.0, at(2)).is_err());
    }

    #[test]
    fn what_is_larger_than_a_bucket_needs_a_full_one_and_leaves_a_debt() {
        let buckets = Buckets::new(Some(1.0), FILL);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(buckets.take_at('a', 1.0, 15.0, at(0)), Ok(()));
        assert_eq!(buckets.take_at('a', 1.0, 1.0, at(3)).unwrap_err().retry_after, Some(3));
        assert_eq!(buckets.take_at('a', 1.0, 15.0, at(14)).unwrap_err().retry_after, Some(1));
        assert_eq!(buckets.take_at('a', 1.0, 15.0, at(15)), Ok(()));
    }

    #[test]
    fn audit_srv_a12_buckets_are_forgotten_by_generations_and_never_searched() {
        let buckets = Buckets::new(Some(1.0), FILL);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let count = || -> usize {
            let shards = buckets.shards.iter().map(|shard| shard.lock().unwrap());
            shards.map(|shard| shard.young.len() + shard.old.len()).sum()
        };
        for number in 0..100_000 {
            buckets.take_at(number, 1.0, 1.0, at(0)).unwrap();
        }
        while buckets.take_at(7, 1.0, 1.0, at(0)).is_ok() {}
        assert_eq!(count(), 100_000);
        // One generation later, whoever was greedy a moment ago is still known.
        while buckets.take_at(7, 1.0, 1.0, at(39)).is_ok() {}
        for number in 200_000..210_000 {
            buckets.take_at(number, 1.0, 1.0, at(41)).unwrap();
        }
        let seven = (0..3).filter(|_| buckets.take_at(7, 1.0, 1.0, at(41)).is_ok()).count();
        assert_eq!(seven, 2);
        for number in 300_000..310_000 {
            buckets.take_at(number, 1.0, 1.0, at(90)).unwrap();
        }
        assert!(count() <= 20_001, "{}", count());
    }

    #[test]
    fn one_address_leaves_room_in_a_log_for_others() {
        let rates = Rates::new(&limits());
        let greedy = Origin::of([10, 0, 0, 1].into());
        let modest = Origin::of([10, 0, 0, 2].into());
        let log = LogId([1; 32]);
        while rates.append(log, greedy, 1).is_ok() {}
        assert_eq!(rates.append(log, modest, 1), Ok(()));
        let log = LogId([2; 32]);
        while rates.append(log, greedy, 1 << 20).is_ok() {}
        assert_eq!(rates.append(log, modest, 1), Ok(()));
    }

    #[test]
    fn audit_srv_a12_many_networks_of_one_owner_have_a_few_times_the_limit_of_one() {
        let rates = Rates::new(&limits());
        let origin =
            |subnet: u16| Origin::of(Ipv6Addr::from([0x2001, 0xdb8, 1, subnet, 0, 0, 0, 1]).into());
        let alone = (0..).take_while(|_| rates.request(origin(0)).is_ok()).count();
        let rates = Rates::new(&limits());
        let passed = (0..u16::MAX).filter(|subnet| rates.request(origin(*subnet)).is_ok()).count();
        assert!(passed <= 4 * alone + alone / 10, "{passed} of {alone}");
        let elsewhere = Origin::of(Ipv6Addr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, 1]).into());
        assert_eq!(rates.request(elsewhere), Ok(()));
    }

    #[test]
    fn one_address_leaves_packages_and_notices_of_an_account_for_others() {
        let rates = Rates::new(&limits());
        let greedy = Origin::of([10, 0, 0, 1].into());
        let modest = Origin::of([10, 0, 0, 2].into());
        let (ann, bob) = (AccountId([1; 32]), AccountId([2; 32]));
        let claimed = (0..1000).filter(|_| rates.claim(ann, greedy).is_ok()).count();
        assert_eq!(claimed, 30);
        assert_eq!((rates.claim(bob, greedy), rates.claim(ann, modest)), (Ok(()), Ok(())));
        let package = PackageId([3; 32]);
        let left = (0..1000).filter(|_| rates.last_resort(package, greedy).is_ok()).count();
        assert_eq!(left, 20);
        let refusal = rates.last_resort(package, greedy).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::TooManyNotices);
        assert_eq!(rates.last_resort(package, modest), Ok(()));
    }

    #[test]
    fn audit_issue_7_few_attempts_a_minute_let_a_sign_up_through() {
        let rates = Rates::new(&Limits { attempts_per_minute: 2, ..limits() });
        let someone = Origin::of([10, 0, 0, 1].into());
        let passed = (0..1000).take_while(|_| rates.attempt(someone).is_ok()).count();
        assert_eq!(passed, 10);
    }

    #[test]
    fn audit_srv_a4_bytes_are_what_is_limited() {
        let rates = Rates::new(&limits());
        let greedy = Origin::of([10, 0, 0, 1].into());
        let large = 4 << 20;
        let passed = (0..).take_while(|_| rates.write(greedy, large).is_ok()).count();
        assert!((16..=17).contains(&passed), "{passed}");
        let refusal = rates.write(greedy, large).unwrap_err();
        assert!(refusal.retry_after.is_some_and(|seconds| (1..=5).contains(&seconds)));
        assert_eq!(rates.write(Origin::of([10, 0, 0, 2].into()), large), Ok(()));
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
