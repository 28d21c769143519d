//! The plugin `greeter`.
