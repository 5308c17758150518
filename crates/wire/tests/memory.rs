//! How much memory decoding takes. A test process of its own, as it looks at the peak.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

use corncrake_wire::{ClientFrame, decode, limits, log::Append};

/// The most memory that this process ever held, in KiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn audit_srv_a3_a_decoder_allocates_no_more_than_its_input_brings() {
    // Version byte, token, kind, `after` (position and id); 21 million entries: no bytes, no Welcome, no state.
    let mut body = vec![1];
    body.extend([7; 32]);
    body.extend([1, 0]);
    body.extend([0; 32]);
    let count = (limits::APPEND_BODY - 96) / 3;
    // The count, seven bits at a time.
    body.extend([0, 7, 14, 21].map(|shift| {
        let more = if shift == 21 { 0 } else { 0x80 };
        u8::try_from((count >> shift) & 0x7f).unwrap() | more
    }));
    body.resize(body.len() + 3 * count, 0);
    body.extend([0, 0]);
    assert!(body.len() > 60_000_000);

    let mut frame = vec![1, 3, 0];
    frame.extend(&body[1..]);

    let before = peak();
    assert!(decode::<Append>(&body).is_err());
    assert!(decode::<ClientFrame>(&frame).is_err());
    let after = peak();
    assert!(after - before < 8192, "from {before} KiB to {after} KiB");
}

/// A sequence that isn't bounded while it is decoded is the same hole again.
#[test]
fn every_sequence_of_every_message_is_read_by_a_bounded_decoder() {
    let mut sequences = 0;
    for file in ["account", "frames", "log", "open"] {
        let path = format!("{}/src/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let [above, line] = pair else { continue };
            let is_field = line.ends_with(',') && line.contains(": ");
            if is_field && (line.contains("Vec<") || line.contains("Option<Vec")) {
                let read = ["codec::bytes", "codec::optional_bytes", "codec::at_most::"];
                assert!(read.iter().any(|by| above.contains(by)), "{file}: {line}");
                sequences += 1;
            }
        }
    }
    assert!(sequences > 30, "{sequences}");
}
