//! Builds images, boots them, tests and measures.

fn main() {}
