//! Sizes and counts that both sides hold to (lengths in bytes).

/// A sealed entry of kind message.
pub const MESSAGE: usize = 64 * 1024;
/// A sealed entry of kind commit.
pub const COMMIT: usize = 16 * 1024 * 1024;
/// A sealed Welcome or state beside a commit, or a log's opening state.
pub const BESIDE: usize = 16 * 1024 * 1024;
/// Messages in one append.
pub const BATCH: usize = 64;
/// A body of the append call: commit, Welcome, state and opening state at their largest.
pub const APPEND_BODY: usize = COMMIT + 3 * BESIDE + 4096;
/// A body of any other call.
pub const BODY: usize = 1024 * 1024;
/// A frame from client to server; larger appends go by HTTP.
pub const FRAME: usize = BATCH * MESSAGE + 256 * 1024;
/// A frame on a connection that has not shown any token yet: the largest subscribing frame.
pub const FIRST_FRAME: usize = 80 * SUBSCRIBE;
/// Entries in one page.
pub const PAGE_ENTRIES: u32 = 256;
/// Sealed bytes in one page; a page always has room for one entry.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// Positions of states in one page.
pub const PAGE_STATES: u32 = 256;
/// Logs that one connection follows.
pub const SUBSCRIPTIONS: usize = 4096;
/// Logs that one frame subscribes to.
pub const SUBSCRIBE: usize = 1024;
/// A key package.
pub const KEY_PACKAGE: usize = 8 * 1024;
/// The cipher suites that key packages may be for.
pub const SUITES: &[u16] = &[0x0003];
/// Key packages of one device, those of last resort aside.
pub const KEY_PACKAGES: usize = 50;
/// Key packages in one upload: a full set, with one of last resort for each suite; there may be
/// more suites one day.
pub const UPLOAD: usize = 2 * (KEY_PACKAGES + 1);
/// A signed account record.
pub const RECORD: usize = 64 * 1024;
/// A sealed vault.
pub const VAULT: usize = 64 * 1024;
/// Devices of one account.
pub const DEVICES: usize = 10;
/// A sealed notice.
pub const NOTICE: usize = 4 * 1024;
/// Notices in one inbox.
pub const INBOX: usize = 1000;
/// Notices for a key package that is used once.
pub const NOTICES: u32 = 4;
/// Notices a day for a key package of last resort.
pub const NOTICES_A_DAY: u32 = 100;
/// The `admission` field of open calls, empty for now.
pub const ADMISSION: usize = 4096;
/// A message of the password protocol.
pub const OPAQUE: usize = 1024;
/// The least and the most characters of a username.
pub const USERNAME: core::ops::RangeInclusive<usize> = 3..=32;
/// Seconds of silence after which either side sends a ping.
pub const PING_AFTER: u64 = 25;
/// Seconds of silence after which either side closes a connection.
pub const CLOSE_AFTER: u64 = 60;
/// Seconds that a session lasts.
pub const SESSION: u64 = 30 * 24 * 3600;

/// Whether `name` is a username: 3 to 32 of `a–z 0–9 _ . -`, already in lower case.
#[must_use]
pub fn is_username(name: &str) -> bool {
    USERNAME.contains(&name.len())
        && name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_short_plain_and_lower_case() {
        let longest = "x".repeat(32);
        for good in ["bob", "a.b", "x_9", "---", &longest] {
            assert!(is_username(good), "{good}");
        }
        let too_long = "x".repeat(33);
        for bad in ["", "ab", "Bob", "bøb", "b b", "b@b", "bob\n", &too_long] {
            assert!(!is_username(bad), "{bad}");
        }
    }
}
