//! Both halves of OPAQUE (RFC 9807), as plain functions over bytes: ristretto255, SHA-512, 3DH.
//!
//! A registration is `register` → [`ServerSecret::registration_reply`] →
//! [`ClientRegistration::finish`] → [`check_record`], whose bytes the server keeps. A log-in is
//! `log_in` → [`ServerSecret::log_in_reply`] → [`ClientLogIn::finish`] → [`check_log_in`]. The
//! server never sees the password; the client ends with an [`ExportKey`] that only the password
//! gives. Stretching takes long on purpose: [`Stretch`] says how, so that a host may carry out
//! `finish` where it blocks nobody.

use core::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistrationFinishParameters,
    CredentialFinalization, CredentialRequest, CredentialResponse, RegistrationRequest,
    RegistrationResponse, RegistrationUpload, Ristretto255, ServerLogin, ServerLoginParameters,
    ServerRegistration, ServerSetup, TripleDh,
    errors::{InternalError, ProtocolError},
    generic_array::{ArrayLength, GenericArray},
    ksf::Ksf,
    rand::{CryptoRng as OldCryptoRng, Error as OldError, RngCore as OldRng},
};
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Binds log-ins to this protocol.
const CONTEXT: &[u8] = b"corncrake v1 opaque";
/// Memory of the password hash, in KiB.
const ARGON2_MEMORY: u32 = 64 * 1024;
/// Passes of the password hash.
const ARGON2_PASSES: u32 = 3;
/// The OPRF output is secret and unique, so that the hash needs no salt (RFC 9807 §7).
const ARGON2_SALT: [u8; 16] = [0; 16];

/// The password protocol failed: wrong password, unknown name, or bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpaqueFailed;

impl fmt::Display for OpaqueFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("password protocol failed")
    }
}

impl core::error::Error for OpaqueFailed {}

/// Why the client's half could not be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishError {
    /// Wrong password, unknown name, or bytes that are no message.
    Failed,
    /// The system doesn't give the memory that stretching the password takes.
    NoMemory,
}

impl From<OpaqueFailed> for FinishError {
    fn from(_: OpaqueFailed) -> Self {
        Self::Failed
    }
}

impl From<ProtocolError> for FinishError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::LibraryError(InternalError::KsfError) => Self::NoMemory,
            _ => Self::Failed,
        }
    }
}

impl fmt::Display for FinishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => OpaqueFailed.fmt(f),
            Self::NoMemory => f.write_str("no memory to stretch the password"),
        }
    }
}

impl core::error::Error for FinishError {}

/// Fills the second slice with a slow hash of the first.
pub type StretchFn = fn(&[u8], &mut [u8]);

/// How a password is stretched. The default is Argon2id with 64 MiB, 3 passes and one lane,
/// constants of the client that no server chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stretch(Way);

#[derive(Clone, Copy, Debug, Default)]
enum Way {
    #[default]
    Argon2id,
    Other(StretchFn),
    WithoutMemory,
}

impl Stretch {
    /// Another way to stretch, for tests in which thousands of accounts are made.
    #[must_use]
    pub const fn with(stretch: StretchFn) -> Self {
        Self(Way::Other(stretch))
    }

    /// Fails as where there is no memory for it, for tests of that.
    #[must_use]
    pub const fn without_memory() -> Self {
        Self(Way::WithoutMemory)
    }
}

impl Ksf for Stretch {
    fn hash<L: ArrayLength<u8>>(
        &self,
        input: GenericArray<u8, L>,
    ) -> Result<GenericArray<u8, L>, InternalError> {
        let mut output = GenericArray::default();
        match self.0 {
            Way::Other(stretch) => stretch(&input, &mut output),
            Way::WithoutMemory => return Err(InternalError::KsfError),
            Way::Argon2id => {
                let params = Params::new(ARGON2_MEMORY, ARGON2_PASSES, 1, None)
                    .map_err(|_| InternalError::KsfError)?;
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(&input, &ARGON2_SALT, &mut output)
                    .map_err(|_| InternalError::KsfError)?;
            }
        }
        Ok(output)
    }
}

