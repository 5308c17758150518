//! The file of SQLite's write-ahead log.
//!
//! It is laid out, of zeros, before anything is in it: to sync what is written over them takes half
//! the time of what makes a file longer, and waits for nothing that others write to the same file
//! system. What SQLite is done with is overwritten with zeros again.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The length of a log with one page.
const ONE_PAGE: u64 = (HEADER + FRAME_HEADER) as u64 + super::PAGE as u64;
/// How long it is laid out.
const LAID_OUT: u64 = 1024 * 1024;

/// What is in a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The numbers of its pages, from 1.
    pub(super) pages: BTreeSet<u32>,
    /// Where it ends.
    end: u64,
}

/// What a log holds; nothing if there is no log. What is left of what was in it before counts too.
pub(super) fn held(log: &Path) -> io::Result<Held> {
    let mut held = Held::default();
    let mut log = match File::open(log) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(held),
        Err(error) => return Err(error),
    };
    let mut header = [0; HEADER];
    if log.read_exact(&mut header).is_err() {
        return Ok(held);
    }
    let page_size = i64::from(be32(&header, 8));
    let mut frame = [0; FRAME_HEADER];
    while log.read_exact(&mut frame).is_ok() && be32(&frame, 0) > 0 {
        held.pages.insert(be32(&frame, 0));
        held.end = log.seek(SeekFrom::Current(page_size))?;
    }
    Ok(held)
}

/// What tells a log from the one that was in the same file before.
pub(super) fn name(log: &Path) -> io::Result<[u8; HEADER]> {
    let mut header = [0; HEADER];
    File::open(log)?.read_exact(&mut header)?;
    Ok(header)
}

/// Whether a log holds more than one page. One is the only page that was written since the last
/// scrubbing.
pub(super) fn holds_more_than_a_page(log: &Path) -> bool {
    let Ok(mut log) = File::open(log) else { return false };
    let mut rest = Vec::new();
    let read = log.seek(SeekFrom::Start(ONE_PAGE)).and_then(|_| log.read_to_end(&mut rest));
    read.is_err() || rest.iter().any(|byte| *byte != 0)
}

/// Lays an empty log out.
pub(super) fn lay_out(log: &Path) -> io::Result<()> {
    let log = OpenOptions::new().write(true).open(log)?;
    if log.metadata()?.len() > 0 { Ok(()) } else { fill(log, 0, LAID_OUT) }
}

/// Overwrites what a log held behind its first page, and lays it out.
pub(super) fn blank(log: &Path, held: &Held) -> io::Result<()> {
    let log = OpenOptions::new().write(true).open(log)?;
    let is_laid_out = log.metadata()?.len() >= LAID_OUT;
    fill(log, ONE_PAGE, if is_laid_out { held.end } else { held.end.max(LAID_OUT) })
}

fn fill(mut log: File, start: u64, end: u64) -> io::Result<()> {
    log.seek(SeekFrom::Start(start))?;
    let zeros = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
    log.write_all(&zeros)?;
    log.sync_data()
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    let part = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
    part.map_or(0, u32::from_be_bytes)
}
