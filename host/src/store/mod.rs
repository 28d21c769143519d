//! Where state is kept. Every backend implements `ports::StateStore` and passes the one suite.
//!
//! | backend | keeps state |
//! |---|---|
//! | [`memory`] | while the host runs |
//! | [`embedded`] | in a directory, whatever ends the host |

mod decide;
pub mod embedded;
pub mod memory;
#[cfg(test)]
mod suite;
