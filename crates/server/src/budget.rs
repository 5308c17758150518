//! What all connections share: bytes under way, and places at the table.
//!
//! A [`Share`] is taken before anything is buffered and goes with what was buffered: through the
//! decoder, the writer's queue and the commit, or with a reply until it is written. So the memory
//! of the server is bounded whatever its clients do. One address never has more than is left for
//! all others, which leaves room for whoever comes next.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use corncrake_wire::{ErrorCode, Refusal};
use tokio::{sync::Notify, time::timeout};

use crate::{Origin, rates::Network};

/// What is told when there is no share in time.
pub(crate) const BUSY: Refusal = Refusal { code: ErrorCode::Unavailable, retry_after: Some(5) };

/// How long a connection waits for its share before it is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// An amount of something that addresses share.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    most_each: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_network: HashMap<Network, usize>,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    /// Whose it is, unless nobody's in particular.
    from: Option<Origin>,
    amount: usize,
}

impl Budget {
    /// A budget of `most`, of which one address has at most `most_each`.
    pub(crate) fn new(most: usize, most_each: usize) -> Self {
        let (taken, freed) = Default::default();
        Self(Arc::new(Shared { most, most_each, taken, freed }))
    }

    /// Takes a share. `None` if there is too little left, or the address has its part: it may
    /// have as much as stays free for others. Something large passes if it is the only thing of
    /// its address and leaves a quarter.
    pub(crate) fn take(&self, from: Origin, amount: usize) -> Option<Share> {
        let mut taken = self.lock();
        let free = self.0.most.saturating_sub(taken.in_all).checked_sub(amount)?;
        let fits = from.networks().all(|(network, weight)| {
            let held = taken.by_network.get(&network).copied().unwrap_or(0);
            let most = self.0.most_each.saturating_mul(weight).min(free);
            held.saturating_add(amount) <= most || held == 0 && free >= self.0.most / 4
        });
        if !fits {
            return None;
        }
        taken.in_all += amount;
        for (network, _) in from.networks() {
            *taken.by_network.entry(network).or_default() += amount;
        }
        Some(Share { budget: self.clone(), from: Some(from), amount })
    }

    /// Takes a share for nobody in particular.
    pub(crate) fn take_unnamed(&self, amount: usize) -> Option<Share> {
        let mut taken = self.lock();
        let in_all = taken.in_all.checked_add(amount).filter(|in_all| *in_all <= self.0.most)?;
        taken.in_all = in_all;
        Some(Share { budget: self.clone(), from: None, amount })
    }

    /// Takes a share as soon as there is one; `None` if there was none for a while.
    pub(crate) async fn wait(&self, from: Origin, amount: usize) -> Option<Share> {
        let taking = async {
            loop {
                // Listen first: what is freed in between isn't missed.
                let freed = self.0.freed.notified();
                if let Some(share) = self.take(from, amount) {
                    return share;
                }
                freed.await;
            }
        };
        timeout(PATIENCE, taking).await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Adds another share of the same address.
    pub(crate) fn join(&mut self, mut other: Self) {
        debug_assert_eq!(self.from, other.from, "shares of two addresses");
        self.amount += std::mem::take(&mut other.amount);
    }

    /// Gives back all but `amount`.
    pub(crate) fn shrink(&mut self, amount: usize) {
        let amount = amount.min(self.amount);
        self.give_back(self.amount - amount);
        self.amount = amount;
    }

    fn give_back(&self, amount: usize) {
        if amount == 0 {
            return;
        }
        let mut taken = self.budget.lock();
        taken.in_all -= amount;
        for (network, _) in self.from.iter().flat_map(|from| from.networks()) {
            if let Some(held) = taken.by_network.get_mut(&network) {
                *held -= amount;
                if *held == 0 {
                    taken.by_network.remove(&network);
                }
            }
        }
        drop(taken);
        self.budget.0.freed.notify_waiters();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Origin {
        Origin::of([10, 0, 0, last].into())
    }

    #[test]
    fn one_address_leaves_room_for_others_and_gives_back() {
        let budget = Budget::new(100, 40);
        let first: Vec<_> = (0..40).map_while(|_| budget.take(address(1), 1)).collect();
        assert_eq!(first.len(), 40);
        assert!(budget.take(address(1), 1).is_none());
        // Whoever comes later gets less, and always something.
        let mut kept = Vec::new();
        for (last, most) in [(2, 30), (3, 15), (4, 7), (5, 4)] {
            let shares: Vec<_> = (0..).map_while(|_| budget.take(address(last), 1)).collect();
            assert_eq!(shares.len(), most);
            kept.extend(shares);
        }
        drop((first, kept));
        assert_eq!(budget.lock().in_all, 0);
        assert!(budget.lock().by_network.is_empty());
    }

    #[test]
    fn something_large_passes_alone() {
        let budget = Budget::new(100, 20);
        let large = budget.take(address(1), 70);
        assert!(large.is_some());
        assert!(budget.take(address(1), 1).is_none());
        assert!(budget.take(address(2), 70).is_none());
        assert!(budget.take(address(2), 10).is_some());
        drop(large);
        assert!(budget.take(address(2), 76).is_none());
    }

    #[test]
    fn the_networks_of_an_address_count_together() {
        let budget = Budget::new(1000, 10);
        let from =
            |net: u16| Origin::of(std::net::Ipv6Addr::from([1, 2, 3, net, 0, 0, 0, 1]).into());
        let shares: Vec<_> = (0..100).filter_map(|net| budget.take(from(net << 8), 5)).collect();
        assert_eq!(shares.len(), 8, "a /48 has four times as much as an address");
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_is_waited_for_and_not_for_ever() {
        let budget = Budget::new(10, 5);
        let held = budget.take(address(1), 5);
        let (share, ()) = tokio::join!(budget.wait(address(1), 5), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(held);
        });
        assert!(share.is_some());
        assert!(budget.wait(address(1), 1).await.is_none());
    }
}
