//! The keeper of the logs: reads the pipes that init hands it, writes bounded segments of lines.
//!
//! | module | what |
//! |---|---|
//! | [`lines`] | bytes of a stream to records |
//! | [`segments`] | a bounded log on disk |
//! | [`kernel`] | records of the kernel log |
//! | [`reader`] | segments to records again, for those who show or forward them |
//! | `backward` | where the last records of a segment begin |
//! | [`keeper`] | the logs of one name |
//! | [`serve`] | the loop: pipes in, segments out |
//!
//! Memory is bounded by the number of streams times the longest line, whatever is printed.
//! If logd dies, init keeps the pipes and hands them to the next one.

mod backward;
pub mod keeper;
pub mod kernel;
pub mod lines;
pub mod reader;
pub mod segments;
pub mod serve;
