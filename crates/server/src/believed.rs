//! Whether the system's clock is believed, before something is deleted because of it: a clock that
//! is years ahead for a moment would delete what nobody has read.
//!
//! A step forward of more than two days is believed once the clock has gone on from there for a
//! day. The last time that was believed lies in a file, so that a restart doesn't forget it.

use std::path::{Path, PathBuf};

use crate::{Error, folder::replace};

const DAY: u64 = 24 * 3600;
/// A step of the clock that is no news.
const STEP: u64 = 2 * DAY;
/// How long a longer step has to last.
const PROOF: u64 = DAY;
/// Doubts that are older say nothing: the server was off.
const STALE: u64 = 30 * DAY;

const FILE: &str = "believed-time";

/// The clock's past.
#[derive(Debug)]
pub(crate) struct Believed {
    file: PathBuf,
    /// The newest time that was believed.
    believed: Option<u64>,
    /// Since when the clock says something else.
    doubted: Option<u64>,
}

/// What to make of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Delete by it.
    Believed,
    /// Delete nothing yet.
    Doubted,
}

impl Believed {
    /// Reads the file. A missing or damaged one is a clock without a past.
    pub(crate) fn open(folder: &Path) -> Self {
        let file = folder.join(FILE);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let mut times = text.lines().map(|line| line.trim().parse().ok());
        let (believed, doubted) = (times.next().flatten(), times.next().flatten());
        Self { file, believed, doubted }
    }

    /// The newest time that was ever believed.
    pub(crate) const fn newest(&self) -> Option<u64> {
        self.believed
    }

    /// Judges a time and notes it.
    pub(crate) fn judge(&mut self, now: u64) -> Result<Verdict, Error> {
        let verdict = self.weigh(now);
        let line = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |t| t.to_string());
        let text = format!("{}\n{}\n", line(self.believed), line(self.doubted));
        replace(&self.file, text.as_bytes())?;
        Ok(verdict)
    }

    fn weigh(&mut self, now: u64) -> Verdict {
        let near = self.believed.is_some_and(|last| now.abs_diff(last) <= STEP);
        let proven =
            self.doubted.is_some_and(|since| (since + PROOF..since + STALE).contains(&now));
        let behind = self.believed.is_some_and(|last| now < last);
        if near || (proven && !behind) {
            self.believed = self.believed.max(Some(now));
            self.doubted = None;
            return Verdict::Believed;
        }
        if !self.doubted.is_some_and(|since| (since..since + STALE).contains(&now)) {
            self.doubted = Some(now);
        }
        Verdict::Doubted
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const NOW: u64 = 20_000 * DAY;

    #[test]
    fn a_time_far_ahead_is_believed_only_once_it_has_lasted() {
        let folder = TempDir::new().unwrap();
        // Each time as after a restart.
        let judge = |now: u64| Believed::open(folder.path()).judge(now).unwrap();
        assert_eq!(judge(NOW), Verdict::Doubted, "nothing is known yet");
        assert_eq!(judge(NOW + DAY), Verdict::Believed);

        for ahead in [3, 3000] {
            assert_eq!(judge(NOW + ahead * DAY + DAY), Verdict::Doubted, "{ahead} days ahead");
            assert_eq!(judge(NOW + DAY + 60), Verdict::Believed, "and back");
        }
        assert_eq!(judge(NOW - 3000 * DAY), Verdict::Doubted, "far behind");
        assert_eq!(judge(NOW - 2998 * DAY), Verdict::Doubted, "for however long");
        assert_eq!(judge(NOW + 2 * DAY), Verdict::Believed);

        assert_eq!(judge(NOW + 40 * DAY), Verdict::Doubted, "after weeks of being off");
        assert_eq!(judge(NOW + 40 * DAY + 3600), Verdict::Doubted);
        assert_eq!(judge(NOW + 41 * DAY), Verdict::Believed);
        assert_eq!(judge(NOW + 90 * DAY), Verdict::Doubted, "and again");

        std::fs::write(folder.path().join(FILE), b"\xffyesterday\n").unwrap();
        assert_eq!(judge(NOW + 90 * DAY), Verdict::Doubted, "a damaged file proves nothing");
    }

    #[test]
    fn a_clock_that_jumps_now_and_then_is_never_believed_ahead() {
        let folder = TempDir::new().unwrap();
        let mut believed = Believed::open(folder.path());
        assert_eq!(believed.weigh(NOW), Verdict::Doubted);
        assert_eq!(believed.weigh(NOW + DAY), Verdict::Believed);
        for day in 1..60 {
            assert_eq!(believed.weigh(NOW + day * DAY + 3000 * DAY), Verdict::Doubted, "{day}");
            assert_eq!(believed.weigh(NOW + day * DAY), Verdict::Believed, "{day}");
        }
    }
}
