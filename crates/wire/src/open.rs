//! Calls of the open plane: what concerns others. None of them carries a session.

use serde::{Deserialize, Serialize};

use crate::{
    AccountId, DeviceId, InboxId, PackageId,
    calls::calls,
    codec, limits,
    log::{Append, AppendReply, Beside, Read, ReadReply, Sealed, States, StatesReply},
};

calls! {
    /// A request of the open plane.
    OpenRequest,
    /// A reply of the open plane.
    OpenReply:
    /// Appends to a log.
    Append "/v1/open/append" -> AppendReply,
    /// Reads a page of a log.
    Read "/v1/open/read" -> ReadReply,
    /// Fetches what lies beside a commit.
    Beside "/v1/open/beside" -> Sealed,
    /// Lists where states lie.
    States "/v1/open/states" -> StatesReply,
    /// Looks an account up in the directory.
    LookUp "/v1/open/look-up" -> Found,
    /// Takes one key package of each device of an account.
    Claim "/v1/open/claim" -> Claimed,
    /// Puts a notice into an inbox.
    Deposit "/v1/open/deposit" -> (),
}

/// An account record as the server keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRecord {
    /// The version that its signer gave it.
    pub version: u64,
    /// The signed bytes.
    #[serde(with = "codec::bytes")]
    pub bytes: Vec<u8>,
}

/// What the directory has of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The name with which the account signed up. Its record names it too, but there an account may
    /// sign any name.
    pub name: String,
    /// The account record.
    pub record: SignedRecord,
}

/// How an account is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// By its username.
    Name(String),
    /// By its id.
    Id(AccountId),
}

/// Looks an account up in the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookUp {
    /// By name or by id.
    pub by: By,
    /// Reserved; empty.
    #[serde(with = "codec::bytes")]
    pub admission: Vec<u8>,
}

/// Takes one key package of each device of an account; the one of last resort when a device has
/// no other, and nothing of a device that has none at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Whose.
    pub account: AccountId,
    /// Of which cipher suite.
    pub suite: u16,
    /// Reserved; empty.
    #[serde(with = "codec::bytes")]
    pub admission: Vec<u8>,
}

/// The key packages that a claim took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The server's time, in seconds since 1970: whoever claims may have a clock that is wrong.
    pub now: u64,
    /// At most one per device.
    #[serde(deserialize_with = "codec::at_most::<_, _, { limits::DEVICES }>")]
    pub packages: Vec<ClaimedPackage>,
}

/// A key package that was claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedPackage {
    /// The device that it belongs to.
    pub device: DeviceId,
    /// Whether the server keeps it and hands it out again.
    pub last_resort: bool,
    /// The key package.
    #[serde(with = "codec::bytes")]
    pub bytes: Vec<u8>,
}

/// Puts a notice into an inbox; a repeat of the same bytes changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposit {
    /// Where.
    pub inbox: InboxId,
    /// The key package of the inbox's device that the notice is sealed to: a package takes a few
    /// notices, so whoever has one can't fill the inbox.
    pub package: PackageId,
    /// The sealed notice, 1 to 4,096 bytes.
    #[serde(with = "codec::bytes")]
    pub notice: Vec<u8>,
    /// Reserved; empty.
    #[serde(with = "codec::bytes")]
    pub admission: Vec<u8>,
}
