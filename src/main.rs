//! The binary; the command line comes with its own commit.

fn main() {}
