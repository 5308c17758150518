/// `Ok` where something holds, else the error: one line for each rule that is checked.
pub(crate) fn ensure<E>(holds: bool, otherwise: E) -> Result<(), E> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// Defines an error: an enum whose variants each have a stable code for programs and a text for
/// people, or pass on those of another error.
macro_rules! errors {
    ($(#[$enum_doc:meta])* pub enum $name:ident { $(
        $(#[$doc:meta])*
        $variant:ident $(($inner:ident: $type:ty))? $(=> $code:literal, $message:literal)?;
    )* }) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant $(($type))?,)*
        }

        impl $name {
            /// Every code of its own, inner errors aside.
            pub const CODES: &'static [&'static str] = &[$($($code,)?)*];

            /// A stable name for programs.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant $(($inner))? => { $($code)? $($inner.code())? })*
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self {
                    $(Self::$variant $(($inner))? => {
                        $(f.write_str($message))?
                        $(core::fmt::Display::fmt($inner, f))?
                    })*
                }
            }
        }

        impl core::error::Error for $name {}
    };
}
pub(crate) use errors;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::conversation::{self, Cause, SkipReason};
    use crate::crypto::CryptoError;
    use crate::encoding::EncodingError;
    use crate::identity::IdentityError;
    use crate::mls;
    use crate::seal::SealError;

    #[test]
    fn codes_are_unique_and_snake_case() {
        for codes in [
            mls::Error::CODES,
            conversation::Error::CODES,
            SkipReason::CODES,
            Cause::CODES,
            IdentityError::CODES,
            SealError::CODES,
            EncodingError::CODES,
            CryptoError::CODES,
        ] {
            assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
            let is_plain = |code: &str| code.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'));
            assert!(codes.iter().all(|code| is_plain(code)));
        }
        assert!(mls::Error::CODES.iter().all(|code| code.starts_with("mls_")));
    }
}
