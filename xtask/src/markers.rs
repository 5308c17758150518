//! Looking for a text in bytes, as it is and in the forms in which programs write bytes down.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::Result;

/// Where `marker` is found in `bytes`: the forms in which it stands there.
#[must_use]
pub fn find(marker: &str, bytes: &[u8]) -> Vec<&'static str> {
    let lower = bytes.to_ascii_lowercase();
    let text = marker.to_ascii_lowercase();
    let wide: Vec<u8> = marker.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let hex = hex::encode(marker);
    let reversed: Vec<u8> = text.bytes().rev().collect();
    let mut found = Vec::new();
    let mut look = |form, needle: &[u8], haystack: &[u8]| {
        if contains(haystack, needle) && !found.contains(&form) {
            found.push(form);
        }
    };
    look("text", text.as_bytes(), &lower);
    look("reversed", &reversed, &lower);
    look("utf-16", &wide, bytes);
    look("hex", hex.as_bytes(), &lower);
    for before in 0..3 {
        look("base64", &base64_inside(marker, before), bytes);
    }
    found
}

/// Where `marker` is found in the files of a folder: file and form.
///
/// # Errors
/// The folder cannot be read.
pub fn find_in_folder(marker: &str, folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(find_in_folder(marker, &path)?);
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let forms = find(marker, &fs::read(&path)?);
        found.extend(forms.iter().map(|form| format!("{name} ({form})")));
    }
    Ok(found)
}

/// The part of a base64 text that only `marker` decides, with `before` bytes standing before it.
fn base64_inside(marker: &str, before: usize) -> Vec<u8> {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(marker.as_bytes());
    let whole = bytes.len() / 3 * 4;
    let text = STANDARD_NO_PAD.encode(&bytes);
    let first = if before == 0 { 0 } else { 4 };
    text.as_bytes().get(first..whole).unwrap_or_default().to_vec()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else {
        return false;
    };
    let mut places = haystack.iter().enumerate().filter(|(_, byte)| *byte == first);
    places.any(|(at, _)| haystack.get(at + 1..).is_some_and(|tail| tail.starts_with(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_found_wherever_it_stands() {
        let marker = "marker-of-the-corncrake";
        for before in 0..4 {
            let mut bytes = vec![b'x'; before];
            bytes.extend_from_slice(marker.as_bytes());
            bytes.extend_from_slice(b" and more");
            assert_eq!(find(marker, &bytes), ["text"]);
            assert_eq!(find(marker, STANDARD_NO_PAD.encode(&bytes).as_bytes()), ["base64"]);
            assert_eq!(find(marker, hex::encode_upper(&bytes).as_bytes()), ["hex"]);
        }
        assert_eq!(find("Marker", b"..mARKEr.."), ["text"]);
        assert_eq!(find("ab", b"a\0b\0"), ["utf-16"]);
        assert_eq!(find("abc", b"xcbax"), ["reversed"]);
        assert!(find(marker, b"marker-of-the-corncrak").is_empty());
    }
}
