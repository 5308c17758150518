//! Calls of the account plane: one's own things. All but sign-up, log-in and renewal need a
//! session, most of them one that is bound to a device.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    AccountId, DeviceId, InboxId, NoticeId, PackageId, SessionToken, calls::calls, codec, limits,
    open::SignedRecord,
};

calls! {
    /// A request of the account plane.
    AccountRequest,
    /// A reply of the account plane.
    AccountReply:
    /// Begins a sign-up; no session.
    SignUpStart "/v1/account/sign-up-start" -> SignUpStarted,
    /// Makes the account, in one transaction; no session.
    SignUpFinish "/v1/account/sign-up-finish" -> Session,
    /// Begins a log-in; no session.
    LogInStart "/v1/account/log-in-start" -> LogInStarted,
    /// Proves the password; no session.
    LogInFinish "/v1/account/log-in-finish" -> LoggedIn,
    /// Adds this device to the account.
    AddDevice "/v1/account/add-device" -> Session,
    /// Asks for a nonce to sign; no session.
    RenewStart "/v1/account/renew-start" -> RenewStarted,
    /// Proves the device's key; no session.
    Renew "/v1/account/renew" -> Session,
    /// Ends the session.
    LogOut "/v1/account/log-out" -> (),
    /// Fetches the vault.
    GetVault "/v1/account/get-vault" -> Vault,
    /// Replaces the vault by its next version.
    ReplaceVault "/v1/account/replace-vault" -> (),
    /// Replaces the account record by its next version.
    ReplaceRecord "/v1/account/replace-record" -> (),
    /// Adds key packages of this device.
    UploadPackages "/v1/account/upload-packages" -> (),
    /// Lists this device's key packages.
    ListPackages "/v1/account/list-packages" -> PackageList,
    /// Reads this device's inbox.
    ReadInbox "/v1/account/read-inbox" -> Inbox,
    /// Deletes notices from this device's inbox.
    DeleteNotices "/v1/account/delete-notices" -> (),
    /// Tells what the server holds about the account.
    WhatYouHold "/v1/account/what-you-hold" -> Holdings,
    /// Gives a server that was restored from a backup what it had of a device; without a session.
    RestoreDevice "/v1/account/restore-device" -> (),
}

/// Begins a sign-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignUpStart {
    /// The username.
    pub name: String,
    /// The server's origin as the client sees it, such as `https://chat.example`: renewals will be
    /// signed for it, so a server that doesn't know itself by it refuses now.
    pub origin: String,
    /// The registration request of [`opaque`](crate::opaque).
    #[serde(with = "codec::bytes")]
    pub opaque: Vec<u8>,
}

/// The server's part of a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignUpStarted {
    /// The registration reply of [`opaque`](crate::opaque).
    #[serde(with = "codec::bytes")]
    pub opaque: Vec<u8>,
}

/// A sealed vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// Starts at 1 and grows by one.
    pub version: u64,
    /// The sealed bytes.
    #[serde(with = "codec::bytes")]
    pub bytes: Vec<u8>,
}

/// A device that joins an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDevice {
    /// Its id.
    pub id: DeviceId,
    /// Its Ed25519 key, which renews its sessions.
    pub key: [u8; 32],
    /// Its inbox: 32 random bytes.
    pub inbox: InboxId,
}

/// A key package to be handed out to one who adds the device to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPackage {
    /// Its cipher suite.
    pub suite: u16,
    /// Whether it stays for use when all others are gone; a new one replaces the old one.
    pub last_resort: bool,
    /// The key package.
    #[serde(with = "codec::bytes")]
    pub bytes: Vec<u8>,
}

/// Makes the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignUpFinish {
    /// The username.
    pub name: String,
    /// The account's id.
    pub account: AccountId,
    /// The account's first identity key, an Ed25519 key, which signs replacements.
    pub identity_key: [u8; 32],
    /// The registration upload of [`opaque`](crate::opaque).
    #[serde(with = "codec::bytes")]
    pub opaque: Vec<u8>,
    /// The vault's sealed bytes; they become version 1.
    #[serde(with = "codec::bytes")]
    pub vault: Vec<u8>,
    /// The account record, version 1.
    pub record: SignedRecord,
    /// The first device.
    pub device: NewDevice,
    /// Its first key packages.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::UPLOAD }>")]
    pub packages: Vec<NewPackage>,
}

/// A session that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Shown in the session header or the first frame.
    pub token: SessionToken,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

/// Begins a log-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInStart {
    /// The username.
    pub name: String,
    /// The server's origin as the client sees it.
    pub origin: String,
    /// The log-in request of [`opaque`](crate::opaque).
    #[serde(with = "codec::bytes")]
    pub opaque: Vec<u8>,
}

/// The server's part of a log-in; of the same shape for names that nobody has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInStarted {
    /// Names the attempt for a minute.
    pub attempt: [u8; 16],
    /// The log-in reply of [`opaque`](crate::opaque).
    #[serde(with = "codec::bytes")]
    pub opaque: Vec<u8>,
}

/// Proves the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInFinish {
    /// The attempt that the server named.
    pub attempt: [u8; 16],
    /// The log-in proof of [`opaque`](crate::opaque).
    #[serde(with = "codec::bytes")]
    pub opaque: Vec<u8>,
}