/// The suite of all accounts.
struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2_v10::Sha512>;
    type Ksf = Stretch;
}

/// 64 bytes that only the password gives, the same at each log-in.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ExportKey(Box<[u8; 64]>);

impl ExportKey {
    /// The key's bytes.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    fn from_output(output: &[u8]) -> Result<Self, OpaqueFailed> {
        let mut key = Self(Box::new([0; 64]));
        if output.len() != key.0.len() {
            return Err(OpaqueFailed);
        }
        key.0.copy_from_slice(output);
        Ok(key)
    }
}

impl fmt::Debug for ExportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("ExportKey(..)")
    }
}

/// A registration whose request is on its way.
pub struct ClientRegistration {
    state: opaque_ke::ClientRegistration<Suite>,
    password: Zeroizing<Vec<u8>>,
}

/// Begins a registration: the state to keep and the request to send.
///
/// # Errors
/// When the password is longer than 64 KiB.
pub fn register(
    password: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(ClientRegistration, Vec<u8>), OpaqueFailed> {
    let started = opaque_ke::ClientRegistration::<Suite>::start(&mut Rng(rng), password)
        .map_err(|_| OpaqueFailed)?;
    let request = started.message.serialize().to_vec();
    let password = Zeroizing::new(password.to_vec());
    Ok((ClientRegistration { state: started.state, password }, request))
}

impl ClientRegistration {
    /// Ends the registration: the upload for the server and the export key.
    ///
    /// # Errors
    /// When `reply` is no registration reply, or there is no memory for the stretching.
    pub fn finish(
        self,
        reply: &[u8],
        stretch: Stretch,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, ExportKey), FinishError> {
        let response =
            RegistrationResponse::<Suite>::deserialize(reply).map_err(|_| OpaqueFailed)?;
        exactly(reply, &response.serialize())?;
        let params =
            ClientRegistrationFinishParameters { ksf: Some(&stretch), ..Default::default() };
        let finished = self.state.finish(&mut Rng(rng), &self.password, response, params)?;
        let export = ExportKey::from_output(&finished.export_key)?;
        Ok((finished.message.serialize().to_vec(), export))
    }
}

impl fmt::Debug for ClientRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state: _, password: _ } = self;
        f.write_str("ClientRegistration(..)")
    }
}

/// A log-in whose request is on its way.
pub struct ClientLogIn {
    state: ClientLogin<Suite>,
    password: Zeroizing<Vec<u8>>,
}

/// Begins a log-in: the state to keep and the request to send.
///
/// # Errors
/// When the password is longer than 64 KiB.
pub fn log_in(
    password: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(ClientLogIn, Vec<u8>), OpaqueFailed> {
    let started = ClientLogin::<Suite>::start(&mut Rng(rng), password).map_err(|_| OpaqueFailed)?;
    let request = started.message.serialize().to_vec();
    let password = Zeroizing::new(password.to_vec());
    Ok((ClientLogIn { state: started.state, password }, request))
}

impl ClientLogIn {
    /// Ends the log-in: the proof for the server and the export key.
    ///
    /// # Errors
    /// When the password is wrong, the name is unknown, `reply` is no log-in reply, or there is no
    /// memory for the stretching.
    pub fn finish(
        self,
        reply: &[u8],
        stretch: Stretch,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, ExportKey), FinishError> {
        let response = CredentialResponse::<Suite>::deserialize(reply).map_err(|_| OpaqueFailed)?;
        exactly(reply, &response.serialize())?;
        let params = ClientLoginFinishParameters {
            context: Some(CONTEXT),
            ksf: Some(&stretch),
            ..Default::default()
        };
        let finished = self.state.finish(&mut Rng(rng), &self.password, response, params)?;
        let export = ExportKey::from_output(&finished.export_key)?;
        Ok((finished.message.serialize().to_vec(), export))
    }
}

impl fmt::Debug for ClientLogIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state: _, password: _ } = self;
        f.write_str("ClientLogIn(..)")
    }
}

/// The server's seed and key pair. With the database it allows to test guesses of passwords, so
/// it lies in a file of its own.
pub struct ServerSecret(ServerSetup<Suite>);

