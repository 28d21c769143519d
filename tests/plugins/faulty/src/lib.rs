//! The plugin `faulty`.
