//! The plugin `rooms`.
