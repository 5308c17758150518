//! Quantiles of times, and what a process has used.

use std::time::Duration;

use crate::Result;

/// Clock ticks in a second, as Linux reports CPU time.
const TICKS: u64 = 100;

/// Times of one kind of thing, to be summed up.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that this part of all stays within.
    pub(super) fn within(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a short list"
        )]
        let place = (sorted.len() as f64 * part) as usize;
        let last = sorted.len().saturating_sub(1);
        sorted.get(place.min(last)).copied().unwrap_or_default()
    }

    /// Median, 99th percentile and worst, in milliseconds.
    pub(super) fn summary(&self) -> String {
        let [half, most, worst] = [0.5, 0.99, 1.0].map(|part| milliseconds(self.within(part)));
        format!("median {half}, p99 {most}, worst {worst} ms ({})", self.0.len())
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

/// A time for a table.
pub(super) fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 100.0 { format!("{milliseconds:.1}") } else { format!("{milliseconds:.0}") }
}

/// What a process has used so far: CPU time, and memory at its peak in KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) cpu: Duration,
    pub(super) peak: u64,
}

impl Used {
    /// Asks the system about a running process.
    pub(super) fn by(process: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name in parentheses may hold anything; the numbers follow it.
        let numbers = stat.rsplit_once(") ").map(|(_, numbers)| numbers).unwrap_or_default();
        let ticks: u64 = numbers.split(' ').skip(11).take(2).flat_map(str::parse::<u64>).sum();
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap_or(0);
        Ok(Self { cpu: Duration::from_millis(ticks * 1000 / TICKS), peak })
    }

    pub(super) fn summary(&self) -> String {
        format!("{} ms of CPU, {} MiB at most", milliseconds(self.cpu), self.peak / 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let times: Times = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(times.within(0.5), Duration::from_millis(51));
        assert_eq!(times.within(1.0), Duration::from_millis(100));
        assert_eq!(Times::default().within(0.5), Duration::ZERO);
    }

    #[test]
    fn a_process_has_used_memory() {
        let used = Used::by(std::process::id()).unwrap();
        assert!(used.peak > 100, "{used:?}");
    }
}