/// What one who knows the password gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// A short session of no device, good for [`AddDevice`] and for vault and record.
    pub session: Session,
    /// The account's id.
    pub account: AccountId,
    /// The vault.
    pub vault: Vault,
    /// The account record.
    pub record: SignedRecord,
}

/// Adds a device to the account, or confirms one that is already there with this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddDevice {
    /// The account record with the device in it: the next version, or what the server has.
    pub record: SignedRecord,
    /// The vault that belongs to it: the next version, or what the server has.
    pub vault: Vault,
    /// The device.
    pub device: NewDevice,
    /// Its first key packages.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::UPLOAD }>")]
    pub packages: Vec<NewPackage>,
    /// A device that gives its place to this one.
    pub drop: Option<DeviceId>,
    /// Of the identity key, over the [`Replacement`](crate::session::Replacement); 64 bytes.
    #[serde(with = "codec::bytes")]
    pub signature: Vec<u8>,
}

/// Gives a server that shows a lower version of the account record a later one, with the vault and
/// the device that belong to it. The signature is all that it needs, so every device of the account
/// may ask it; the one that is added begins its session by a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreDevice {
    /// The account.
    pub account: AccountId,
    /// What the server was asked before; who gives place may be gone.
    pub add: AddDevice,
    /// The lowest version of the record that it may replace. First the one before it: other devices
    /// may have those in between, and only they can bring themselves back.
    pub least: u64,
}

/// Asks for a nonce to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewStart {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
}

/// A nonce for [`session::renewal`](crate::session::renewal), good for a minute; given for
/// unknown devices too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewStarted {
    /// The nonce.
    pub nonce: [u8; 32],
}

/// Proves the device's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// The nonce that the server gave.
    pub nonce: [u8; 32],
    /// The Ed25519 signature, 64 bytes.
    #[serde(with = "codec::bytes")]
    pub signature: Vec<u8>,
}

/// Ends the session that makes the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOut;

/// Fetches the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetVault;

/// Replaces the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceVault {
    /// The next version.
    pub vault: Vault,
    /// Of the identity key, over the [`Replacement`](crate::session::Replacement); 64 bytes.
    #[serde(with = "codec::bytes")]
    pub signature: Vec<u8>,
}

/// Replaces the account record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceRecord {
    /// The next version.
    pub record: SignedRecord,
    /// Of the identity key, over the [`Replacement`](crate::session::Replacement); 64 bytes.
    #[serde(with = "codec::bytes")]
    pub signature: Vec<u8>,
}

/// Adds key packages of the session's device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPackages {
    /// The packages; those that the server holds already change nothing.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::UPLOAD }>")]
    pub packages: Vec<NewPackage>,
    /// Whether they take the place of all that the server holds for the device: a server that was
    /// restored may hold packages whose keys are gone.
    pub replace: bool,
    /// Packages uploaded before whose notices are still welcome: a server that was restored may
    /// not know that it handed them out.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::UPLOAD }>")]
    pub claimed: Vec<PackageId>,
}

/// Lists the key packages of the session's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPackages {
    /// Of which cipher suite.
    pub suite: u16,
}

/// The key packages that the server holds for a device. One that was uploaded and isn't listed is
/// gone: handed out, replaced or expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageList {
    /// The server's time, in seconds since 1970: lifetimes by a device's own clock would be wrong
    /// for others when the clock is.
    pub now: u64,
    /// Those for one use.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::KEY_PACKAGES }>")]
    pub one_time: Vec<PackageId>,
    /// The one of last resort.
    pub last_resort: Option<PackageId>,
}

/// Reads the inbox of the session's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadInbox {
    /// Only notices with a position above this one.
    pub after: u64,
    /// At most so many; the server gives a page at most.
    pub limit: u32,
}

/// Notices, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    /// The notices.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::PAGE_ENTRIES as usize }>")]
    pub notices: Vec<Notice>,
}

/// A notice in an inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its position; positions grow, with gaps.
    pub position: u64,
    /// The sealed bytes.
    #[serde(with = "codec::bytes")]
    pub bytes: Vec<u8>,
}

/// Deletes notices from the inbox of the session's device: none unless the newest of them is the
/// one that the device has read, for a server that was restored gives positions to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteNotices {
    /// All up to this position.
    pub up_to: u64,
    /// The notice at that position.
    pub newest: NoticeId,
}

/// Tells what the server holds about the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatYouHold;

/// What the server holds about an account. It can't name the account's conversations: nothing
/// that it stores would tell.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// The username.
    pub name: String,
    /// The day of sign-up, in days since 1970.
    pub signed_up_day: u32,
    /// The version of the account record and its length.
    pub record: (u64, u64),
    /// The version of the vault and its length.
    pub vault: (u64, u64),
    /// The devices.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::DEVICES }>")]
    pub devices: Vec<DeviceHoldings>,
    /// Sessions that are still good.
    pub sessions: u32,
}

impl fmt::Debug for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name: _, signed_up_day, record, vault, devices, sessions } = self;
        f.debug_struct("Holdings")
            .field("signed_up_day", signed_up_day)
            .field("record", record)
            .field("vault", vault)
            .field("devices", devices)
            .field("sessions", sessions)
            .finish_non_exhaustive()
    }
}

/// What the server holds about a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceHoldings {
    /// Its id.
    pub device: DeviceId,
    /// The day on which it came, in days since 1970.
    pub added_day: u32,
    /// Key packages that are left.
    pub packages: u32,
    /// Notices in its inbox.
    pub notices: u32,
}
