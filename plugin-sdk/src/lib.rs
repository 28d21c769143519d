//! What plugin authors depend on.
