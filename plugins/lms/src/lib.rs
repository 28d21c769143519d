//! The plugin `lms`.
