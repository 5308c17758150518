//! Calls: each names its path, its request and its reply once.

use serde::{Serialize, de::DeserializeOwned};

/// One call: `Self` is what the body of a POST to [`PATH`](Call::PATH) encodes.
pub trait Call: Serialize + DeserializeOwned + Into<Self::Requests> {
    /// Where the request is posted.
    const PATH: &'static str;
    /// All requests of the call's plane.
    type Requests;
    /// All replies of the call's plane.
    type Replies;
    /// What the call gives.
    type Reply: Serialize + DeserializeOwned;

    /// The call's reply among the plane's.
    fn wrap(reply: Self::Reply) -> Self::Replies;
    /// The call's reply, if `reply` is one.
    fn unwrap(reply: Self::Replies) -> Option<Self::Reply>;
}

/// Defines the requests and the replies of a plane.
macro_rules! calls {
    ($(#[$requests_doc:meta])* $requests:ident, $(#[$replies_doc:meta])* $replies:ident:
     $($(#[$doc:meta])* $name:ident $path:literal -> $reply:ty,)*) => {
        $(#[$requests_doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $requests {
            $($(#[$doc])* $name($name),)*
        }

        $(#[$replies_doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $replies {
            $(#[doc = concat!("The reply to [`", stringify!($name), "`].")] $name($reply),)*
        }

        impl $requests {
            /// The paths of all calls.
            pub const PATHS: &'static [&'static str] = &[$($path),*];

            /// Where the request is posted.
            #[must_use]
            pub const fn path(&self) -> &'static str {
                match self { $(Self::$name(_) => $path,)* }
            }

            /// The request's body.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Self::$name(request) => crate::encode(request),)* }
            }

            /// The request that was posted to `path`; nothing if there is no such call.
            ///
            /// # Errors
            /// [`Malformed`](crate::Malformed) when the body is no such request.
            pub fn decode(path: &str, body: &[u8]) -> Result<Option<Self>, crate::Malformed> {
                match path {
                    $($path => crate::decode(body).map(|request| Some(Self::$name(request))),)*
                    _ => Ok(None),
                }
            }

            /// The reply to this request.
            ///
            /// # Errors
            /// [`Malformed`](crate::Malformed) when the body is no such reply.
            pub fn decode_reply(&self, body: &[u8]) -> Result<$replies, crate::Malformed> {
                match self { $(Self::$name(_) => crate::decode(body).map($replies::$name),)* }
            }
        }

        impl $replies {
            /// The reply's body.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Self::$name(reply) => crate::encode(reply),)* }
            }
        }

        $(
            impl From<$name> for $requests {
                fn from(request: $name) -> Self {
                    Self::$name(request)
                }
            }

            impl crate::Call for $name {
                const PATH: &'static str = $path;
                type Requests = $requests;
                type Replies = $replies;
                type Reply = $reply;

                fn wrap(reply: Self::Reply) -> $replies {
                    $replies::$name(reply)
                }

                fn unwrap(reply: $replies) -> Option<Self::Reply> {
                    match reply {
                        $replies::$name(reply) => Some(reply),
                        #[allow(unreachable_patterns, reason = "a plane with a single call")]
                        _ => None,
                    }
                }
            }
        )*
    };
}
pub(crate) use calls;
