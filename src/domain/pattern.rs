//! Key patterns: how a key carries time, and where a listing may start.
