//! QR codes in a terminal.

use qrcode::{QrCode, render::unicode};

use crate::failure::Failure;

/// Draws bytes as a QR code, two modules to a character, dark on light whatever the terminal's
/// colours are.
pub(crate) fn draw(bytes: &[u8]) -> Result<String, Failure> {
    let code = QrCode::new(bytes)
        .map_err(|_| Failure::refused("qr_too_long", "the code is too long to draw"))?;
    let picture = code
        .render::<unicode::Dense1x2>()
        .dark_color(unicode::Dense1x2::Light)
        .light_color(unicode::Dense1x2::Dark)
        .build();
    let lines = picture.lines().map(|line| format!("\u{1b}[40;97m{line}\u{1b}[0m"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safety_number_fits_a_small_terminal() {
        let picture = draw(&[7; 33]).unwrap();
        assert!(picture.lines().count() <= 24);
    }
}
