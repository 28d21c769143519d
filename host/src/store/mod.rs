//! Where state is kept. Every backend implements `ports::StateStore` and passes the one suite.
//!
//! | backend | keeps state |
//! |---|---|
//! | [`memory`] | while the host runs |

pub mod memory;
#[cfg(test)]
mod suite;