/// What the server remembers between the two steps of a log-in.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct LogInState(Vec<u8>);

impl ServerSecret {
    /// A new secret.
    #[must_use]
    pub fn new(rng: &mut impl CryptoRng) -> Self {
        Self(ServerSetup::new(&mut Rng(rng)))
    }

    /// The secret as bytes, to be kept in a file.
    #[must_use]
    pub fn expose_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize().to_vec())
    }

    /// The secret from its bytes.
    ///
    /// # Errors
    /// When the bytes are no such secret.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OpaqueFailed> {
        let setup = ServerSetup::deserialize(bytes).map_err(|_| OpaqueFailed)?;
        let secret = Self(setup);
        exactly(bytes, &secret.expose_bytes())?;
        Ok(secret)
    }

    /// Answers a registration request for this name.
    ///
    /// # Errors
    /// When `request` is no registration request.
    pub fn registration_reply(&self, name: &str, request: &[u8]) -> Result<Vec<u8>, OpaqueFailed> {
        let message =
            RegistrationRequest::<Suite>::deserialize(request).map_err(|_| OpaqueFailed)?;
        exactly(request, &message.serialize())?;
        let started = ServerRegistration::start(&self.0, message, name.as_bytes())
            .map_err(|_| OpaqueFailed)?;
        Ok(started.message.serialize().to_vec())
    }

    /// Answers a log-in request for this name: the reply, and the state for [`check_log_in`].
    /// Without a record the answer looks the same, and no proof will fit it.
    ///
    /// # Errors
    /// When `request` is no log-in request or `record` is no record.
    pub fn log_in_reply(
        &self,
        name: &str,
        record: Option<&[u8]>,
        request: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, LogInState), OpaqueFailed> {
        let message = CredentialRequest::<Suite>::deserialize(request).map_err(|_| OpaqueFailed)?;
        exactly(request, &message.serialize())?;
        let record = record
            .map(ServerRegistration::<Suite>::deserialize)
            .transpose()
            .map_err(|_| OpaqueFailed)?;
        let started = ServerLogin::start(
            &mut Rng(rng),
            &self.0,
            record,
            message,
            name.as_bytes(),
            server_parameters(),
        )
        .map_err(|_| OpaqueFailed)?;
        let state = LogInState(started.state.serialize().to_vec());
        Ok((started.message.serialize().to_vec(), state))
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("ServerSecret(..)")
    }
}

impl fmt::Debug for LogInState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("LogInState(..)")
    }
}

/// Checks that `upload` is what a registration ends with; the server keeps these bytes.
///
/// # Errors
/// When it isn't.
pub fn check_record(upload: &[u8]) -> Result<(), OpaqueFailed> {
    let record = RegistrationUpload::<Suite>::deserialize(upload).map_err(|_| OpaqueFailed)?;
    exactly(upload, &record.serialize())
}

/// Checks the proof that ends a log-in.
///
/// # Errors
/// When the password was wrong or the name unknown.
pub fn check_log_in(state: &LogInState, proof: &[u8]) -> Result<(), OpaqueFailed> {
    let message = CredentialFinalization::<Suite>::deserialize(proof).map_err(|_| OpaqueFailed)?;
    exactly(proof, &message.serialize())?;
    ServerLogin::<Suite>::deserialize(&state.0)
        .and_then(|login| login.finish(message, server_parameters()))
        .map_err(|_| OpaqueFailed)?;
    Ok(())
}

fn server_parameters() -> ServerLoginParameters<'static, 'static> {
    ServerLoginParameters { context: Some(CONTEXT), ..Default::default() }
}

/// The library ignores trailing bytes; we don't.
fn exactly(bytes: &[u8], encoded: &[u8]) -> Result<(), OpaqueFailed> {
    if bytes == encoded { Ok(()) } else { Err(OpaqueFailed) }
}

/// Our generator behind the older trait of the library.
struct Rng<'a, R>(&'a mut R);

impl<R: CryptoRng> OldRng for Rng<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill_bytes(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), OldError> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}

impl<R: CryptoRng> OldCryptoRng for Rng<'_, R> {}

#[cfg(test)]
mod tests;
