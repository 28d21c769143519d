//! Switchboard: a realtime server for Socket.IO clients whose behaviour is plugged in.
//!
//! `ARCHITECTURE.md` at the top of the repository tells the story of one event and the rules that
//! the layers keep. This page is the map; an import points only downwards.
//!
//! | layer | modules |
//! |---|---|
//! | 6 | [`cli`] |
//! | 5 | [`app`], [`config`] |
//! | 4 | [`socket`], [`plugin`], [`cluster`], [`store`], [`auth`], [`api`] |
//! | 3 | [`pipeline`] |
//! | 2 | [`connections`], [`rooms`], [`presence`], [`typing`], [`transactions`], [`turns`] |
//! | 1 | [`ports`], [`metrics`], [`link`] |
//! | 0 | [`core`] |

// These pages are for who works on the host, and are built with everything private.
#![allow(rustdoc::private_intra_doc_links)]

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod connections;
pub mod core;
pub mod link;
pub mod metrics;
pub mod pipeline;
pub mod plugin;
pub mod ports;
pub mod presence;
pub mod rooms;
pub mod socket;
pub mod store;
pub mod transactions;
pub mod turns;
pub mod typing;
