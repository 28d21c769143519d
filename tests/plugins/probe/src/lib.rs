//! The plugin `probe`.
