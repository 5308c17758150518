//! Work that takes long on purpose: stretching a password.

use corncrake_wire::opaque::{ClientLogIn, ClientRegistration, ExportKey, FinishError, Stretch};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

/// Work that the host carries out off the engine's thread.
#[derive(Debug)]
pub(crate) enum SlowWork {
    /// Ends a registration.
    Register {
        client: Box<ClientRegistration>,
        reply: Vec<u8>,
        stretch: Stretch,
        seed: Zeroizing<[u8; 32]>,
    },
    /// Ends a log-in.
    LogIn { client: Box<ClientLogIn>, reply: Vec<u8>, stretch: Stretch, seed: Zeroizing<[u8; 32]> },
}

/// What the work gave: bytes for the server, and the key that only the password gives.
pub(crate) type SlowDone = Result<(Vec<u8>, ExportKey), FinishError>;

impl SlowWork {
    /// Does the work.
    pub(crate) fn run(self) -> SlowDone {
        match self {
            Self::Register { client, reply, stretch, seed } => {
                client.finish(&reply, stretch, &mut ChaCha20Rng::from_seed(*seed))
            }
            Self::LogIn { client, reply, stretch, seed } => {
                client.finish(&reply, stretch, &mut ChaCha20Rng::from_seed(*seed))
            }
        }
    }
}
