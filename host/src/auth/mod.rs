//! Who a connection belongs to: tokens, the keys that they are verified with, and guests.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | the section `[auth]` |
//! | `keys` | the keys, each for one family of algorithms |
//! | `key_set` | those of a JSON Web Key Set, read again when its file changes |
//! | `verify` | from a token to an identity, or to a refusal |
//! | `minter` | makes tokens to try things with |

pub mod config;
mod key_set;
mod keys;
mod minter;
mod verify;

pub use self::{
    config::AuthConfig,
    keys::KeyError,
    minter::{MintError, TokenMinter},
    verify::TokenAuthenticator,
};
