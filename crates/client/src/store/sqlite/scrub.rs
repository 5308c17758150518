//! Overwrites what SQLite leaves behind in pages that it has rearranged.
//!
//! `secure_delete` overwrites a row where it is deleted. But when rows are moved from a full page
//! to its neighbours, their old copies stay in the unused part of the page, and a row that is
//! deleted afterwards is still there byte for byte. So the unused parts of all pages that were
//! written are overwritten too, while nobody has the file open. No page is rearranged by that, and
//! a crash in the middle leaves a valid file.

use core::ops::Range;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

/// The header of the file, in its first page.
const FILE_HEADER: usize = 100;

/// Overwrites the unused parts of these pages, or of all.
pub(super) fn scrub(file: &mut File, pages: Option<&BTreeSet<u32>>) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut header = [0; FILE_HEADER];
    if file.read_exact(&mut header).is_err() {
        return Ok(());
    }
    // 1 stands for 65,536.
    let page_size = match be16(&header, 16) {
        1 => 65_536,
        size => size,
    };
    if page_size < 512 {
        return Ok(());
    }
    let end = u32::try_from(file.metadata()?.len() / page_size as u64).unwrap_or(u32::MAX);
    let mut page = vec![0; page_size];
    let mut is_changed = false;
    for number in (1..=end).filter(|number| pages.is_none_or(|pages| pages.contains(number))) {
        let start = u64::from(number - 1) * page_size as u64;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut page)?;
        let at = if number == 1 { FILE_HEADER } else { 0 };
        for unused in unused_parts(&page, at) {
            if page.get(unused.clone()).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)) {
                file.seek(SeekFrom::Start(start + unused.start as u64))?;
                file.write_all(&vec![0; unused.len()])?;
                is_changed = true;
            }
        }
    }
    if is_changed { file.sync_data() } else { Ok(()) }
}

/// The parts of a page whose bytes mean nothing; `at` is where its header begins. Pages that hold
/// no rows (parts of long rows, free pages) begin with the number of a page, whose highest byte is
/// 0 in a file of less than 64 GiB; they have no unused parts, or are overwritten by SQLite.
fn unused_parts(page: &[u8], at: usize) -> Vec<Range<usize>> {
    let header = match page.get(at) {
        Some(0x02 | 0x05) => 12,
        Some(0x0A | 0x0D) => 8,
        _ => return Vec::new(),
    };
    let rows = be16(page, at + 3);
    // 0 stands for 65,536.
    let content = match be16(page, at + 5) {
        0 => 65_536,
        content => content,
    };
    let pointers_end = at + header + 2 * rows;
    let mut parts = Vec::new();
    if pointers_end < content && content <= page.len() {
        parts.push(pointers_end..content);
    }
    // Free blocks form a chain in ascending order; each begins with the next one and its size.
    let (mut block, mut before) = (be16(page, at + 1), 0);
    while block > before && block + 4 <= page.len() {
        let end = block + be16(page, block + 2);
        if block + 4 < end && end <= page.len() {
            parts.push(block + 4..end);
        }
        before = block;
        block = be16(page, block);
    }
    parts
}

/// A number of two bytes; 0 beyond the end.
fn be16(bytes: &[u8], at: usize) -> usize {
    let high = bytes.get(at).copied().unwrap_or(0);
    let low = bytes.get(at + 1).copied().unwrap_or(0);
    usize::from(high) << 8 | usize::from(low)
}
